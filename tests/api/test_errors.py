"""API errors: their reasons, codes and words, there and back over the wire."""

from __future__ import annotations

import pytest

from headrace.api import _wire, errors
from headrace.api.errors import (
    AlreadyExists,
    BadRequest,
    Cause,
    Conflict,
    InternalError,
    Invalid,
    NotFound,
    StatusError,
    TooManyRequests,
    from_status,
)
from headrace.api.meta import KindInfo

WIDGET = KindInfo("g.dev", "v1", "Widget", "widgets")
POD = KindInfo("", "v1", "Pod", "pods")
UPSTREAM = {
    "BadRequest": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "MethodNotAllowed": 405,
    "NotAcceptable": 406,
    "AlreadyExists": 409,
    "Conflict": 409,
    "Expired": 410,
    "RequestEntityTooLarge": 413,
    "UnsupportedMediaType": 415,
    "Invalid": 422,
    "TooManyRequests": 429,
    "InternalError": 500,
    "ServiceUnavailable": 503,
    "Timeout": 504,
}
CLASSES = [
    c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, StatusError) and c is not StatusError
]

OURS = {"InsufficientStorage": 507}
"""A full disk, which a server with etcd on another machine does not know."""


def test_reasons_and_codes_are_upstreams():
    assert {c.reason: c.code for c in CLASSES} == {**UPSTREAM, **OURS}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_there_and_back_over_the_wire(cls):
    error = cls(
        "It did not work.",
        causes=[Cause("spec.a[0]", "must be positive"), Cause("", "something", "FieldValueRequired")],
        kind="widgets",
        group="g.dev",
        name="w",
        uid="u",
        retry_after=0,
    )
    back = from_status(_wire.decode_any(_wire.encode(error.to_status())))
    assert type(back) is cls
    assert vars(back) == vars(error)
    assert str(back) == "It did not work."
    assert back.to_status() == error.to_status()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_a_bare_error_has_no_details(cls):
    assert cls("m").to_status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "m",
        "reason": cls.reason,
        "code": cls.code,
        **({"details": {}} if cls.code == 404 else {}),  # kubectl debug reads them without looking
    }
    assert vars(from_status(cls("m").to_status())) == vars(cls("m"))


@pytest.mark.parametrize(
    ("status", "cls", "message"),
    [
        ({}, InternalError, "unknown error"),
        ({"reason": "Teapot", "message": "short and stout", "code": 418}, InternalError, "short and stout"),
        ({"reason": None, "message": None, "details": None}, InternalError, "unknown error"),
        ({"reason": "NotFound", "message": "", "details": {"causes": None, "name": None}}, NotFound, "unknown error"),
        ({"reason": "Conflict", "message": "m", "details": {"causes": [{}]}}, Conflict, "m"),
    ],
)
def test_a_status_that_lacks_things_is_still_an_error(status, cls, message):
    error = from_status(status)
    assert type(error) is cls
    assert error.message == message
    assert error.to_status()["message"] == message


@pytest.mark.parametrize(
    ("error", "words", "details"),
    [
        (NotFound.of(POD, "x"), 'pods "x" not found', {"name": "x", "kind": "pods"}),
        (
            NotFound.of(WIDGET, "x"),
            'widgets.g.dev "x" not found',
            {"name": "x", "kind": "widgets", "group": "g.dev"},
        ),
        (
            AlreadyExists.of(WIDGET, "x"),
            'widgets.g.dev "x" already exists',
            {"name": "x", "kind": "widgets", "group": "g.dev"},
        ),
        (
            Invalid.of(POD, "x", [Cause("spec.containers", "Required value", "FieldValueRequired")]),
            'Pod "x" is invalid: spec.containers: Required value',
            {
                "name": "x",
                "kind": "Pod",
                "causes": [{"reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers"}],
            },
        ),
        (
            Invalid.of(WIDGET, "x", [Cause("spec.a", "no"), Cause("spec.b", "never")]),
            'Widget.g.dev "x" is invalid: [spec.a: no, spec.b: never]',
            {
                "name": "x",
                "group": "g.dev",
                "kind": "Widget",
                "causes": [
                    {"reason": "FieldValueInvalid", "message": "no", "field": "spec.a"},
                    {"reason": "FieldValueInvalid", "message": "never", "field": "spec.b"},
                ],
            },
        ),
        (TooManyRequests("later", retry_after=3), "later", {"retryAfterSeconds": 3}),
    ],
)
def test_errors_speak_as_kubectl_users_know_them(error, words, details):
    status = error.to_status()
    assert status["message"] == str(error) == words
    assert status["details"] == details


def test_two_errors_share_a_code_and_are_told_apart_by_their_reason():
    assert AlreadyExists.code == Conflict.code
    assert type(from_status(AlreadyExists("m").to_status())) is AlreadyExists
    assert type(from_status(Conflict("m").to_status())) is Conflict


def test_every_error_is_caught_as_a_status_error():
    with pytest.raises(StatusError) as caught:
        raise BadRequest("m")
    assert caught.value.code == 400

"""Selectors by tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.errors import BadRequest
from headrace.apiserver.registry.reads import decode_token, parse_version
from headrace.apiserver.registry.selectors import Selector, selectable

LABELS = {"app": "web", "tier": "front", "example.com/size": "3", "empty": ""}
POD = {
    "metadata": {"name": "p", "namespace": "n", "labels": LABELS},
    "spec": {"nodeName": "n1", "hostNetwork": True},
    "status": {"phase": "Running"},
}


def matches(labels="", fields="", obj=POD):
    return Selector(labels, fields, lambda: selectable("", "Pod")).matches(obj)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        (" app = web , tier = front ", True),
        ("app=web,tier=back", False),
        ("app!=web", False),
        ("missing!=web", True),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db)", True),
        ("missing notin (db)", True),
        ("missing in (db)", False),
        ("app", True),
        ("missing", False),
        ("!app", False),
        ("!missing", True),
        ("empty=", True),
        ("empty", True),
        ("empty in (,x)", True),
        ("example.com/size>2", True),
        ("example.com/size>3", False),
        ("example.com/size<4", True),
        ("app>2", False),
        ("app in (web),!missing,tier notin (back)", True),
    ],
)
def test_labels(selector, expected):
    assert matches(selector) is expected


@pytest.mark.parametrize(
    "selector",
    [
        "app in (web",
        "app in web",
        ",",
        "app=web,",
        "=web",
        "a b",
        "app=bad value",
        "-x=y",
        "app>x",
        "a/b/c=d",
        "app=x!",
    ],
)
def test_labels_that_do_not_parse(selector):
    with pytest.raises(BadRequest, match="unable to parse requirement"):
        matches(selector)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("metadata.name=p", True),
        ("metadata.name==q", False),
        ("metadata.namespace!=other", True),
        ("status.phase=Running,spec.nodeName=n1", True),
        ("status.phase!=Running", False),
        ("spec.hostNetwork=true", True),
        ("status.podIP=", True),
        ("spec.schedulerName=", True),
    ],
)
def test_fields(selector, expected):
    assert matches(fields=selector) is expected


@pytest.mark.parametrize("selector", ["spec.color=red", "metadata.name", "metadata.labels=x", "=x", "a=b=c"])
def test_fields_that_are_refused(selector):
    with pytest.raises(BadRequest):
        matches(fields=selector)


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_a_selector_or_a_bad_request(labels, fields):
    try:
        matches(labels, fields)
    except BadRequest as error:
        assert error.message


@given(st.text(max_size=30))
def test_any_text_is_a_version_or_token_or_a_bad_request(text):
    for parse in (parse_version, decode_token):
        try:
            parse(text)
        except BadRequest as error:
            assert error.message

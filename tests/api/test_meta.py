"""Kinds, keys, owner references and label selectors."""

from __future__ import annotations

from typing import ClassVar

import pytest

from headrace.api import _wire
from headrace.api.core import ConfigMap, Namespace, Pod
from headrace.api.meta import KindInfo, LabelSelector, Object, ObjectMeta, OwnerReference, dynamic_kind

LABELS = {"app": "web", "tier": "front", "empty": ""}


def selector(labels=None, *expressions):
    return _wire.convert(
        LabelSelector,
        {
            "matchLabels": labels or {},
            "matchExpressions": [
                {"key": key, "operator": operator, "values": list(values)} for key, operator, *values in expressions
            ],
        },
    )


@pytest.mark.parametrize(
    ("chosen", "selected"),
    [
        (selector(), True),
        (selector({"app": "web"}), True),
        (selector({"app": "db"}), False),
        (selector({"app": "web", "tier": "front"}), True),
        (selector({"app": "web", "tier": "back"}), False),
        (selector({"missing": "x"}), False),
        (selector({"empty": ""}), True),
        (selector({"missing": ""}), False),
        (selector(None, ("app", "In", "db", "web")), True),
        (selector(None, ("app", "In", "db")), False),
        (selector(None, ("missing", "In", "x")), False),
        (selector(None, ("missing", "In", "")), False),
        (selector(None, ("app", "NotIn", "db")), True),
        (selector(None, ("app", "NotIn", "db", "web")), False),
        (selector(None, ("missing", "NotIn", "x")), True),
        (selector(None, ("app", "Exists")), True),
        (selector(None, ("empty", "Exists")), True),
        (selector(None, ("missing", "Exists")), False),
        (selector(None, ("missing", "DoesNotExist")), True),
        (selector(None, ("app", "DoesNotExist")), False),
        (selector({"app": "web"}, ("tier", "In", "front"), ("missing", "DoesNotExist")), True),
        (selector({"app": "web"}, ("tier", "In", "front"), ("app", "DoesNotExist")), False),
        (selector({"app": "db"}, ("tier", "In", "front")), False),
    ],
)
def test_all_of_a_selectors_terms_must_hold(chosen, selected):
    assert chosen.matches(LABELS) is selected


@pytest.mark.parametrize("operator", ["in", "Equals", "", "Gt"])
def test_an_unknown_operator_is_an_error_and_not_a_match(operator):
    with pytest.raises(ValueError, match="is not a label selector operator"):
        selector(None, ("app", operator, "web")).matches(LABELS)


def test_an_object_without_labels_is_chosen_by_what_asks_for_nothing_or_for_absence():
    assert selector().matches({})
    assert selector(None, ("a", "DoesNotExist"), ("a", "NotIn", "x")).matches({})
    assert not selector(None, ("a", "Exists")).matches({})


@pytest.mark.parametrize(
    ("info", "arguments", "path"),
    [
        (Pod.INFO, {}, "/api/v1/pods"),
        (Pod.INFO, {"namespace": "a"}, "/api/v1/namespaces/a/pods"),
        (Pod.INFO, {"namespace": "a", "name": "p"}, "/api/v1/namespaces/a/pods/p"),
        (
            Pod.INFO,
            {"namespace": "a", "name": "p", "subresource": "status"},
            "/api/v1/namespaces/a/pods/p/status",
        ),
        (Namespace.INFO, {"namespace": "ignored", "name": "n"}, "/api/v1/namespaces/n"),
        (KindInfo("g.dev", "v1beta1", "K", "ks"), {"namespace": "a"}, "/apis/g.dev/v1beta1/namespaces/a/ks"),
        (KindInfo("g.dev", "v1", "K", "ks", namespaced=False), {"name": "n"}, "/apis/g.dev/v1/ks/n"),
    ],
)
def test_a_kind_knows_its_paths(info, arguments, path):
    assert info.path(**arguments) == path


def test_a_kind_knows_its_names():
    core, custom = Pod.INFO, KindInfo("g.dev", "v1", "K", "ks")
    assert (core.api_version, core.resource) == ("v1", "pods")
    assert (custom.api_version, custom.resource) == ("g.dev/v1", "ks.g.dev")


def test_keys_have_a_namespace_where_the_object_has_one():
    assert ConfigMap(metadata=ObjectMeta(name="a", namespace="n")).key == "n/a"
    assert Namespace(metadata=ObjectMeta(name="n")).key == "n"


def test_an_object_says_what_it_is_without_being_told():
    raw = _wire.encode(ConfigMap(metadata=ObjectMeta(name="a")))
    assert _wire.decode_any(raw) == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}


@pytest.mark.parametrize("controller", [True, False])
def test_owner_references_name_the_owner_wholly(controller):
    owner = ConfigMap(metadata=ObjectMeta(name="o", namespace="n", uid="u"))
    assert owner.owner_reference(controller=controller) == OwnerReference(
        api_version="v1", kind="ConfigMap", name="o", uid="u", controller=controller, block_owner_deletion=controller
    )


def test_two_objects_share_no_default():
    one, two = ConfigMap(), ConfigMap()
    one.metadata.labels["a"] = "b"
    one.data["x"] = "y"
    assert (two.metadata.labels, two.data) == ({}, {})


def test_a_kind_known_only_at_run_time_keeps_its_spec_and_status():
    kind = dynamic_kind(KindInfo("g.dev", "v1", "Thing", "things"))
    raw = {"metadata": {"name": "t"}, "spec": {"a": [1, {"b": None}]}, "status": {"ok": True}}
    thing = _wire.convert(kind, raw)
    assert (thing.api_version, thing.kind) == ("g.dev/v1", "Thing")
    assert _wire.to_builtins(thing) == {"apiVersion": "g.dev/v1", "kind": "Thing", **raw}


class Odd(Object):
    """Field names that differ from their Python names."""

    INFO: ClassVar[KindInfo] = KindInfo("g.dev", "v1", "Odd", "odds")
    some_number: int = 0


def test_the_wire_has_camel_case_omits_defaults_and_drops_what_it_does_not_know():
    odd = _wire.decode(Odd, b'{"someNumber": 3, "unknown": {"x": 1}, "metadata": {"name": "o", "managedFields": []}}')
    assert odd.some_number == 3
    assert _wire.to_builtins(odd)["someNumber"] == 3
    assert "someNumber" not in _wire.to_builtins(Odd())
    assert b"managedFields" not in _wire.encode(odd)


@pytest.mark.parametrize("raw", [b'{"someNumber": "3"}', b'{"someNumber": 3.5}', b'{"metadata": []}', b"[]"])
def test_wrong_shapes_are_validation_errors(raw):
    with pytest.raises(_wire.ValidationError):
        _wire.decode(Odd, raw)


@pytest.mark.parametrize("raw", [b"", b"{", b"{'a': 1}", b"\xff"])
def test_what_is_not_json_is_a_decode_error(raw):
    with pytest.raises(_wire.DecodeError):
        _wire.decode_any(raw)

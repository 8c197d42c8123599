"""How types are told apart: official schemas, structural schemas, and what has none."""

import pytest

from headrace.api.core import Pod, Service
from headrace.apiserver.fieldmanager.shapes import ANY, Shape, Shapes
from headrace.apiserver.registry.kinds import KindCatalog, builtin
from headrace.apiserver.schema import SchemaCatalog
from headrace.apiserver.schema.catalog import definition_name


@pytest.fixture(scope="module")
def shapes():
    kinds = KindCatalog()
    kinds.add(builtin([Pod.INFO, Service.INFO]))
    return Shapes(SchemaCatalog(kinds).definition)


def at(shape, path):
    """The shape at `a.b[].c`."""
    for part in path.split("."):
        name = part.removesuffix("[]")
        shape = shape.fields[name][1] if name in shape.fields else shape.other
        shape = shape.item if part.endswith("[]") else shape
    return shape


@pytest.mark.parametrize(
    ("kind", "path", "facts"),
    [
        (Pod, "spec.containers", {"atomic_list": False, "keys": ("name",)}),
        (Pod, "spec.containers[].ports", {"atomic_list": False, "keys": ("containerPort", "protocol")}),
        (Pod, "spec.containers[].ports[]", {"defaults": {"protocol": "TCP"}}),
        (Pod, "spec.containers[].args", {"atomic_list": True, "leaf": True}),
        (Pod, "spec.containers[].env[].valueFrom.fieldRef", {"atomic_map": True, "leaf": True}),
        (Pod, "spec.containers[].resources.limits", {"atomic_map": False, "leaf": False}),
        (Pod, "spec.containers[].resources.limits.cpu", {"scalar": "untyped", "leaf": True}),
        (Pod, "spec.containers[].livenessProbe.httpGet.port", {"scalar": "untyped"}),
        (Pod, "spec.containers[].livenessProbe.periodSeconds", {"scalar": "numeric"}),
        (Pod, "spec.nodeSelector", {"atomic_map": True, "leaf": True}),
        (Pod, "spec.tolerations", {"atomic_list": True}),
        (Pod, "status.conditions", {"atomic_list": False, "keys": ("type",)}),
        (Pod, "status.podIPs", {"atomic_list": False, "keys": ("ip",)}),
        (Pod, "metadata.finalizers", {"atomic_list": False, "keys": ()}),
        (Pod, "metadata.ownerReferences", {"atomic_list": False, "keys": ("uid",)}),
        (Pod, "metadata.labels", {"atomic_map": False, "leaf": False}),
        (Pod, "metadata.creationTimestamp", {"scalar": "string"}),
        (Service, "spec.ports", {"atomic_list": False, "keys": ("port", "protocol")}),
        (Service, "spec.ports[]", {"defaults": {"protocol": "TCP"}}),
        (Service, "spec.selector", {"atomic_map": True}),
    ],
)
def test_official_types(shapes, kind, path, facts):
    found = at(shapes.named(definition_name(kind.INFO)), path)
    assert {name: getattr(found, name) for name in facts} == facts


def test_definitions_are_compiled_once(shapes):
    pod = shapes.named(definition_name(Pod.INFO))
    assert shapes.named(definition_name(Pod.INFO)) is pod
    assert at(pod, "spec.containers[].resources") is at(pod, "spec.initContainers[].resources")


TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "facts"),
    [
        ({"type": "array", "items": TEXT}, {"is_list": True, "atomic_list": True, "leaf": True}),
        ({"type": "array", "x-kubernetes-list-type": "set", "items": TEXT}, {"atomic_list": False, "keys": ()}),
        (
            {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["b", "a"],
                "items": {"type": "object", "properties": {"a": {**TEXT, "default": "x"}, "b": TEXT}},
            },
            {"atomic_list": False, "keys": ("a", "b")},
        ),
        ({"type": "object"}, {"is_map": True, "other": ANY, "leaf": False}),
        ({"type": "object", "properties": {"a": TEXT}}, {"other": None}),
        ({"type": "object", "properties": {"a": TEXT}, "x-kubernetes-preserve-unknown-fields": True}, {"other": ANY}),
        ({"type": "object", "properties": {"a": TEXT}, "additionalProperties": False}, {"other": None}),
        ({"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": TEXT}, {"leaf": True}),
        ({"x-kubernetes-int-or-string": True}, {"scalar": "untyped", "is_map": False, "is_list": False}),
        ({"x-kubernetes-preserve-unknown-fields": True}, {"scalar": "untyped", "is_map": True, "is_list": True}),
        ({"type": "boolean"}, {"scalar": "boolean", "leaf": True}),
    ],
)
def test_structural_types(shapes, schema, facts):
    meta = Shape(is_map=True, other=ANY, leaf=False)
    root = shapes.custom({"type": "object", "properties": {"spec": schema}}, meta)
    found = root.fields["spec"][1]
    assert {name: getattr(found, name) for name in facts} == facts
    assert root.fields["metadata"][1] is meta


def test_unknown_fields_are_kept_below(shapes):
    schema = {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {"spec": {"type": "object", "properties": {"a": TEXT}}},
    }
    root = shapes.custom(schema, ANY)
    assert root.fields["spec"][1].other is ANY
    assert shapes.custom(None, ANY).other is ANY


def test_embedded_objects(shapes):
    embedded = {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": TEXT}}
    root = shapes.custom({"type": "object", "properties": {"template": embedded}}, ANY)
    assert set(root.fields["template"][1].fields) == {"apiVersion", "kind", "metadata", "spec"}

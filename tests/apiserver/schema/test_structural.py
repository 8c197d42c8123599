"""Structural schemas: pruning, defaulting and validation of custom kinds."""

import pytest

from headrace.apiserver.schema.structural import CustomSchema


def schema(**properties):
    return CustomSchema({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}})


def obj(**spec):
    return {"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "x", "anything": 1}, "spec": spec}


STRING = {"type": "string"}
FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@pytest.mark.parametrize(
    ("properties", "sent", "kept", "unknown"),
    [
        ({"a": STRING}, {"a": "x", "b": 1}, {"a": "x"}, ["spec.b"]),
        ({"a": FREE}, {"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 1}}}, []),
        (
            {"a": {**FREE, "properties": {"k": {"type": "object", "properties": {"y": STRING}}}}},
            {"a": {"free": 1, "k": {"y": "1", "z": 2}}},
            {"a": {"free": 1, "k": {"y": "1"}}},
            ["spec.a.k.z"],
        ),
        ({"a": {"type": "object"}}, {"a": {"b": 1}}, {"a": {}}, ["spec.a.b"]),
        (
            {"m": {"type": "object", "additionalProperties": {"type": "object", "properties": {"y": STRING}}}},
            {"m": {"one": {"y": "1", "z": 2}}},
            {"m": {"one": {"y": "1"}}},
            ["spec.m.one.z"],
        ),
        (
            {"l": {"type": "array", "items": {"type": "object", "properties": {"y": STRING}}}},
            {"l": [{"y": "1"}, {"z": 2}]},
            {"l": [{"y": "1"}, {}]},
            ["spec.l[1].z"],
        ),
        ({"a": STRING}, {"a": None}, {}, []),
        ({"a": {**STRING, "nullable": True}}, {"a": None}, {"a": None}, []),
        (
            {"e": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": FREE}}},
            {"e": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"q": 1}, "other": 1}},
            {"e": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"q": 1}}},
            ["spec.e.other"],
        ),
    ],
)
def test_pruning(properties, sent, kept, unknown):
    out, report = schema(**properties).prune(obj(**sent))
    assert out == obj(**kept)
    assert report.unknown == unknown


def test_defaulting():
    made = schema(
        a={**STRING, "default": "x"},
        b={"type": "object", "default": {}, "properties": {"c": {"type": "integer", "default": 3}}},
        d={"type": "object", "properties": {"e": {"type": "integer", "default": 3}}},
        l={"type": "array", "items": {"type": "object", "properties": {"f": {"type": "boolean", "default": False}}}},
    )
    sent = obj(l=[{}], a="mine")
    out = made.default(sent)
    assert out["spec"] == {"a": "mine", "b": {"c": 3}, "l": [{"f": False}]}
    assert sent == obj(l=[{}], a="mine")


@pytest.mark.parametrize(
    ("property_", "value", "message"),
    [
        ({"type": "integer"}, "x", 'Invalid value: "string": spec.v in body must be of type integer: "string"'),
        ({"type": "integer"}, 1.5, 'Invalid value: "number": spec.v in body must be of type integer: "number"'),
        ({"type": "string"}, {}, 'Invalid value: "object": spec.v in body must be of type string: "object"'),
        ({"type": "string", "enum": ["a", "b"]}, "c", 'Unsupported value: "c": supported values: "a", "b"'),
        ({"type": "string", "pattern": "^a$"}, "b", "Invalid value: \"b\": spec.v in body should match '^a$'"),
        ({"type": "integer", "minimum": 2}, 1, "Invalid value: 1: spec.v in body should be greater than or equal to 2"),
        (
            {"type": "integer", "minimum": 2, "exclusiveMinimum": True},
            2,
            "Invalid value: 2: spec.v in body should be greater than 2",
        ),
        ({"type": "integer", "maximum": 2}, 3, "Invalid value: 3: spec.v in body should be less than or equal to 2"),
        ({"type": "string", "minLength": 2}, "a", 'Invalid value: "a": spec.v in body should be at least 2 chars long'),
        ({"type": "string", "maxLength": 2}, "abc", "Too long: may not be more than 2 bytes"),
        (
            {"type": "array", "items": STRING, "minItems": 1},
            [],
            "Invalid value: 0: spec.v in body should have at least 1 items",
        ),
        ({"type": "array", "items": STRING, "maxItems": 1}, ["a", "b"], "Too many: 2: must have at most 1 items"),
        (
            {"type": "string", "format": "date-time"},
            "x",
            'Invalid value: "x": spec.v in body must be of type date-time: "x"',
        ),
        (
            {"type": "string", "format": "duration"},
            "1 hour",
            'Invalid value: "1 hour": spec.v in body must be of type duration: "1 hour"',
        ),
        (
            {"x-kubernetes-int-or-string": True},
            1.5,
            'Invalid value: "number": spec.v in body must be of type integer,string: "number"',
        ),
    ],
)
def test_faults_in_the_servers_words(property_, value, message):
    (cause,) = schema(v=property_).causes(obj(v=value))
    assert (cause.field, cause.message) == ("spec.v", message)


@pytest.mark.parametrize(
    ("property_", "value"),
    [
        ({"x-kubernetes-int-or-string": True}, 1),
        ({"x-kubernetes-int-or-string": True}, "25%"),
        ({"type": "string", "nullable": True, "enum": ["a"]}, None),
        ({"type": "string", "format": "duration"}, "1h30m"),
        ({"type": "string", "format": "made-up"}, "x"),
        ({"x-kubernetes-preserve-unknown-fields": True}, [1, {"a": 2}]),
        ({"type": "number"}, 1),
    ],
)
def test_right_values(property_, value):
    assert schema(v=property_).causes(obj(v=value)) == []


def test_all_faults_are_named():
    made = CustomSchema(
        {
            "type": "object",
            "required": ["spec"],
            "properties": {
                "spec": {
                    "type": "object",
                    "required": ["a", "b"],
                    "properties": {"a": STRING, "b": STRING, "l": {"type": "array", "items": {"type": "integer"}}},
                }
            },
        }
    )
    assert [c.field for c in made.causes(obj(l=[1, "x", "y"]))] == ["spec.a", "spec.b", "spec.l[1]", "spec.l[2]"]
    assert [c.field for c in made.causes({"metadata": {}})] == ["spec"]


def test_lists_without_duplicates():
    made = schema(
        s={"type": "array", "items": STRING, "x-kubernetes-list-type": "set"},
        m={
            "type": "array",
            "items": {"type": "object", "properties": {"n": STRING, "v": STRING}},
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["n"],
        },
    )
    assert made.causes(obj(s=["a", "b"], m=[{"n": "a"}, {"n": "b"}])) == []
    found = made.causes(obj(s=["a", "a"], m=[{"n": "a", "v": "1"}, {"n": "a", "v": "2"}]))
    assert [(c.field, c.reason) for c in found] == [
        ("spec.s[1]", "FieldValueDuplicate"),
        ("spec.m[1]", "FieldValueDuplicate"),
    ]

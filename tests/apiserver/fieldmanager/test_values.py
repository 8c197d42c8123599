"""Values as sets of fields: what they hold, how they differ, what is left of them."""

import pytest

from headrace.apiserver.fieldmanager import fieldsets, values
from headrace.apiserver.fieldmanager.fieldsets import of
from headrace.apiserver.fieldmanager.shapes import ANY, Shape, Shapes

TEXT = {"type": "string"}
PAIR = {"type": "object", "properties": {"name": TEXT, "value": {"type": "integer"}}}
LISTED = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
SCHEMA = {
    "type": "object",
    "properties": {
        "text": TEXT,
        "struct": {"type": "object", "properties": {"a": TEXT, "b": TEXT}},
        "map": {"type": "object", "additionalProperties": TEXT},
        "list": {"type": "array", **LISTED, "items": PAIR},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "integer"}},
        "whole": {"type": "array", "items": PAIR},
        "free": {"x-kubernetes-preserve-unknown-fields": True},
    },
}


def no_definitions(name):
    raise KeyError(name)


ROOT = Shapes(no_definitions).custom(SCHEMA, Shape(is_map=True, other=ANY, leaf=False))
X = 'k:{"name":"x"}'


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ({}, {}),
        ({"text": "a"}, of(("f:text",))),
        ({"text": None}, of(("f:text",))),
        ({"struct": {"a": "1"}}, of(("f:struct", "f:a"))),  # a named field is not owned for what is in it
        ({"struct": {}}, of(("f:struct",))),
        ({"map": {"a": "1"}}, of(("f:map", "f:a"))),
        ({"list": [{"name": "x", "value": 1}]}, of(("f:list", X), ("f:list", X, "f:name"), ("f:list", X, "f:value"))),
        ({"list": []}, {}),
        ({"list": None}, of(("f:list",))),
        ({"set": [1, 2]}, of(("f:set", "v:1"), ("f:set", "v:2"))),
        ({"whole": [{"name": "x"}]}, of(("f:whole",))),
        ({"whole": []}, of(("f:whole",))),
        ({"free": {"a": {"b": 1}}}, of(("f:free", "f:a"), ("f:free", "f:a", "f:b"))),
        ({"free": [1]}, of(("f:free",))),
        ({"free": 1}, of(("f:free",))),
    ],
)
def test_the_fields_of_a_configuration(value, fields):
    assert values.fields_of(value, ROOT) == fields


@pytest.mark.parametrize(
    ("old", "new", "changed", "removed"),
    [
        ({}, {}, {}, {}),
        ({"text": "a"}, {"text": "b"}, of(("f:text",)), {}),
        ({"text": "a"}, {}, {}, of(("f:text",))),
        ({}, {"struct": {"a": "1"}}, of(("f:struct",), ("f:struct", "f:a")), {}),
        ({"struct": {}}, {"struct": {"a": "1"}}, of(("f:struct", "f:a")), {}),
        ({"struct": None}, {"struct": {"a": "1"}}, of(("f:struct", "f:a")), {}),
        ({"struct": None}, {"struct": {}}, of(("f:struct",)), {}),
        ({"struct": {"a": "1"}}, {"struct": None}, {}, of(("f:struct", "f:a"))),
        ({"struct": {"a": "1"}}, {}, {}, of(("f:struct",), ("f:struct", "f:a"))),
        ({"set": [1]}, {"set": [2, 1]}, of(("f:set", "v:2")), {}),
        ({"set": [1, 2]}, {"set": [2]}, {}, of(("f:set", "v:1"))),
        ({"set": []}, {"set": [1]}, of(("f:set", "v:1")), {}),
        ({"set": [1, 1]}, {"set": [1]}, of(("f:set", "v:1")), of(("f:set", "v:1"))),
        ({"set": [1]}, {"set": [1, 1]}, of(("f:set", "v:1")), of(("f:set", "v:1"))),
        ({"whole": [{"name": "x"}]}, {"whole": [{"name": "y"}]}, of(("f:whole",)), {}),
        (
            {"list": [{"name": "x", "value": 1}]},
            {"list": [{"name": "x", "value": 2}]},
            of(("f:list", X, "f:value")),
            {},
        ),
        ({"list": [{"name": "x"}]}, {"list": [{"name": "x", "value": 2}]}, of(("f:list", X, "f:value")), {}),
        ({"list": [{"name": "x"}]}, {"list": []}, {}, of(("f:list", X), ("f:list", X, "f:name"))),
        ({"free": {"a": 1}}, {"free": 1}, of(("f:free",)), of(("f:free", "f:a"))),
        ({"free": 1}, {"free": {"a": 1}}, of(("f:free",), ("f:free", "f:a")), {}),
        ({"free": {"a": 1}}, {"free": [1]}, of(("f:free",)), of(("f:free", "f:a"))),
        ({"free": None}, {"free": {"a": 1}}, of(("f:free", "f:a")), {}),
    ],
)
def test_differences(old, new, changed, removed):
    assert values.compare(old, new, ROOT) == (changed, removed)


@pytest.mark.parametrize(
    ("value", "gone", "left"),
    [
        ({"text": "a", "struct": {"a": "1"}}, of(("f:text",)), {"struct": {"a": "1"}}),
        ({"struct": {"a": "1", "b": "2"}}, of(("f:struct", "f:a")), {"struct": {"b": "2"}}),
        ({"struct": {"a": "1"}}, of(("f:struct", "f:a")), {"struct": None}),
        ({"struct": {"a": "1"}, "text": "a"}, of(("f:struct",)), {"text": "a"}),
        ({"list": [{"name": "x"}, {"name": "y"}]}, of(("f:list", X)), {"list": [{"name": "y"}]}),
        ({"list": [{"name": "x", "value": 1}]}, of(("f:list", X, "f:value")), {"list": [{"name": "x"}]}),
        ({"set": [1, 2]}, of(("f:set", "v:1")), {"set": [2]}),
        ({"text": "a"}, of(("f:other",)), {"text": "a"}),
    ],
)
def test_removing(value, gone, left):
    before = repr(value)
    assert values.remove(value, gone, ROOT) == left
    assert repr(value) == before


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        ({"text": "a"}, {"text": "b"}, {"text": "b"}),
        ({"text": "a"}, {"text": None}, {"text": None}),
        ({"struct": {"a": "1"}}, {"struct": {"b": "2"}}, {"struct": {"a": "1", "b": "2"}}),
        ({"struct": {"a": "1"}}, {"struct": None}, {"struct": {"a": "1"}}),
        ({"whole": [{"name": "x"}]}, {"whole": []}, {"whole": []}),
        ({"set": [1, 2]}, {"set": [3, 1]}, {"set": [3, 1, 2]}),
        ({"free": {"a": 1}}, {"free": [1]}, {"free": [1]}),
        (
            {"list": [{"name": "x", "value": 1}]},
            {"list": [{"name": "x"}, {"name": "y"}]},
            {"list": [{"name": "x", "value": 1}, {"name": "y"}]},
        ),
    ],
)
def test_merging(old, new, merged):
    before = repr((old, new))
    assert values.merge(old, new, ROOT) == merged
    assert repr((old, new)) == before


def test_named_fields_join_their_sets():
    found = values.with_named(of(("f:struct", "f:a"), ("f:map", "f:k"), ("f:list", X, "f:value")), ROOT)
    assert fieldsets.paths(found) == [".list", '.list[name="x"].value', ".map", ".map.k", ".struct", ".struct.a"]

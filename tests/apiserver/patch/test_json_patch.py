"""RFC 6902, its appendix and its errors."""

import pytest

from headrace.api.errors import BadRequest, Invalid, RequestEntityTooLarge
from headrace.apiserver.patch import apply_json


@pytest.mark.parametrize(
    ("document", "steps", "result"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}),
        ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "q"}], {"foo": ["bar", "q", "baz"]}),
        ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["x"]}], {"foo": ["bar", ["x"]]}),
        ({"foo": 1, "baz": 2}, [{"op": "remove", "path": "/baz"}], {"foo": 1}),
        ({"foo": ["a", "b", "c"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["a", "c"]}),
        ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
        ({"a": [1, 2]}, [{"op": "replace", "path": "/a/0", "value": 9}], {"a": [9, 2]}),
        (
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {}},
            [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
            {"foo": {"bar": "baz"}, "qux": {"thud": "fred"}},
        ),
        ({"a": [1, 2, 3]}, [{"op": "move", "from": "/a/0", "path": "/a/2"}], {"a": [2, 3, 1]}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"baz": "q"}, [{"op": "test", "path": "/baz", "value": "q"}], {"baz": "q"}),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
        ({"a/b": 1}, [{"op": "replace", "path": "/a~1b", "value": 2}], {"a/b": 2}),
        ({}, [{"op": "add", "path": "", "value": {"x": 1}}], {"x": 1}),
        ({"a": 1}, [{"op": "test", "path": "/missing", "value": None}], {"a": 1}),
    ],
)
def test_applies(document, steps, result):
    before = repr(document)
    assert apply_json(document, steps) == result
    assert repr(document) == before


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([{"op": "test", "path": "/a", "value": 2}], Invalid),
        ([{"op": "test", "path": "/a", "value": True}], Invalid),
        ([{"op": "remove", "path": "/b"}], Invalid),
        ([{"op": "replace", "path": "/b", "value": 1}], Invalid),
        ([{"op": "add", "path": "/b/c", "value": 1}], Invalid),
        ([{"op": "add", "path": "/l/7", "value": 1}], Invalid),
        ([{"op": "remove", "path": "/l/-1"}], Invalid),
        ([{"op": "remove", "path": "/l/00"}], Invalid),
        ([{"op": "add", "path": "b", "value": 1}], BadRequest),
        ([{"op": "add", "path": "/b"}], BadRequest),
        ([{"op": "jump", "path": "/b"}], BadRequest),
        ([{"op": "move", "path": "/b"}], BadRequest),
        ([{"path": "/b"}], BadRequest),
        (["nonsense"], BadRequest),
        ([{"op": "remove", "path": ""}], BadRequest),
        ([{"op": "add", "path": "", "value": [1]}], BadRequest),
        ([{"op": "add", "path": "/x", "value": 1}] * 10_001, BadRequest),
    ],
)
def test_refuses(steps, error):
    document = {"a": 1, "l": [1]}
    with pytest.raises(error):
        apply_json(document, steps)
    assert document == {"a": 1, "l": [1]}


def test_copies_cannot_grow_without_end():
    """Each doubles what is there: thirty of them would fill the memory of any machine."""
    doubling = [{"op": "copy", "from": "/a", "path": f"/a/{i}"} for i in range(60)]
    with pytest.raises(RequestEntityTooLarge, match="copies"):
        apply_json({"a": {"text": "x" * 100}}, doubling)
    assert len(apply_json({"a": {}}, doubling[:8])["a"]) == 8


def test_pointers_cannot_grow_without_end():
    steps = [{"op": "add", "path": "/a" * depth, "value": {}} for depth in range(1, 5000)]
    with pytest.raises(BadRequest, match="deep"):
        apply_json({}, steps)

"""Merge patches: what they do to one value is the other value."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.machinery.diff import merge_patch, touches_list

keys = st.sampled_from("abcd")
scalars = st.one_of(st.integers(-3, 3), st.booleans(), st.sampled_from(["", "x", "y"]), st.floats(0, 2))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)
documents = st.dictionaries(keys, values, max_size=4)
with_nulls = st.dictionaries(keys, st.one_of(values, st.none()), max_size=4)


def apply(target, patch):
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply(result.get(key), value)
    return result


def typed(value):
    """Python takes 1 for True; JSON does not."""
    if isinstance(value, dict):
        return {k: typed(v) for k, v in value.items()}
    if isinstance(value, list):
        return [typed(v) for v in value]
    return (isinstance(value, bool), value)


@given(with_nulls, documents)
def test_applied_to_the_one_it_gives_the_other(before, after):
    kept = copy.deepcopy((before, after))
    patch = merge_patch(before, after)
    assert typed(apply(before, patch)) == typed(after)
    assert (before, after) == kept, "neither value is changed"


@given(documents)
def test_nothing_changed_means_nothing_to_send(value):
    assert merge_patch(value, copy.deepcopy(value)) == {}


@given(documents, documents, documents)
def test_what_others_changed_elsewhere_stays(before, after, theirs):
    """The patch of our change, on a document where somebody else changed keys that we did not."""
    ours = merge_patch(before, after)
    moved = {**before, **{f"their-{key}": value for key, value in theirs.items()}}
    result = apply(moved, ours)
    assert {k: v for k, v in result.items() if k.startswith("their-")} == {f"their-{k}": v for k, v in theirs.items()}
    assert {k: v for k, v in result.items() if not k.startswith("their-")} == after


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {}, {"a": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a": {"c": 3}}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": None}}),
        ({"a": [1, 2]}, {"a": [1, 3]}, {"a": [1, 3]}),
        ({"a": [1]}, {"a": [True]}, {"a": [True]}),
        ({"a": 0}, {"a": False}, {"a": False}),
        ({"a": {"b": 1}}, {"a": "x"}, {"a": "x"}),
        ({"a": "x"}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_a_patch_is_as_small_as_it_can_be(before, after, patch):
    assert typed(merge_patch(before, after)) == typed(patch)


@pytest.mark.parametrize(
    ("before", "after", "touched"),
    [
        ({"a": 1}, {"a": 2}, False),
        ({"a": [1]}, {"a": [1], "b": 2}, False),
        ({"a": [1]}, {"a": [2]}, True),
        ({}, {"a": []}, True),
        ({"x": {"a": [1]}}, {"x": {"a": [1, 2]}}, True),
        ({}, {"x": {"a": [1]}}, True),
        ({"a": [1]}, {}, True),
        ({"x": {"a": [1], "b": 1}}, {"x": {"b": 1}}, True),
        ({"x": {"y": {"a": [1]}}}, {}, True),
        ({"x": {"y": 1}}, {}, False),
        ({"a": [1]}, {"a": {"b": 1}}, True),
        ({"a": [1]}, {"a": 1}, True),
        ({"a": 1}, {"a": {"b": [1]}}, True),
    ],
)
def test_whether_a_list_is_replaced_or_removed(before, after, touched):
    assert touches_list(merge_patch(before, after), before) is touched


@given(documents, documents)
def test_a_patch_that_touches_no_list_leaves_every_list_as_it_is(before, after):
    def lists(value, path=()):
        if isinstance(value, list):
            return {path: value}
        if isinstance(value, dict):
            return {p: v for k, inner in value.items() for p, v in lists(inner, (*path, k)).items()}
        return {}

    if not touches_list(merge_patch(before, after), before):
        assert lists(before) == lists(after)

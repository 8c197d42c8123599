"""The algebra of field sets, over their wire form."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.apiserver.fieldmanager import fieldsets
from headrace.apiserver.fieldmanager.fieldsets import difference, has, intersection, of, recursive_difference, union


def dotted(*names):
    """A set of paths of fields: `a.b` is field b in field a."""
    return of(*(tuple(f"f:{part}" for part in name.split(".")) for name in names))


@pytest.mark.parametrize(
    ("left", "right", "plain", "recursive"),
    [
        ([], ["a"], [], []),
        (["a"], ["a"], [], []),
        (["a", "b.b.c"], ["a", "c"], ["b.b.c"], ["b.b.c"]),
        (["a"], ["a.b"], ["a"], ["a"]),
        (["a.b.c"], ["a.b"], ["a.b.c"], []),
        (["a.ab", "a.b.c", "a.ab.aba"], ["a.b", "a.ab"], ["a.b.c", "a.ab.aba"], []),
        (["a", "a.b", "a.c"], ["a.b"], ["a", "a.c"], ["a", "a.c"]),
        (["a", "a.b"], ["a"], ["a.b"], []),
        (["a", "a.b"], ["a", "a.b"], [], []),
    ],
)
def test_differences(left, right, plain, recursive):
    assert difference(dotted(*left), dotted(*right)) == dotted(*plain)
    assert recursive_difference(dotted(*left), dotted(*right)) == dotted(*recursive)


@pytest.mark.parametrize(
    ("left", "right", "both", "either"),
    [
        (["a"], ["b"], [], ["a", "b"]),
        (["a", "b"], ["b", "c"], ["b"], ["a", "b", "c"]),
        (["a"], ["a.b"], [], ["a", "a.b"]),
        (["a.b"], ["a"], [], ["a", "a.b"]),
        (["a", "a.b"], ["a.b"], ["a.b"], ["a", "a.b"]),
        (["a", "a.b.c", "d"], ["a", "a.b", "a.b.c"], ["a", "a.b.c"], ["a", "a.b", "a.b.c", "d"]),
        ([], ["a"], [], ["a"]),
    ],
)
def test_intersection_and_union(left, right, both, either):
    ours, theirs = dotted(*left), dotted(*right)
    assert intersection(ours, theirs) == intersection(theirs, ours) == dotted(*both)
    assert union(ours, theirs) == union(theirs, ours) == dotted(*either)


def test_the_wire_form():
    found = of(("f:a",), ("f:a", "f:b"), ("f:c", 'k:{"name":"x"}'), ("f:s", 'v:"t"'))
    assert found == {"f:a": {".": {}, "f:b": {}}, "f:c": {'k:{"name":"x"}': {}}, "f:s": {'v:"t"': {}}}
    assert has(found, "f:a")
    assert has(found, "f:a", "f:b")
    assert not has(found, "f:c")
    assert not has(found, "f:c", "f:d")
    assert fieldsets.paths(found) == [".a", ".a.b", '.c[name="x"]', '.s[="t"]']


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("f:any thing", "f:any thing"),
        ('k:{"b": 1, "a": "x"}', 'k:{"a":"x","b":1}'),
        ("v: 1.0", "v:1"),
        ("v:true", "v:true"),
        ("i:07", "i:7"),
    ],
)
def test_one_spelling_of_path_elements(sent, kept):
    assert fieldsets.parsed({sent: {"f:x": {}, ".": {}}}) == {kept: {"f:x": {}, ".": {}}}


@pytest.mark.parametrize("bad", ["", "f", "x:1", "k:[]", "k:{", "v:", "i:x", "name"])
def test_what_is_no_path_element(bad):
    with pytest.raises(fieldsets.BadPathElement):
        fieldsets.parsed({bad: {}})


@pytest.mark.parametrize("bad", [[], "f:a", None, 1, {"f:a": 1}])
def test_what_is_no_set(bad):
    with pytest.raises(fieldsets.BadPathElement):
        fieldsets.parsed(bad)


STEADY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no reason to fail."""
NAMES = st.lists(st.sampled_from(["a", "b", "a.a", "a.b", "a.b.c", "b.a", "b.a.b", "c"]), max_size=6)


def paths_of(fields):
    return set(fieldsets.paths(fields))


@STEADY
@given(NAMES, NAMES)
def test_sets_behave_as_sets(left, right):
    ours, theirs = dotted(*left), dotted(*right)
    assert paths_of(union(ours, theirs)) == paths_of(ours) | paths_of(theirs)
    assert paths_of(intersection(ours, theirs)) == paths_of(ours) & paths_of(theirs)
    assert paths_of(difference(ours, theirs)) == paths_of(ours) - paths_of(theirs)
    gone = paths_of(recursive_difference(ours, theirs))
    assert gone == {p for p in paths_of(ours) if not any(p == q or p.startswith(q + ".") for q in paths_of(theirs))}
    assert union(difference(ours, theirs), intersection(ours, theirs)) == ours
    assert fieldsets.parsed(ours) == ours

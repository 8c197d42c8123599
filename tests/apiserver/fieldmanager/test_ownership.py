"""Updates and applies, step by step: the object, who owns what, and who is in the way."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.apiserver.fieldmanager import checking, fieldsets, ownership, values
from headrace.apiserver.fieldmanager.managers import ANCIENT, APPLY, MAX_UPDATERS, UPDATE, Entry
from headrace.apiserver.fieldmanager.ownership import Conflicting
from headrace.apiserver.fieldmanager.shapes import ANY, Shape, Shapes
from headrace.apiserver.fieldmanager.values import Unlike

TEXT = {"type": "string"}
PORT = {
    "type": "object",
    "properties": {"port": {"type": "integer"}, "protocol": {**TEXT, "default": "TCP"}, "name": TEXT},
}
ITEM = {
    "type": "object",
    "properties": {
        "name": TEXT,
        "value": {"type": "integer"},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": TEXT},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "text": TEXT,
        "number": {"type": "integer"},
        "flag": {"type": "boolean"},
        "list": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": ITEM,
        },
        "ports": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port", "protocol"],
            "items": PORT,
        },
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": TEXT},
        "whole": {"type": "array", "items": TEXT},
        "map": {"type": "object", "additionalProperties": TEXT},
        "atomic": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": TEXT},
        "struct": {"type": "object", "properties": {"a": TEXT, "b": TEXT}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
VERSION = "example.com/v1"


def no_definitions(name):
    raise KeyError(name)


ROOT = Shapes(no_definitions).custom(SCHEMA, Shape(is_map=True, other=ANY))


class World:
    """An object and its managers; every step is one second later."""

    def __init__(self, shape=ROOT):
        self.shape, self.object, self.managers, self.time = shape, {}, {}, 0

    def _me(self, name, operation):
        self.time += 1
        return Entry(name, operation, VERSION, "", f"2026-01-01T00:00:{self.time:02}Z", {})

    def _shape_of(self, version):
        return self.shape if version == VERSION else None

    def update(self, name, new):
        me = self._me(name, UPDATE)
        self.managers = ownership.updated(self.managers, self.object, new, me=me, shape_of=self._shape_of)
        self.object = new

    def apply(self, name, config, *, force=False):
        checking.check(config, self.shape)
        self.object, self.managers = ownership.applied(
            self.managers,
            self.object,
            config,
            me=self._me(name, APPLY),
            force=force,
            shape_of=self._shape_of,
            ignored={},
        )

    def conflicts(self, name, config):
        before = self.object, self.managers
        with pytest.raises(Conflicting) as found:
            self.apply(name, config)
        assert (self.object, self.managers) == before
        return {e.manager: fieldsets.paths(e.fields) for e in found.value.by.values()}

    def owned(self):
        return {e.manager: fieldsets.paths(e.fields) for e in self.managers.values()}


def a(name, **more):
    return {"name": name, **more}


def test_an_update_takes_what_it_changes():
    world = World()
    world.apply("app", {"text": "1", "number": 1})
    world.update("ctl", {"text": "2", "number": 1, "flag": True})
    assert world.owned() == {"app": [".number"], "ctl": [".flag", ".text"]}
    world.update("ctl", {"number": 1})
    assert world.owned() == {"app": [".number"]}  # nobody owns what is not there


def test_who_changes_the_last_field_of_a_manager_removes_it():
    world = World()
    world.apply("app", {"text": "1"})
    world.update("ctl", {"text": "2"})
    assert world.owned() == {"ctl": [".text"]}


def test_appliers_share_what_they_agree_on():
    world = World()
    world.apply("one", {"text": "1", "list": [a("x", value=1)]})
    world.apply("two", {"text": "1", "list": [a("x", value=1)]})
    assert world.owned()["one"] == world.owned()["two"]
    assert world.conflicts("two", {"text": "2", "list": [a("x", value=2)]}) == {
        "one": ['.list[name="x"].value', ".text"]
    }
    world.apply("one", {"text": "1"})
    assert world.object == {"text": "1", "list": [a("x", value=1)]}
    world.apply("two", {"text": "1"})
    assert world.object == {"text": "1"}


def test_force_takes_ownership():
    world = World()
    world.apply("one", {"text": "1", "number": 1})
    world.apply("two", {"text": "2"}, force=True)
    assert world.object == {"text": "2", "number": 1}
    assert world.owned() == {"one": [".number"], "two": [".text"]}
    world.apply("one", {"number": 1})  # gives up what it has lost
    assert world.conflicts("one", {"text": "3", "number": 1}) == {"two": [".text"]}


REMOVALS = {
    "a scalar": ({"text": "1", "number": 1}, {"number": 1}, {"number": 1}),
    "an entry": ({"list": [a("x"), a("y")]}, {"list": [a("y")]}, {"list": [a("y")]}),
    "a field of an entry": ({"list": [a("x", value=1)]}, {"list": [a("x")]}, {"list": [a("x")]}),
    "an element": ({"set": ["a", "b"]}, {"set": ["b"]}, {"set": ["b"]}),
    "a key": ({"map": {"a": "1", "b": "2"}}, {"map": {"b": "2"}}, {"map": {"b": "2"}}),
    "a whole list": ({"whole": ["a"], "text": "1"}, {"text": "1"}, {"text": "1"}),
    "a whole map": ({"atomic": {"a": "1"}, "text": "1"}, {"text": "1"}, {"text": "1"}),
    "a struct": ({"struct": {"a": "1"}, "text": "1"}, {"text": "1"}, {"text": "1"}),
    "what has no schema": ({"free": {"a": {"b": 1, "c": 2}}}, {"free": {"a": {"c": 2}}}, {"free": {"a": {"c": 2}}}),
    "everything of a list": ({"list": [a("x")], "text": "1"}, {"text": "1"}, {"text": "1"}),
}


@pytest.mark.parametrize("case", REMOVALS)
def test_what_is_applied_no_more_goes(case):
    before, now, after = REMOVALS[case]
    world = World()
    world.apply("app", before)
    world.apply("app", now)
    assert world.object == after


def test_what_others_own_stays():
    world = World()
    world.apply("app", {"list": [a("x", value=1)], "map": {"a": "1"}, "struct": {"a": "1"}})
    world.apply("other", {"list": [a("x", tags=["t"])]})
    world.update("ctl", {**world.object, "map": {"a": "1", "b": "2"}, "struct": {"a": "1", "b": "2"}})
    world.apply("app", {"text": "1"})
    assert world.object == {
        "text": "1",
        "list": [a("x", tags=["t"])],
        "map": {"b": "2"},
        "struct": {"b": "2"},
    }


def test_an_entry_goes_with_who_added_it():
    world = World()
    world.apply("app", {"list": [a("x"), a("y")]})
    world.update("ctl", {"list": [a("x", value=1), a("y")]})
    world.apply("app", {"list": [a("y")]})
    assert world.object == {"list": [a("y")]}  # owning a field of an entry is not owning the entry


def test_what_nobody_owns_goes_with_what_holds_it():
    world = World()
    world.apply("app", {"struct": {"a": "1"}, "text": "1"})
    world.object = {**world.object, "struct": {"a": "1", "b": "default"}}  # as a default would
    world.apply("app", {"text": "1"})
    assert world.object == {"text": "1"}


@pytest.mark.parametrize(
    ("live", "config", "merged"),
    [
        ([a("x"), a("y")], [a("z")], ["x", "y", "z"]),
        ([a("x"), a("y"), a("z")], [a("z"), a("x")], ["y", "z", "x"]),
        ([a("a"), a("b"), a("c")], [a("n"), a("b")], ["a", "n", "b", "c"]),
        ([a("a"), a("b")], [a("b"), a("n")], ["a", "b", "n"]),
        ([], [a("b"), a("a")], ["b", "a"]),
        ([a("a")], [], ["a"]),
    ],
)
def test_the_order_of_merged_lists(live, config, merged):
    found = values.merge({"list": live}, {"list": config}, ROOT)
    assert [entry["name"] for entry in found["list"]] == merged


def test_keys_with_defaults():
    world = World()
    world.update("srv", {"ports": [{"port": 80, "protocol": "TCP", "name": "a"}]})
    assert world.conflicts("app", {"ports": [{"port": 80, "name": "b"}]}) == {
        "srv": ['.ports[port=80,protocol="TCP"].name']
    }
    world.apply("app", {"ports": [{"port": 80, "protocol": "UDP"}]})
    assert [p["protocol"] for p in world.object["ports"]] == ["TCP", "UDP"]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"other": 1}, ".other: field not declared in schema"),
        ({"struct": {"c": "1"}}, ".struct.c: field not declared in schema"),
        ({"text": 1}, ".text: expected string"),
        ({"number": "1"}, ".number: expected numeric"),
        ({"flag": 1}, ".flag: expected boolean"),
        ({"list": {}}, ".list: expected list"),
        ({"map": []}, ".map: expected map"),
        ({"list": [a("x"), a("x")]}, 'duplicate entries for key \\[name="x"\\]'),
        ({"set": ["a", "a"]}, 'duplicate entries for key \\[="a"\\]'),
        ({"list": [{"value": 1}]}, 'omits all key fields \\["name"\\]'),
        ({"list": [None]}, "may not have a null element"),
        ({"list": ["x"]}, "may not have non-map elements"),
        ({"set": [None]}, "explicit null"),
        ({"list": [a("x", tags=[{}])]}, '\\.list\\[name="x"\\]\\.tags: element 0'),
    ],
)
def test_configurations_that_are_not_of_their_type(config, why):
    with pytest.raises(Unlike, match=why):
        checking.check(config, ROOT)


def test_an_entry_twice_in_the_object_is_owned_as_a_whole():
    world = World()
    world.update("ctl", {"list": [a("x", value=1), a("x", value=2), a("y", value=1)]})
    assert world.owned() == {
        "ctl": [".list", '.list[name="x"]', '.list[name="y"]', '.list[name="y"].name', '.list[name="y"].value']
    }
    world.apply("app", {"list": [a("y", value=1)]})
    assert len(world.object["list"]) == 3
    assert world.conflicts("app", {"list": [a("x", value=1)]}) == {"ctl": ['.list[name="x"]']}


def test_a_field_that_becomes_another_type_of_value():
    world = World()
    world.update("one", {"free": {"a": {"b": 1}}})
    world.update("two", {"free": {"a": [1]}})
    assert world.owned() == {"one": [".free"], "two": [".free.a"]}


def test_a_list_that_became_atomic():
    world = World()
    world.apply("app", {"set": ["a", "b"]})
    changed = {**SCHEMA, "properties": {**SCHEMA["properties"], "set": {"type": "array", "items": TEXT}}}
    world.shape = Shapes(no_definitions).custom(changed, Shape(is_map=True, other=ANY))
    world.apply("app", {"set": ["b"]})
    assert world.object == {"set": ["b"]}
    assert world.owned() == {"app": [".set"]}


def test_managers_of_versions_that_are_not_served_go():
    world = World()
    world.apply("app", {"text": "1"})
    old = Entry("old", UPDATE, "example.com/v0", "", "", {"f:text": {}})
    world.managers[old.identity] = old
    world.update("ctl", {"text": "1", "number": 1})
    assert set(world.owned()) == {"app", "ctl"}


def test_the_oldest_updates_become_one():
    world = World()
    for i in range(MAX_UPDATERS + 3):
        world.update(f"m{i}", {"map": {f"k{j}": "1" for j in range(i + 1)}})
    owned = world.owned()
    assert len(owned) == MAX_UPDATERS
    assert owned[ANCIENT] == [".map", ".map.k0", ".map.k1", ".map.k2", ".map.k3"]
    assert owned[f"m{MAX_UPDATERS + 2}"] == [f".map.k{MAX_UPDATERS + 2}"]


# Whatever is applied: twice is once, and nobody loses what is theirs.

STEADY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no reason to fail."""
WORDS = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(0, 2)
ENTRIES = st.dictionaries(
    WORDS, st.fixed_dictionaries({}, optional={"value": NUMBERS, "tags": st.lists(WORDS, unique=True, max_size=2)})
).map(lambda found: [{"name": k, **v} for k, v in found.items()])
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "text": WORDS,
        "number": NUMBERS,
        "list": ENTRIES,
        "set": st.lists(WORDS, unique=True, max_size=3),
        "whole": st.lists(WORDS, max_size=2),
        "map": st.dictionaries(WORDS, WORDS, max_size=2),
        "atomic": st.dictionaries(WORDS, WORDS, max_size=2),
        "struct": st.fixed_dictionaries({}, optional={"a": WORDS, "b": WORDS}),
        "free": st.dictionaries(WORDS, st.dictionaries(WORDS, NUMBERS, max_size=2), max_size=2),
    },
)
STEPS = st.lists(st.tuples(st.sampled_from(["one", "two", "ctl"]), CONFIGS, st.booleans()), max_size=4)


def played(steps):
    world = World()
    for name, config, force in steps:
        if name == "ctl":
            world.update(name, values.merge(world.object, config, ROOT))
        else:
            try:
                world.apply(name, config, force=force)
            except Conflicting:
                continue
    return world


@STEADY
@given(STEPS, CONFIGS)
def test_applying_twice_is_applying_once(steps, config):
    world = played(steps)
    world.apply("app", config, force=True)
    first = world.object, world.owned()
    world.apply("app", config)
    assert (world.object, world.owned()) == first


@STEADY
@given(STEPS, CONFIGS)
def test_fields_of_others_are_never_lost(steps, config):
    world = played(steps)
    before, owned = world.object, world.managers
    try:
        world.apply("app", config)
    except Conflicting:
        assert world.object is before
        return
    world.apply("app", {})
    changed, removed = values.compare(tidy(before), tidy(world.object), ROOT)
    for identity, entry in owned.items():
        assert world.managers[identity].fields == entry.fields, identity
        assert fieldsets.intersection(entry.fields, changed) == {}
        assert fieldsets.intersection(entry.fields, removed) == {}


def tidy(value):
    """The value without empty maps and lists: what was emptied is null, which decoding drops."""
    if isinstance(value, dict):
        return {k: kept for k, v in value.items() if (kept := tidy(v)) not in (None, {}, [])}
    return [tidy(v) for v in value] if isinstance(value, list) else value


@STEADY
@given(STEPS, CONFIGS)
def test_what_is_applied_is_there(steps, config):
    world = played(steps)
    world.apply("app", config, force=True)
    assert tidy(values.merge(world.object, config, ROOT)) == tidy(world.object)


@STEADY
@given(CONFIGS, CONFIGS)
def test_comparing_is_exact(old, new):
    changed, removed = values.compare(old, new, ROOT)
    assert (changed == removed == {}) == (values.compare(new, old, ROOT) == ({}, {}))
    back_changed, back_removed = values.compare(new, old, ROOT)
    added = fieldsets.difference(changed, back_changed)
    assert fieldsets.difference(added, back_removed) == {}

"""Values seen as sets of fields (structured-merge-diff's `typed`): which they hold, how two differ, merging, removing.

Pure: no value is changed, results share parts with their arguments. A list whose entries cannot be told apart as
their schema wants (an entry without its key, a null in a set) raises `Unlike`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from headrace.apiserver.fieldmanager.fieldsets import (
    LEAF,
    SELF,
    FieldSet,
    is_member,
    key_element,
    value_element,
)
from headrace.apiserver.fieldmanager.shapes import ANY, Shape

if TYPE_CHECKING:
    from collections.abc import Iterable

Json = dict[str, Any]

_GONE = object()
"""No value, where None is one."""


class Unlike(ValueError):
    """A value is not what its schema says; `path` is where."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}" if path else why)


def element_of(entry: Any, shape: Shape) -> str:
    """The path element of a list's entry; `shape` is the list's. Raises Unlike."""
    keys = shape.keys
    if not keys:
        return _value_element(entry) if isinstance(entry, str) else _set_element(entry)
    if not isinstance(entry, dict):
        what = "a null element" if entry is None else "non-map elements"
        raise Unlike("", f"associative list with keys may not have {what}")
    if len(keys) == 1:
        value = entry.get(keys[0])
        if isinstance(value, str):
            return _key_element(keys[0], value)
    defaults = shape.item.defaults if shape.item is not None else {}
    found: Json = {}
    for name in keys:
        if name in entry:
            found[name] = entry[name]
        elif name in defaults:
            found[name] = defaults[name]
    if not found:
        wanted = " ".join(f'"{k}"' for k in keys)
        raise Unlike(
            "",
            f"associative list with keys has an element that omits all key fields [{wanted}] (and doesn't have default "
            "values for any key fields)",
        )
    return key_element(found)


def _set_element(entry: Any) -> str:
    if isinstance(entry, dict):
        raise Unlike("", "associative list without keys has an element that's a map type")
    if isinstance(entry, list):
        raise Unlike("", "not supported: associative list with lists as elements")
    if entry is None:
        raise Unlike("", "associative list without keys has an element that's an explicit null")
    return value_element(entry)


@functools.lru_cache(maxsize=2048)
def _value_element(value: str) -> str:
    return value_element(value)


@functools.lru_cache(maxsize=2048)
def _key_element(name: str, value: str) -> str:
    return key_element({name: value})


def _as_map(value: Any, shape: Shape) -> bool:
    """Whether the value is treated as a granular map."""
    return isinstance(value, dict) and shape.is_map and not shape.atomic_map


def _as_list(value: Any, shape: Shape) -> bool:
    """Whether the value is treated as a set or a list with keys."""
    return isinstance(value, list) and shape.is_list and not shape.atomic_list


def fields_of(value: Any, shape: Shape) -> FieldSet:
    """The fields that a configuration sets: its leaves, entries of lists, and keys of maps that are no named fields."""
    if _as_map(value, shape):
        return _map_fields(value, shape)
    return {}


def _map_fields(value: Json, shape: Shape) -> FieldSet:
    out: FieldSet = {}
    for name, inner in value.items():
        known = shape.fields.get(name)
        element, below = known if known is not None else (f"f:{name}", shape.other or ANY)
        member = known is None or inner is None or inner == {}
        node = _node(inner, below)
        if node is None:
            if member:
                out[element] = LEAF
        else:
            out[element] = {SELF: LEAF, **node} if member and node and SELF not in node else node
    return out


def _node(value: Any, shape: Shape) -> FieldSet | None:
    """What a value adds below its own path: LEAF when the path itself belongs to the set, None for nothing."""
    if value is None:
        return LEAF if shape.scalar and not shape.is_map and not shape.is_list else _atomic(shape)
    if isinstance(value, dict) and shape.is_map:
        return LEAF if shape.atomic_map else _map_fields(value, shape) or None
    if isinstance(value, list) and shape.is_list:
        return LEAF if shape.atomic_list else _list_fields(value, shape) or None
    return LEAF


def _atomic(shape: Shape) -> FieldSet | None:
    """What null adds where a map or a list may stand."""
    if shape.is_map:
        return LEAF if shape.atomic_map else None
    return LEAF if shape.atomic_list else None


def _list_fields(value: list[Any], shape: Shape) -> FieldSet:
    out: FieldSet = {}
    item = shape.item or ANY
    for element, entries in _indexed(value, shape).items():
        node = _node(entries[0], item) if len(entries) == 1 else None
        out[element] = {SELF: LEAF, **node} if node else LEAF
    return out


def _indexed(value: Iterable[Any], shape: Shape) -> dict[str, list[Any]]:
    """Entries by path element, in their order; more than one where the list holds an entry twice."""
    out: dict[str, list[Any]] = {}
    for entry in value:
        out.setdefault(element_of(entry, shape), []).append(entry)
    return out


def everything(value: Any, shape: Shape) -> FieldSet:
    """The node of a value that was not there before (or is not any more): every path in it, its own included."""
    if shape.leaf or not value:
        return LEAF
    if isinstance(value, dict):
        if shape.atomic_map or not shape.is_map:
            return LEAF
        out: FieldSet = {SELF: LEAF}
        fields, other = shape.fields, shape.other or ANY
        for name, inner in value.items():
            known = fields.get(name)
            if known is None:
                out["f:" + name] = everything(inner, other)
            else:
                element, below = known
                out[element] = LEAF if below.leaf or not inner else everything(inner, below)
        return out
    if isinstance(value, list):
        if shape.atomic_list or not shape.is_list:
            return LEAF
        out = {SELF: LEAF}
        item = shape.item or ANY
        for entry in value:
            element = element_of(entry, shape)
            out[element] = LEAF if element in out else everything(entry, item)
        return out
    return LEAF


def of_new(value: Json, shape: Shape) -> FieldSet:
    """The fields that creating an object adds; those that even an empty object of the type has are not added."""
    out: FieldSet = {}
    for name, inner in value.items():
        known = shape.fields.get(name)
        element, below = known if known is not None else ("f:" + name, shape.other or ANY)
        if name not in shape.never_null:
            out[element] = everything(inner, below)
        elif _as_map(inner, below):
            node = of_new(inner, below)
            if node:
                out[element] = node
        else:
            node = everything(inner, below)
            out[element] = {k: v for k, v in node.items() if k != SELF} if node else LEAF
    return out


def compare(old: Json, new: Json, shape: Shape) -> tuple[FieldSet, FieldSet]:
    """(what `new` adds or changes, what it removes) of two objects of a granular type. Raises Unlike."""
    changed: FieldSet = {}
    removed: FieldSet = {}
    _compare_maps(old, new, shape, changed, removed)
    return changed, removed


def _compare_maps(old: Json, new: Json, shape: Shape, changed: FieldSet, removed: FieldSet) -> None:
    fields, other = shape.fields, shape.other or ANY
    for name, before in old.items():
        after = new.get(name, _GONE)
        if before == after:
            continue
        element, below = fields.get(name) or ("f:" + name, other)
        if after is _GONE:
            removed[element] = everything(before, below)
        else:
            _compare(before, after, below, element, (changed, removed))
    for name, after in new.items():
        if name not in old:
            element, below = fields.get(name) or ("f:" + name, other)
            changed[element] = everything(after, below)


def _compare(old: Any, new: Any, shape: Shape, element: str, into: tuple[FieldSet, FieldSet]) -> None:
    """Two unequal values at the same place; `into` is (changed, removed)."""
    changed, removed = into
    old_kind, new_kind = _kind(old, shape), _kind(new, shape)
    if (old is None or new is None) and not (shape.is_map and "list" in {old_kind, new_kind}):
        old_kind = new_kind = new_kind if old is None else old_kind  # null is whatever the other one is
    if old_kind == new_kind and old_kind != "leaf" and (old or new):
        added: FieldSet = {}
        lost: FieldSet = {}
        if old_kind == "map":
            _compare_maps(old or {}, new or {}, shape, added, lost)
        else:
            _compare_lists(old or [], new or [], shape, added, lost)
        if added:
            changed[element] = added
        if lost:
            removed[element] = lost
        return
    # Another kind of value: the place itself changes, with all that is below it before and after.
    changed[element] = everything(new, shape)
    if old_kind != "leaf":
        below = {k: v for k, v in everything(old, shape).items() if k != SELF}
        if below:
            removed[element] = below


def _kind(value: Any, shape: Shape) -> str:
    if _as_map(value, shape):
        return "map"
    return "list" if _as_list(value, shape) else "leaf"


def _compare_lists(old: list[Any], new: list[Any], shape: Shape, changed: FieldSet, removed: FieldSet) -> None:
    item = shape.item or ANY
    before, after = _indexed(old, shape), _indexed(new, shape)
    for element, ours in before.items():
        theirs = after.get(element, [])
        if ours == theirs:
            continue
        if len(ours) == 1 and len(theirs) == 1:
            _compare(ours[0], theirs[0], item, element, (changed, removed))
            continue
        # An entry that is there twice is tracked as a whole.
        if len(ours) == 1 or len(theirs) < 2:
            removed[element] = everything(ours[0], item) if len(ours) == 1 else LEAF
        if theirs:
            changed[element] = everything(theirs[0], item) if len(theirs) == 1 else LEAF
    for element, theirs in after.items():
        if element not in before:
            changed[element] = everything(theirs[0], item) if len(theirs) == 1 else LEAF


def merge(old: Any, new: Any, shape: Shape) -> Any:
    """`new` on top of `old`: maps and lists merge where their type says so, else the new value stands.

    Raises Unlike for entries that are twice in `new`.
    """
    if new is None and old is not None and _kind(old, shape) != "leaf" and old:
        return old
    kind = _kind(new, shape)
    if kind == "leaf" or (old is not None and _kind(old, shape) != kind):
        return new
    if not old and not new:
        return new
    if kind == "map":
        out = dict(old or {})
        for name, inner in new.items():
            known = shape.fields.get(name)
            below = known[1] if known is not None else shape.other or ANY
            out[name] = merge(out[name], inner, below) if name in out else inner
        return out
    return _merge_lists(old or [], new, shape)


def _merge_lists(old: list[Any], new: list[Any], shape: Shape) -> list[Any]:
    """Entries of both: what is only in `old` keeps its place as far as the order of `new` allows."""
    item = shape.item or ANY
    ours = [(element_of(entry, shape), entry) for entry in old]
    theirs = [(element_of(entry, shape), entry) for entry in new]
    mine: Json = {}
    for element, entry in ours:
        mine[element] = None if element in mine else entry
    wanted: Json = {}
    for element, entry in theirs:
        if element in wanted:
            raise Unlike("", f"duplicate entries for key {element[2:]}")
        wanted[element] = entry
    shared = [element for element, _ in theirs if element in mine]
    upcoming = iter([*shared, None])
    next_shared = next(upcoming)
    merged: set[str] = set()
    out: list[Any] = []

    def put(element: str) -> None:
        merged.add(element)
        entry = wanted[element]
        out.append(merge(mine[element], entry, item) if mine.get(element) is not None else entry)

    left = right = 0
    while left < len(ours) or right < len(theirs):
        if left < len(ours) and right < len(theirs):
            element = ours[left][0]
            if element == theirs[right][0]:
                put(element)
                left += 1
                right += 1
                next_shared = next(upcoming, None)
                continue
            if element in wanted and next_shared is not None and next_shared != element:
                left += 1
                continue
        if left < len(ours):
            element = ours[left][0]
            if element not in wanted:
                out.append(ours[left][1])
                left += 1
                continue
            if element in merged:
                left += 1
        if right < len(theirs):
            element = theirs[right][0]
            put(element)
            right += 1
            if next_shared == element:
                next_shared = next(upcoming, None)
    return out


def remove(value: Any, fields: FieldSet, shape: Shape) -> Any:
    """The value without these fields; null where nothing of a map or list is left, which decoding drops."""
    if not fields or not value:
        return value
    if _as_map(value, shape):
        out: Json = {}
        for name, inner in value.items():
            element, below = shape.fields.get(name) or ("f:" + name, shape.other or ANY)
            node = fields.get(element)
            if node is None:
                out[name] = inner
            elif not is_member(node):
                out[name] = remove(inner, node, below)
        return out or None
    if _as_list(value, shape):
        entries = []
        for entry in value:
            node = fields.get(element_of(entry, shape))
            if node is None:
                entries.append(entry)
            elif not is_member(node):
                entries.append(remove(entry, node, shape.item or ANY))
        return entries or None
    return None if isinstance(value, dict | list) and (shape.is_map or shape.is_list) else value


def with_named(fields: FieldSet, shape: Shape) -> FieldSet:
    """The set with every named field that leads to one of its paths."""
    out: FieldSet = {}
    for element, node in fields.items():
        if element == SELF or not node:
            out[element] = node
            continue
        below = _below(element, shape)
        inner = with_named(node, below)
        name = element[2:]
        if SELF not in inner and element.startswith("f:") and name in shape.fields:
            inner = {SELF: LEAF, **inner}
        out[element] = inner
    return out


def _below(element: str, shape: Shape) -> Shape:
    if element.startswith("f:"):
        known = shape.fields.get(element[2:])
        return known[1] if known is not None else shape.other or ANY
    return shape.item or ANY


def reconciled(fields: FieldSet, shape: Shape) -> FieldSet:
    """The set after its type became atomic somewhere: then the place itself is owned and nothing below it."""
    out: FieldSet = {}
    for element, node in fields.items():
        if element == SELF or not node:
            out[element] = node
            continue
        if element.startswith("f:") and element[2:] not in shape.fields and shape.other is None:
            out[element] = node
            continue
        below = _below(element, shape)
        deduced = below is ANY or (below.other is ANY and not below.fields)
        if not deduced and ((below.is_map and below.atomic_map) or (not below.is_map and _only_atomic_list(below))):
            out[element] = LEAF
        else:
            out[element] = node if deduced else reconciled(node, below)
    return out


def _only_atomic_list(shape: Shape) -> bool:
    return shape.is_list and not shape.scalar and shape.atomic_list

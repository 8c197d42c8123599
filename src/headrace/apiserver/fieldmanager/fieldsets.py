"""Sets of fields and their algebra (structured-merge-diff's `fieldpath`), in the form in which objects carry them.

A set is the trie that `FieldsV1` is in JSON: a dict whose keys are path elements (`f:name`, `k:{…}`, `v:…`, `i:…`).
An empty dict below a key, or one that holds ".", says that the path itself belongs to the set. So nothing is
converted between the wire and the algebra. Sets are never changed in place: results share their parts.
"""

from __future__ import annotations

import json
from typing import Any

from headrace.api import _wire

FieldSet = dict[str, Any]

LEAF: FieldSet = {}
"""A path that belongs to the set, with nothing below it. Shared: never written to."""
SELF = "."


class BadPathElement(ValueError):
    """A key of a field set that is no path element."""


def is_member(node: FieldSet) -> bool:
    """Whether the path that leads to this node belongs to the set."""
    return not node or SELF in node


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """What either has."""
    if not left or not right:
        return left or right
    out = dict(left)
    for key, theirs in right.items():
        ours = out.get(key)
        out[key] = theirs if ours is None else _joined(ours, theirs)
    return out


def _joined(left: FieldSet, right: FieldSet) -> FieldSet:
    """The union of two nodes below the same key; an empty one is a member."""
    if left and right:
        return union(left, right)
    more = left or right
    return {SELF: LEAF, **more} if more and SELF not in more else more


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """What both have."""
    if len(right) < len(left):
        left, right = right, left
    out: FieldSet = {}
    for key, ours in left.items():
        theirs = right.get(key)
        if theirs is None or key == SELF:
            continue
        below = intersection(ours, theirs) if ours and theirs else {}
        if is_member(ours) and is_member(theirs):
            out[key] = {SELF: LEAF, **below} if below else LEAF
        elif below:
            out[key] = below
    return out


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """What is in `left` and not in `right`, path by path: a path goes without those below it."""
    out: FieldSet = {}
    for key, ours in left.items():
        if key == SELF:
            continue
        theirs = right.get(key)
        if theirs is None:
            out[key] = ours
            continue
        below = difference(ours, theirs)
        if is_member(ours) and not is_member(theirs):
            out[key] = {SELF: LEAF, **below} if below else LEAF
        elif below:
            out[key] = below
    return out


def recursive_difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """What is in `left`, without the paths in `right` and everything below them."""
    out: FieldSet = {}
    for key, ours in left.items():
        theirs = right.get(key)
        if key == SELF:
            continue
        if theirs is None:
            out[key] = ours
        elif not is_member(theirs):
            below = recursive_difference(ours, theirs)
            if is_member(ours):
                out[key] = {SELF: LEAF, **below} if below else LEAF
            elif below:
                out[key] = below
    return out


def has(fields: FieldSet, *path: str) -> bool:
    """Whether a path belongs to the set."""
    node: FieldSet | None = fields
    for element in path:
        node = node.get(element) if node is not None else None
    return node is not None and is_member(node)


def of(*paths: tuple[str, ...]) -> FieldSet:
    """The set of these paths."""
    out: FieldSet = {}
    for path in paths:
        one: FieldSet = LEAF
        for element in reversed(path):
            one = {element: one}
        out = union(out, one)
    return out


def paths(fields: FieldSet, prefix: str = "") -> list[str]:
    """Every path of the set as people read it (`.spec.ports[port=80].name`), each before those below it."""
    out = []
    for key, below in sorted(fields.items()):
        if key == SELF:
            continue
        here = prefix + shown(key)
        if is_member(below):
            out.append(here)
        out += paths(below, here)
    return out


def shown(element: str) -> str:
    """A path element as messages have it: `.name`, `[name="x"]`, `[="x"]`, `[0]`."""
    kind, text = element[0], element[2:]
    match kind:
        case "f":
            return f".{text}"
        case "k":
            return "[" + ",".join(f"{k}={_quoted(v)}" for k, v in sorted(_wire.decode_any(text).items())) + "]"
        case "v":
            return f"[={_quoted(_wire.decode_any(text))}]"
        case _:
            return f"[{text}]"


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def value_element(value: Any) -> str:
    """The path element of an entry of a set."""
    return "v:" + _text(value)


def key_element(keys: dict[str, Any]) -> str:
    """The path element of an entry of a list that is a map; `keys` in the order of their names."""
    return "k:" + _text(keys)


def _text(value: Any) -> str:
    return _wire.encode(_whole(value)).decode()


def _whole(value: Any) -> Any:
    """The value with whole numbers as integers: 1 and 1.0 are the same key."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {k: _whole(v) for k, v in value.items()}
    return value


def parsed(raw: Any) -> FieldSet:
    """A set as a client sent it, with its path elements in the one spelling that is compared.

    Raises BadPathElement.
    """
    if not isinstance(raw, dict):
        raise BadPathElement("fields must be an object")
    out: FieldSet = {}
    for key, below in raw.items():
        if key == SELF:
            out[SELF] = LEAF
            continue
        element = _canonical(key)
        node = parsed(below)
        out[element] = _joined(out[element], node) if element in out else node
    return out


def _canonical(key: str) -> str:
    kind, text = key[:2], key[2:]
    if kind == "f:":
        return key
    try:
        if kind == "i:":
            return f"i:{int(text)}"
        if kind == "v:":
            return value_element(_wire.decode_any(text))
        if kind == "k:":
            found = _wire.decode_any(text)
            if isinstance(found, dict):
                return key_element(dict(sorted(found.items())))
    except (ValueError, _wire.DecodeError) as error:
        raise BadPathElement(f"{key!r} is no path element") from error
    raise BadPathElement(f"{key!r} is no path element")

"""Strategic merge patch (apimachinery/pkg/util/strategicpatch), as kubectl apply, edit and patch send it.

Lists merge by the merge keys of the official schemas. Directives: `$patch` (replace, delete, merge),
`$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>`, `$retainKeys`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from headrace.api.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.apiserver.schema.document import Node, Strategy

Json = dict[str, Any]

DIRECTIVE = "$patch"
RETAIN = "$retainKeys"
DELETE_PRIMITIVES = "$deleteFromPrimitiveList/"
ORDER = "$setElementOrder/"


def merge_strategic(document: Json, patch: Json, node: Node | None) -> Json:
    """The patched document. Raises BadRequest for directives that make no sense."""
    return _merge_map(document, patch, node)


def _merge_map(original: Json, patch: Json, node: Node | None) -> Json:
    directive = patch.get(DIRECTIVE)
    if directive == "replace":
        plain: Json = _plain(patch)
        return plain
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadRequest(f"unknown patch type found: {directive}")
    out = dict(original)
    if RETAIN in patch:
        kept = set(_list_of(patch, RETAIN))
        out = {k: v for k, v in out.items() if k in kept}
    for key, value in patch.items():
        if key in (DIRECTIVE, RETAIN):
            continue
        if key.startswith((DELETE_PRIMITIVES, ORDER)):
            field = key.partition("/")[2]
            if field not in patch:
                _merge_field(out, field, [], patch, node)
            continue
        if value is None:
            out.pop(key, None)
        elif isinstance(value, list):
            _merge_field(out, key, value, patch, node)
        elif isinstance(value, dict) and isinstance(out.get(key), dict):
            strategy = _strategy(node, key)
            below = _below(node, key)
            if strategy is not None and "replace" in strategy.names:
                out[key] = _plain(value)
            else:
                out[key] = _merge_map(out[key], value, below)
        elif isinstance(value, dict):
            out[key] = _merge_map({}, value, _below(node, key))
        else:
            out[key] = value
    return out


def _merge_field(out: Json, field: str, value: list[Any], patch: Json, node: Node | None) -> None:
    """Merge one list into `out`, with the directives that the patch has beside it."""
    strategy = _strategy(node, field)
    present = out.get(field)
    deleted = _list_of(patch, DELETE_PRIMITIVES + field)
    order = patch.get(ORDER + field)
    if strategy is None or "merge" not in strategy.names:
        if field in patch:
            out[field] = _plain(value)
        return
    if not isinstance(present, list):
        present = []
        if not value:
            if field in patch:
                out[field] = []
            return
    if strategy.key:
        merged = _merge_maps(present, value, strategy.key, _below(node, field))
        out[field] = _ordered(merged, order, present, strategy.key)
    else:
        merged = []
        for item in (*present, *value):
            if item not in deleted and item not in merged:
                merged.append(item)
        out[field] = _ordered(merged, order, present, "")


def _merge_maps(present: list[Json], patch: list[Json], key: str, node: Node | None) -> list[Json]:
    if not all(isinstance(item, dict) for item in patch):
        raise BadRequest(f"a list that is merged by {key} must hold objects")
    if any(item.get(DIRECTIVE) == "replace" for item in patch):
        return [_plain(i) for i in patch if DIRECTIVE not in i]
    out = list(present)
    for item in patch:
        if key not in item:
            raise BadRequest(f"map: {item} does not contain declared merge key: {key}")
        at = [i for i, old in enumerate(out) if old.get(key) == item[key]]
        if item.get(DIRECTIVE) == "delete":
            out = [old for i, old in enumerate(out) if i not in at]
        elif at:
            out[at[0]] = _merge_map(out[at[0]], item, node)
        else:
            out.append(_merge_map({}, item, node))
    return out


def _ordered(merged: list[Any], order: Any, present: list[Any], key: str) -> list[Any]:
    """Put what the patch orders in its order; what only the server has keeps its place among them."""
    if order is None:
        return merged
    if not isinstance(order, list):
        raise BadRequest(f"{ORDER} must be a list")

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = [identity(item) for item in order]
    before = [identity(item) for item in present]
    named = sorted((m for m in merged if identity(m) in wanted), key=lambda m: wanted.index(identity(m)))
    others = [m for m in merged if identity(m) not in wanted]
    out: list[Any] = []
    while named and others:
        left, right = identity(others[0]), identity(named[0])
        first = left in before and right in before and before.index(left) < before.index(right)
        out.append(others.pop(0) if first else named.pop(0))
    return [*out, *named, *others]


def _plain(value: Any) -> Any:
    """A value without directives and nulls, as it is stored when there is nothing to merge with."""
    if isinstance(value, dict):
        return {
            k: _plain(v)
            for k, v in value.items()
            if v is not None and k not in (DIRECTIVE, RETAIN) and not k.startswith((DELETE_PRIMITIVES, ORDER))
        }
    if isinstance(value, list):
        return [_plain(v) for v in value if not (isinstance(v, dict) and v.get(DIRECTIVE) == "delete")]
    return copy.copy(value)


def _list_of(patch: Json, key: str) -> Iterable[Any]:
    found = patch.get(key) or []
    if not isinstance(found, list):
        raise BadRequest(f"{key} must be a list")
    return found


def _strategy(node: Node | None, field: str) -> Strategy | None:
    return node.strategies.get(field) if node is not None else None


def _below(node: Node | None, field: str) -> Node | None:
    """The types below a field: of the entries when it is a list."""
    if node is None:
        return None
    found = node.fields.get(field) or (node.item if node.type == "map" else None)
    return found.item if found is not None and found.type == "array" else found

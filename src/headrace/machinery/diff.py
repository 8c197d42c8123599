"""The JSON merge patch (RFC 7386) that turns one value into another."""

from __future__ import annotations

from typing import Any


def merge_patch(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What to send; empty when nothing changed. Lists are replaced whole, missing keys become null.

    `after` holds no nulls: in a merge patch a null removes its key.
    """
    patch: dict[str, Any] = {}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            inner = merge_patch(old, value)
            if inner:
                patch[key] = inner
        elif key not in before or not _same(old, value):
            patch[key] = value
    for key in before:
        if key not in after:
            patch[key] = None
    return patch


def touches_list(patch: dict[str, Any], before: dict[str, Any] | None = None) -> bool:
    """Whether a merge patch replaces a list: then it must carry resourceVersion, or it may undo another's entry.

    With `before`, also whether it removes one.
    """
    old = before or {}
    for key, value in patch.items():
        was = old.get(key)
        inner = was if isinstance(was, dict) else None
        if isinstance(value, dict) and touches_list(value, inner):
            return True
        if isinstance(value, list) or ((inner is None or not isinstance(value, dict)) and _holds_list(was)):
            return True
    return False


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: Python's 1 == True is a change there."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _holds_list(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, dict) and any(map(_holds_list, value.values())))

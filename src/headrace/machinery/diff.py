"""The JSON merge patch (RFC 7386) that turns one value into another."""

from __future__ import annotations

from typing import Any


def merge_patch(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What to send; empty when nothing changed. Lists are replaced whole, missing keys become null."""
    patch: dict[str, Any] = {}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            inner = merge_patch(old, value)
            if inner:
                patch[key] = inner
        elif key not in before or old != value:
            patch[key] = value
    for key in before:
        if key not in after:
            patch[key] = None
    return patch


def touches_list(patch: dict[str, Any]) -> bool:
    """Whether a merge patch replaces a list: then it must carry resourceVersion, or it may undo another's entry."""
    return any(isinstance(v, list) or (isinstance(v, dict) and touches_list(v)) for v in patch.values())

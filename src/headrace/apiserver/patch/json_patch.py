"""JSON patch, RFC 6902. A patch is applied whole or not at all."""

from __future__ import annotations

from typing import Any

from headrace.api import _wire
from headrace.api.errors import BadRequest, Invalid, RequestEntityTooLarge

Json = dict[str, Any]

_LIMIT = 10_000
MAX_DEPTH = 500
MAX_COPIED = 3 << 20
"""Bytes of JSON that all copies of a patch may make: each may double the document (upstream has the same limit)."""


class _DoesNotApply(Exception):
    """A step names what is not there, or a test fails."""


def apply_json(document: Json, steps: list[Any]) -> Json:
    """The document after every step. Raises BadRequest (malformed patch), Invalid (a step does not
    apply), RequestEntityTooLarge.
    """
    if len(steps) > _LIMIT:
        raise BadRequest(f"the allowed maximum operations in a JSON patch is {_LIMIT}, got {len(steps)}")
    out: Any = _wire.clone(document)
    copied = 0
    for step in steps:
        if not isinstance(step, dict) or not isinstance(step.get("op"), str) or not isinstance(step.get("path"), str):
            raise BadRequest("every operation of a JSON patch is an object with op and path")
        try:
            if step["op"] == "copy":
                value = _wire.encode(_get(out, _source(step)))
                copied += len(value)
                if copied > MAX_COPIED:
                    raise RequestEntityTooLarge(f"the copies of the JSON patch are larger than {MAX_COPIED} bytes")
                out = _add(out, step["path"], _wire.decode_any(value))
            else:
                out = _apply(out, step)
        except _DoesNotApply as error:
            raise Invalid(f"{step['op']} operation does not apply: {error}") from error
    if not isinstance(out, dict):
        raise BadRequest("the patched document is no object")
    return out


def _apply(document: Any, step: Json) -> Any:
    path = step["path"]
    match step["op"]:
        case "add":
            return _add(document, path, _wire.clone(_value(step)))
        case "replace":
            _get(document, path)
            return _add(_remove(document, path), path, _wire.clone(_value(step))) if path else _value(step)
        case "remove":
            return _remove(document, path)
        case "move":
            moved = _get(document, _source(step))
            return _add(_remove(document, _source(step)), path, moved)
        case "test":
            if not _same(_get(document, path, missing_is_null=True), _value(step)):
                raise _DoesNotApply(f"testing value {path} failed")
            return document
        case other:
            raise BadRequest(f'unexpected kind of JSON patch operation: "{other}"')


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b) if isinstance(a, bool) or isinstance(b, bool) else bool(a == b)


def _value(step: Json) -> Any:
    if "value" not in step:
        raise BadRequest(f"the {step['op']} operation of a JSON patch needs a value")
    return step["value"]


def _source(step: Json) -> str:
    if not isinstance(step.get("from"), str):
        raise BadRequest(f"the {step['op']} operation of a JSON patch needs from")
    return str(step["from"])


def _split(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise BadRequest(f"{path!r} is no JSON pointer: it must begin with /")
    if path.count("/") > MAX_DEPTH:
        raise BadRequest(f"a JSON pointer of a patch goes more than {MAX_DEPTH} levels deep")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _index(part: str, length: int, path: str) -> int:
    if not part.isdigit() or (len(part) > 1 and part[0] == "0") or int(part) >= length:
        raise _DoesNotApply(f"doc is missing key: {path}: missing value")
    return int(part)


def _step(place: Any, part: str, path: str) -> Any:
    if isinstance(place, dict) and part in place:
        return place[part]
    if isinstance(place, list):
        return place[_index(part, len(place), path)]
    raise _DoesNotApply(f"doc is missing path: {path}: missing value")


def _get(document: Any, path: str, *, missing_is_null: bool = False) -> Any:
    place = document
    parts = _split(path)
    for i, part in enumerate(parts):
        if missing_is_null and i == len(parts) - 1 and isinstance(place, dict) and part not in place:
            return None
        place = _step(place, part, path)
    return place


def _parent(document: Any, path: str) -> tuple[Any, str]:
    *parents, last = _split(path)
    place = document
    for part in parents:
        place = _step(place, part, path)
    return place, last


def _add(document: Any, path: str, value: Any) -> Any:
    if not path:
        return value
    place, last = _parent(document, path)
    if isinstance(place, dict):
        place[last] = value
    elif isinstance(place, list):
        place.insert(len(place) if last == "-" else _index(last, len(place) + 1, path), value)
    else:
        raise _DoesNotApply(f"doc is missing path: {path}: missing value")
    return document


def _remove(document: Any, path: str) -> Any:
    if not path:
        raise BadRequest("the whole document cannot be removed")
    place, last = _parent(document, path)
    if isinstance(place, dict) and last in place:
        del place[last]
    elif isinstance(place, list):
        del place[_index(last, len(place), path)]
    else:
        raise _DoesNotApply(f"doc is missing key: {path}: missing value")
    return document

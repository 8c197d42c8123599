r"""Protobuf request bodies, turned into JSON: kubectl's typed commands (`create configmap`, `auth can-i` …) send them.

A body is `k8s\0`, then runtime.Unknown: apiVersion, kind, and the object's own message. What a field number means lies
in `protobuf_fields.json.gz` (made by tools/generate_protobuf.py from Kubernetes' Go types), read with the first such
body. Answers are JSON always; clients that send protobuf accept it.

The result is what Go would have written as JSON: zero values of fields that are no pointers vanish where the type says
`omitempty`. Everything is checked: a body cannot make the server read beyond it or nest without end.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import gzip
import struct
from importlib import resources
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.errors import BadRequest, UnsupportedMediaType

if TYPE_CHECKING:
    from collections.abc import Iterator

MEDIA = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
MAX_DEPTH = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FOR_EVERY_GROUP = frozenset({"DeleteOptions"})

Fields = dict[str, list[str]]


class _Malformed(Exception):
    pass


@functools.cache
def _messages() -> dict[str, Fields]:
    packed = resources.files(__package__).joinpath("protobuf_fields.json.gz").read_bytes()
    messages: dict[str, Fields] = _wire.decode_any(gzip.decompress(packed))
    return messages


def decode(body: bytes) -> dict[str, Any]:
    """The object as plain JSON values. Raises BadRequest, UnsupportedMediaType for kinds that are not known here."""
    if not body.startswith(MAGIC):
        raise BadRequest("the body is not a Kubernetes protobuf message: it does not begin with its magic number")
    try:
        envelope = dict(_entries(memoryview(body)[len(MAGIC) :]))
        about = {n: bytes(v).decode() for n, v in _entries(_chunk(envelope.get(1, b"")))}
        api_version, kind = about.get(1, ""), about.get(2, "")
        group, _, version = api_version.rpartition("/")
        package = group.split(".")[0] or "core"
        name = f"meta.v1.{kind}" if kind in _FOR_EVERY_GROUP else f"{package}.{version}.{kind}"
        if name not in _messages():
            raise UnsupportedMediaType(
                f"the body of the request is {kind} of {api_version} in protobuf, which is not understood for this "
                "kind: send application/json or application/yaml"
            )
        made = _message(_chunk(envelope.get(2, b"")), name, 0)
    except (_Malformed, UnicodeDecodeError, struct.error, OverflowError) as error:
        raise BadRequest(f"the body is not a Kubernetes protobuf message: {error}") from error
    return {"apiVersion": api_version, "kind": kind, **made}


def _chunk(value: Any) -> memoryview:
    if isinstance(value, int):
        raise _Malformed("a number where a message should be")
    return memoryview(value)


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise _Malformed("a number does not end")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7


def _entries(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Field numbers and raw values: int for varints, bytes for everything else."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        wire = tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        if wire == _BYTES:
            size, position = _varint(data, position)
        elif wire in {_FIXED64, _FIXED32}:
            size = 8 if wire == _FIXED64 else 4
        else:
            raise _Malformed(f"wire type {wire} is not used by Kubernetes")
        if position + size > len(data):
            raise _Malformed("it is shorter than it says")
        yield tag >> 3, data[position : position + size]
        position += size


def _message(data: memoryview, name: str, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise _Malformed("it is nested too deeply")
    fields = _messages().get(name, {})
    made: dict[str, Any] = {}
    for number, raw in _entries(data):
        known = fields.get(str(number))
        if known is None:
            continue
        json_name, kind, flags = known
        if "%" in flags:
            key, value = _pair(_chunk(raw), kind, depth)
            made.setdefault(json_name, {})[key] = value
            continue
        value = _value(raw, kind, depth)
        if "*" in flags:
            made.setdefault(json_name, []).append(value)
        elif "i" in flags:
            made.update(value or {})
        elif value is not None and ("z" in flags or value not in ("", 0, 0.0, False, {}, "0")):
            made[json_name] = value
    return made


def _pair(data: memoryview, kind: str, depth: int) -> tuple[str, Any]:
    entry = dict(_entries(data))
    value = entry.get(2, 0 if kind in {"int", "bool"} else b"")
    return bytes(_chunk(entry.get(1, b""))).decode(), _value(value, kind, depth)


def _value(raw: Any, kind: str, depth: int) -> Any:
    match kind:
        case "string":
            return bytes(_chunk(raw)).decode()
        case "int":
            return _signed(raw)
        case "bool":
            return bool(_signed(raw))
        case "bytes":
            return base64.b64encode(_chunk(raw)).decode()
        case "double":
            return struct.unpack("<d", _chunk(raw))[0]
        case "time":
            return _time(_chunk(raw))
        case "quantity":
            return bytes(_chunk(dict(_entries(_chunk(raw))).get(1, b""))).decode() or "0"
        case "intstr":
            return _int_or_string(_chunk(raw))
        case "strings":
            return [bytes(_chunk(v)).decode() for n, v in _entries(_chunk(raw)) if n == 1]
        case "raw":
            return _raw_json(_chunk(raw))
        case "duration":
            return f"{_signed(dict(_entries(_chunk(raw))).get(1, 0)) / 1e9:g}s"
        case _:
            return _message(_chunk(raw), kind, depth + 1)


def _signed(raw: Any) -> int:
    if not isinstance(raw, int):
        raise _Malformed("a message where a number should be")
    return raw - (1 << 64) if raw >> 63 else raw


def _time(data: memoryview) -> str | None:
    entry = dict(_entries(data))
    if not entry:
        return None
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=_signed(entry.get(1, 0)))
    nanos = _signed(entry.get(2, 0))
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{nanos // 1000:06d}Z" if nanos else f"{text}Z"


def _int_or_string(data: memoryview) -> int | str:
    entry = dict(_entries(data))
    if _signed(entry.get(1, 0)):
        return bytes(_chunk(entry.get(3, b""))).decode()
    return _signed(entry.get(2, 0))


def _raw_json(data: memoryview) -> Any:
    raw = bytes(_chunk(dict(_entries(data)).get(1, b"")))
    try:
        return _wire.decode_any(raw) if raw else None
    except _wire.DecodeError as error:
        raise _Malformed(f"a part that should be JSON is not: {error}") from error

"""The binary form of V2 tensors (Triton's binary_data extension): JSON first, then the tensors' bytes, row by row.

Numbers are little-endian; BYTES elements stand each behind their length in four bytes.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

HEADER = b"inference-header-content-length"


class Malformed(ValueError):
    """The bytes are not what the JSON says."""


def split(body: bytes, json_length: bytes | None) -> tuple[bytes, memoryview]:
    """The JSON and what follows it. Raises Malformed."""
    if json_length is None:
        return body, memoryview(b"")
    if not json_length.isdigit() or int(json_length) > len(body):
        raise Malformed(f"The header {HEADER.decode()} is not the length of the JSON part.")
    return body[: int(json_length)], memoryview(body)[int(json_length) :]


def read(data: memoryview, kind: Any, name: str) -> Any:
    """A flat array. Raises Malformed."""
    if kind is np.object_:
        return np.array(_strings(bytes(data), name), dtype=np.object_)
    dtype = np.dtype(kind).newbyteorder("<")
    if len(data) % dtype.itemsize:
        raise Malformed(f"Input {name!r} has {len(data)} bytes, which is no whole number of {dtype.name} values.")
    return np.frombuffer(data, dtype=dtype).astype(kind)


def _strings(data: bytes, name: str) -> list[str]:
    found, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        at += 4
        if at + length > len(data):
            raise Malformed(f"Input {name!r} ends in the middle of a string.")
        found.append(data[at : at + length].decode("utf-8", "replace"))
        at += length
    return found


def write(array: Any) -> bytes:
    """The bytes of an array."""
    if array.dtype.kind in "OUS":
        words = (v if isinstance(v, bytes) else str(v).encode() for v in array.ravel())
        return b"".join(struct.pack("<I", len(word)) + word for word in words)
    data: bytes = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    return data

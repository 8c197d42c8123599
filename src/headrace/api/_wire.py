"""The one place that calls encoders.

Wire types are msgspec Structs; everything that crosses a boundary as JSON passes through here, so that the
choice of encoder, the treatment of unknown fields (dropped on decode) and of defaults (omitted on encode)
are decided once.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, cast

import msgspec

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_canonical_encoder = msgspec.json.Encoder(order="sorted")
_any_decoder = msgspec.json.Decoder()

DecodeError = msgspec.DecodeError
ValidationError = msgspec.ValidationError
_TOO_DEEP = "it is nested too deeply"


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, strict=True)


def encode(value: object) -> bytes:
    """JSON bytes of a Struct, dict or list. Fields at their default are omitted from Structs."""
    return _encoder.encode(value)


def encode_to_keep(value: object) -> bytes:
    """As `encode`, for bytes that stay: the encoder's own have half their length of unused memory behind them."""
    return bytes(memoryview(_encoder.encode(value)))


def encode_sorted(value: object) -> bytes:
    """As `encode`, with keys in order: equal values give equal bytes."""
    return _canonical_encoder.encode(value)


def pretty(value: object) -> str:
    """JSON for people, indented by two."""
    return msgspec.json.format(_encoder.encode(value), indent=2).decode()


def decode(kind: type[T], raw: bytes | str) -> T:
    """A typed value from JSON. Raises ValidationError (wrong shape) or DecodeError (not JSON, or too deep)."""
    try:
        return cast("T", _decoder(cast("Any", kind)).decode(raw))
    except RecursionError as error:
        raise DecodeError(_TOO_DEEP) from error


def decode_any(raw: bytes | str) -> Any:
    """Plain dicts, lists and scalars from JSON. Raises DecodeError, also for what is nested too deeply."""
    try:
        return _any_decoder.decode(raw)
    except RecursionError as error:
        raise DecodeError(_TOO_DEEP) from error


def clone(value: T) -> T:
    """A deep copy of plain JSON values; a good ten times faster than `copy.deepcopy`."""
    return cast("T", _any_decoder.decode(_encoder.encode(value)))


def to_builtins(value: object) -> Any:
    """A Struct as plain dicts and lists, with wire names, defaults omitted."""
    return msgspec.to_builtins(value)


def convert(kind: type[T], value: object) -> T:
    """A typed value from plain dicts and lists. Raises ValidationError."""
    return msgspec.convert(value, kind, strict=True)

"""Values while an expression runs, and what all functions share: kinds, equality, numbers, text.

JSON's types stand for themselves (bool, int, float, str, list, dict, None). Whatever walks a value spends cost for
it, because nested values may share their parts and then are exponentially larger than the memory they take.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Spend = Callable[[int], None]

INT_MAX = (1 << 63) - 1
NANO = 1_000_000_000


class EvalError(Exception):
    """The expression has no value for this input."""


class CostExceeded(Exception):
    """The expression costs more than it may; nothing catches this on the way."""


class UInt(int):
    """An unsigned integer."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """Nanoseconds."""

    ns: int


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """Nanoseconds since 1970, UTC."""

    ns: int


@dataclass(frozen=True, slots=True)
class TypeValue:
    """A type as a value."""

    name: str


@dataclass(frozen=True, slots=True)
class Optional:
    """A value or nothing."""

    value: Any = None
    there: bool = True


NOTHING = Optional(None, there=False)


class SetList(list[Any]):
    """A list of x-kubernetes-list-type set: order does not matter."""


class MapList(list[Any]):
    """A list of x-kubernetes-list-type map."""

    keys: tuple[str, ...] = ()

    def identity(self, item: Any) -> tuple[Any, ...]:
        """What tells an element from the others."""
        return tuple(str(item.get(k)) for k in self.keys) if isinstance(item, dict) else ()


_KINDS: dict[type, str] = {
    bool: "bool",
    int: "int",
    UInt: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    type(None): "null",
    list: "list",
    SetList: "list",
    MapList: "list",
    dict: "map",
    Timestamp: "timestamp",
    Duration: "duration",
    TypeValue: "type",
    Optional: "optional",
}
_NUMBERS = frozenset({"int", "uint", "double"})


def kind(value: Any) -> str:
    """The name of a value's type. Classes of libraries say theirs in KIND."""
    return _KINDS.get(type(value)) or str(type(value).KIND)


def is_number(value: Any) -> bool:
    """Whether this is an int, uint or double."""
    return kind(value) in _NUMBERS


def equal(a: Any, b: Any, spend: Spend) -> bool:
    """CEL's equality: numbers by value whatever their types, everything else within its own type."""
    left, right = kind(a), kind(b)
    if left in _NUMBERS and right in _NUMBERS:
        return bool(a == b)
    if left != right:
        return False
    if left == "list":
        return _same_lists(a, b, spend)
    if left == "map":
        spend(1 + len(a))
        return len(a) == len(b) and all(k in b and equal(v, b[k], spend) for k, v in a.items())
    if left == "optional":
        return bool(a.there == b.there and equal(a.value, b.value, spend))
    if left in {"string", "bytes"}:
        spend(min(len(a), len(b)) // 10)
    return bool(a == b)


def _same_lists(a: list[Any], b: list[Any], spend: Spend) -> bool:
    spend(5 + len(a))
    if len(a) != len(b):
        return False
    if isinstance(a, SetList):
        return all(contains(b, x, spend) for x in a)
    if isinstance(a, MapList):
        others = {a.identity(x): x for x in b}
        return all(a.identity(x) in others and equal(x, others[a.identity(x)], spend) for x in a)
    return all(equal(x, y, spend) for x, y in zip(a, b, strict=True))


def contains(items: list[Any], wanted: Any, spend: Spend) -> bool:
    """Whether an equal value is among these."""
    for item in items:
        spend(1)
        if equal(item, wanted, spend):
            return True
    return False


def concatenated(a: list[Any], b: list[Any], spend: Spend) -> list[Any]:
    """`a + b`; sets and maps stay what they are."""
    spend((len(a) + len(b)) // 10 + 1)
    if isinstance(a, SetList):
        return SetList([*a, *(x for x in b if not contains(a, x, spend))])
    if isinstance(a, MapList):
        merged = {a.identity(x): x for x in a} | {a.identity(x): x for x in b}
        out = MapList(merged.values())
        out.keys = a.keys
        return out
    return [*a, *b]


def checked(number: int) -> int:
    """An int that has not overflowed. Raises EvalError."""
    if -INT_MAX - 1 <= number <= INT_MAX:
        return number
    raise EvalError("integer overflow")


def checked_uint(number: int) -> UInt:
    """A uint that has not overflowed. Raises EvalError."""
    if 0 <= number <= 2 * INT_MAX + 1:
        return UInt(number)
    raise EvalError("unsigned integer overflow")


_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_UNITS = {"h": 3600 * NANO, "m": 60 * NANO, "s": NANO, "ms": 1_000_000, "us": 1_000, "µs": 1_000, "μs": 1_000, "ns": 1}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def parse_timestamp(text: str) -> Timestamp:
    """RFC 3339. Raises EvalError."""
    match = _RFC3339.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text[:40])  # noqa: TRY301 - one message for all
        day, time, fraction, zone = match.groups()
        moment = dt.datetime.fromisoformat(f"{day}T{time}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError as error:
        raise EvalError(f'parsing time "{text[:64]}": it is not RFC 3339') from error
    whole = moment - _EPOCH
    return Timestamp((whole.days * 86400 + whole.seconds) * NANO + int((fraction or "0").ljust(9, "0")))


def parse_duration(text: str) -> Duration:
    """`1h30m`, as Go writes it. Raises EvalError."""
    sign, rest = (-1 if text[:1] == "-" else 1), text.lstrip("+-")
    if rest == "0":
        return Duration(0)
    total, at = 0.0, 0
    exact = 0
    while at < len(rest):
        match = _PART.match(rest, at)
        if match is None:
            break
        number, unit = match.groups()
        if number.isdigit():
            exact += int(number[:30]) * _UNITS[unit]
        else:
            total += float(number) * _UNITS[unit]
        at = match.end()
    if not rest or at < len(rest) or len(text) - len(rest) > 1:
        raise EvalError(f'time: invalid duration "{text[:64]}"')
    return Duration(checked(sign * (exact + round(total))))


def moment(value: Timestamp, zone: str = "") -> dt.datetime:
    """The date and time in a zone: a name, or an offset such as `-02:00`. Raises EvalError."""
    try:
        at = _EPOCH + dt.timedelta(microseconds=value.ns // 1000)
        return at.astimezone(_zone(zone)) if zone else at
    except (OverflowError, ValueError) as error:
        raise EvalError("timestamp out of range") from error


def _zone(name: str) -> dt.tzinfo:
    offset = re.fullmatch(r"([+-]?)(\d\d):(\d\d)", name, re.ASCII)
    if offset:
        sign, hours, minutes = offset.groups()
        delta = dt.timedelta(hours=int(hours), minutes=int(minutes))
        return dt.timezone(-delta if sign == "-" else delta)
    import zoneinfo  # noqa: PLC0415 - few expressions name a zone

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise EvalError(f"unknown time zone {name[:64]}") from error


def text_of(value: Any) -> str:
    """`string(value)` of what has one."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(int(value))
        case float():
            return text_of_double(value)
        case Duration():
            whole, rest = divmod(abs(value.ns), NANO)
            fraction = f".{rest:09d}".rstrip("0") if rest else ""
            return f"{'-' if value.ns < 0 else ''}{whole}{fraction}s"
        case Timestamp():
            rest = value.ns % NANO
            fraction = f".{rest:09d}".rstrip("0") if rest else ""
            return f"{moment(value):%Y-%m-%dT%H:%M:%S}{fraction}Z"
        case TypeValue():
            return value.name
        case _:
            return str(value)


def text_of_double(value: float) -> str:
    """The shortest text, as Go's %v."""
    if value != value:  # noqa: PLR0124 - NaN
        return "NaN"
    if value in {float("inf"), float("-inf")}:
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    size = abs(value)
    if value and (size >= 1e21 or size < 1e-4):
        mantissa, _, power = (text if "e" in text else f"{value:e}").partition("e")
        return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(power):+03d}"
    if "e" in text:
        text = f"{value:.0f}"
    return text.removesuffix(".0")

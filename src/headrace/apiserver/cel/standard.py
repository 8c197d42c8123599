"""The operators and functions of the language itself, and of optional values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from headrace.apiserver.cel import regex
from headrace.apiserver.cel import values as v
from headrace.apiserver.cel.functions import Row
from headrace.apiserver.cel.values import NANO, NOTHING, Duration, EvalError, Optional, Timestamp, TypeValue, UInt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _divide(a: int, b: int) -> int:
    if not b:
        raise EvalError("division by zero")
    quotient = abs(a) // abs(b)
    return v.checked(quotient if (a < 0) == (b < 0) else -quotient)


def _modulo(a: int, b: int) -> int:
    if not b:
        raise EvalError("modulus by zero")
    return int(math.copysign(1, a)) * (abs(a) % abs(b))


def _fraction(a: float, b: float) -> float:
    if b:
        return a / b
    return math.nan if not a or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)


def _nonzero(b: int, what: str) -> int:
    if not b:
        raise EvalError(f"{what} by zero")
    return b


def _plus(a: float, b: float) -> float:
    return a + b


def _to_int(x: Any) -> int:
    if isinstance(x, float):
        if not -(2.0**63) < x < 2.0**63:
            raise EvalError("integer overflow")
        return int(x)
    return v.checked(int(x))


def _text_to_int(x: str) -> int:
    try:
        if len(x) > 24 or "_" in x or x != x.strip():
            raise ValueError(x[:40])  # noqa: TRY301 - one message for all
        return v.checked(int(x))
    except ValueError as error:
        raise EvalError(f'strconv.ParseInt: parsing "{x[:40]}": invalid syntax') from error


def _text_to_double(x: str) -> float:
    try:
        if len(x) > 400 or "_" in x or x != x.strip():
            raise ValueError(x[:40])  # noqa: TRY301 - one message for all
        return float(x)
    except ValueError as error:
        raise EvalError(f'strconv.ParseFloat: parsing "{x[:40]}": invalid syntax') from error


def _text_to_bool(x: str) -> bool:
    if x in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if x in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise EvalError(f'strconv.ParseBool: parsing "{x[:40]}": invalid syntax')


def _to_uint(x: Any) -> UInt:
    if isinstance(x, float) and not 0 <= x < 2.0**64:
        raise EvalError("unsigned integer overflow")
    return v.checked_uint(int(x))


def _bytes_to_text(x: bytes) -> str:
    try:
        return x.decode()
    except UnicodeDecodeError as error:
        raise EvalError("invalid UTF-8 in bytes, cannot convert to string") from error


def type_name(x: Any) -> str:
    """What `type(x)` is called."""
    name = v.kind(x)
    return {"null": "null_type", "timestamp": "google.protobuf.Timestamp", "duration": "google.protobuf.Duration"}.get(
        name, name
    )


def _tenth(x: Any, *_: Any) -> int:
    return len(x) // 10


def _both(x: Any, y: Any) -> int:
    return (len(x) + len(y)) // 10


def _arithmetic() -> Iterator[Row]:
    checked = v.checked
    yield Row("_+_", "int,int", "int", lambda a, b: checked(a + b))
    yield Row("_-_", "int,int", "int", lambda a, b: checked(a - b))
    yield Row("_*_", "int,int", "int", lambda a, b: checked(a * b))
    yield Row("_/_", "int,int", "int", _divide)
    yield Row("_%_", "int,int", "int", _modulo)
    yield Row("-_", "int", "int", lambda a: checked(-a))
    unsigned = v.checked_uint
    yield Row("_+_", "uint,uint", "uint", lambda a, b: unsigned(int(a) + int(b)))
    yield Row("_-_", "uint,uint", "uint", lambda a, b: unsigned(int(a) - int(b)))
    yield Row("_*_", "uint,uint", "uint", lambda a, b: unsigned(int(a) * int(b)))
    yield Row("_/_", "uint,uint", "uint", lambda a, b: unsigned(int(a) // _nonzero(b, "division")))
    yield Row("_%_", "uint,uint", "uint", lambda a, b: unsigned(int(a) % _nonzero(b, "modulus")))
    yield Row("_+_", "double,double", "double", _plus)
    yield Row("_-_", "double,double", "double", lambda a, b: a - b)
    yield Row("_*_", "double,double", "double", lambda a, b: a * b)
    yield Row("_/_", "double,double", "double", _fraction)
    yield Row("-_", "double", "double", lambda a: -a)
    yield Row("_+_", "string,string", "string", lambda a, b: a + b, cost=_both)
    yield Row("_+_", "bytes,bytes", "bytes", lambda a, b: a + b, cost=_both)
    yield Row("_+_", "list<A>,list<A>", "list<A>", lambda spend, a, b: v.concatenated(a, b, spend), spends=True)
    yield Row("_+_", "duration,duration", "duration", lambda a, b: Duration(checked(a.ns + b.ns)))
    yield Row("_+_", "timestamp,duration", "timestamp", lambda a, b: Timestamp(a.ns + b.ns))
    yield Row("_+_", "duration,timestamp", "timestamp", lambda a, b: Timestamp(a.ns + b.ns))
    yield Row("_-_", "duration,duration", "duration", lambda a, b: Duration(checked(a.ns - b.ns)))
    yield Row("_-_", "timestamp,timestamp", "duration", lambda a, b: Duration(checked(a.ns - b.ns)))
    yield Row("_-_", "timestamp,duration", "timestamp", lambda a, b: Timestamp(a.ns - b.ns))
    yield Row("!_", "bool", "bool", lambda a: not a)


def _orders() -> Iterator[Row]:
    numbers = ("int", "uint", "double")
    pairs = [(a, a) for a in ("bool", *numbers, "string", "bytes", "timestamp", "duration")]
    pairs += [(a, b) for a in numbers for b in numbers if a != b]
    operators: dict[str, Callable[[Any, Any], bool]] = {
        "_<_": lambda a, b: a < b,
        "_<=_": lambda a, b: a <= b,
        "_>_": lambda a, b: a > b,
        "_>=_": lambda a, b: a >= b,
    }
    for name, code in operators.items():
        for left, right in pairs:
            sized = left in {"string", "bytes"}
            yield Row(name, f"{left},{right}", "bool", code, cost=_both if sized else None)
    yield Row("_==_", "A,A", "bool", lambda spend, a, b: v.equal(a, b, spend), spends=True)
    yield Row("_!=_", "A,A", "bool", lambda spend, a, b: not v.equal(a, b, spend), spends=True)
    yield Row("@in", "A,list<A>", "bool", lambda spend, a, b: v.contains(b, a, spend), spends=True)
    yield Row("@in", "A,map<A,B>", "bool", lambda a, b: a in b)


def _index_list(items: list[Any], index: int) -> Any:
    if not 0 <= index < len(items):
        raise EvalError(f"index out of bounds: {index}")
    return items[index]


def _index_map(mapping: dict[Any, Any], key: Any) -> Any:
    if key not in mapping:
        raise EvalError(f"no such key: {v.text_of(key)}")
    return mapping[key]


def _try_list(items: list[Any], index: int) -> Optional:
    return Optional(items[index]) if 0 <= index < len(items) else NOTHING


def _try_map(mapping: dict[Any, Any], key: Any) -> Optional:
    return Optional(mapping[key]) if key in mapping else NOTHING


def _try_optional(outer: Optional, key: Any) -> Optional:
    if not outer.there:
        return NOTHING
    inner = outer.value
    if isinstance(inner, dict):
        return _try_map(inner, key)
    if isinstance(inner, list) and isinstance(key, int):
        return _try_list(inner, key)
    raise EvalError("no such overload")


def _value(x: Optional) -> Any:
    if not x.there:
        raise EvalError("optional.none() dereference")
    return x.value


def _zero(x: Any) -> bool:
    return x is None or x in (0, "", b"", False) or (isinstance(x, list | dict) and not x)


def _access() -> Iterator[Row]:
    yield Row("_[_]", "list<A>,int", "A", _index_list)
    yield Row("_[_]", "map<A,B>,A", "B", _index_map)
    yield Row("_[?_]", "list<A>,int", "optional<A>", _try_list)
    yield Row("_[?_]", "map<A,B>,A", "optional<B>", _try_map)
    yield Row("_[?_]", "optional<list<A>>,int", "optional<A>", _try_optional)
    yield Row("_[?_]", "optional<map<A,B>>,A", "optional<B>", _try_optional)
    yield Row("_[_]", "optional<list<A>>,int", "optional<A>", _try_optional)
    yield Row("_[_]", "optional<map<A,B>>,A", "optional<B>", _try_optional)
    for name, method in (("size", False), ("size", True)):
        for kind in ("string", "bytes", "list<A>", "map<A,B>"):
            yield Row(name, kind, "int", len, method=method)
    yield Row("optional.of", "A", "optional<A>", Optional)
    yield Row("optional.ofNonZeroValue", "A", "optional<A>", lambda x: NOTHING if _zero(x) else Optional(x))
    yield Row("optional.none", "", "optional<A>", lambda: NOTHING)
    yield Row("hasValue", "optional<A>", "bool", lambda x: x.there, method=True)
    yield Row("value", "optional<A>", "A", _value, method=True)
    yield Row("orValue", "optional<A>,A", "A", lambda x, other: x.value if x.there else other, method=True)
    yield Row("or", "optional<A>,optional<A>", "optional<A>", lambda x, other: x if x.there else other, method=True)


def _conversions() -> Iterator[Row]:
    for kind in ("int", "uint", "double", "timestamp"):
        code: Any = (lambda x: x.ns // NANO) if kind == "timestamp" else _to_int
        yield Row("int", kind, "int", code)
    yield Row("int", "duration", "int", lambda x: x.ns)
    yield Row("int", "string", "int", _text_to_int)
    for kind in ("int", "uint", "double"):
        yield Row("uint", kind, "uint", _to_uint)
        yield Row("double", kind, "double", float)
    yield Row("uint", "string", "uint", lambda x: v.checked_uint(_text_to_int(x)))
    yield Row("double", "string", "double", _text_to_double)
    for kind in ("bool", "int", "uint", "double", "timestamp", "duration"):
        yield Row("string", kind, "string", v.text_of)
    yield Row("string", "string", "string", lambda x: x)
    yield Row("string", "bytes", "string", _bytes_to_text, cost=_tenth)
    yield Row("bytes", "string", "bytes", lambda x: x.encode(), cost=_tenth)
    yield Row("bytes", "bytes", "bytes", lambda x: x)
    yield Row("bool", "bool", "bool", lambda x: x)
    yield Row("bool", "string", "bool", _text_to_bool)
    yield Row("timestamp", "string", "timestamp", v.parse_timestamp)
    yield Row("timestamp", "int", "timestamp", lambda x: Timestamp(x * NANO))
    yield Row("timestamp", "timestamp", "timestamp", lambda x: x)
    yield Row("duration", "string", "duration", v.parse_duration)
    yield Row("duration", "int", "duration", Duration)
    yield Row("duration", "duration", "duration", lambda x: x)
    yield Row("dyn", "A", "dyn", lambda x: x)
    yield Row("type", "A", "type", lambda x: TypeValue(type_name(x)))


def _texts() -> Iterator[Row]:
    yield Row("contains", "string,string", "bool", lambda a, b: b in a, method=True, cost=_both)
    yield Row(
        "startsWith", "string,string", "bool", lambda a, b: a.startswith(b), method=True, cost=lambda _, b: len(b) // 10
    )
    yield Row(
        "endsWith", "string,string", "bool", lambda a, b: a.endswith(b), method=True, cost=lambda _, b: len(b) // 10
    )
    yield Row("matches", "string,string", "bool", regex.matches, method=True, cost=regex.cost)
    yield Row("matches", "string,string", "bool", regex.matches, cost=regex.cost)


def _times() -> Iterator[Row]:
    parts: dict[str, Callable[[Any], int]] = {
        "getFullYear": lambda d: d.year,
        "getMonth": lambda d: d.month - 1,
        "getDate": lambda d: d.day,
        "getDayOfMonth": lambda d: d.day - 1,
        "getDayOfWeek": lambda d: d.isoweekday() % 7,
        "getDayOfYear": lambda d: d.timetuple().tm_yday - 1,
        "getHours": lambda d: d.hour,
        "getMinutes": lambda d: d.minute,
        "getSeconds": lambda d: d.second,
        "getMilliseconds": lambda d: d.microsecond // 1000,
    }
    for name, part in parts.items():

        def of_time(x: Timestamp, zone: str = "", part: Callable[[Any], int] = part) -> int:
            return part(v.moment(x, zone))

        yield Row(name, "timestamp", "int", of_time, method=True)
        yield Row(name, "timestamp,string", "int", of_time, method=True)
    units = {"getHours": 3600 * NANO, "getMinutes": 60 * NANO, "getSeconds": NANO, "getMilliseconds": 1_000_000}
    for name, unit in units.items():

        def of_span(x: Duration, unit: int = unit) -> int:
            whole = abs(x.ns) // unit
            return whole if x.ns >= 0 else -whole

        yield Row(name, "duration", "int", of_span, method=True)


ROWS = (*_arithmetic(), *_orders(), *_access(), *_conversions(), *_texts(), *_times())

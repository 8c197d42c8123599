"""The strings extension (cel-go ext.Strings, version 2) and Kubernetes' regular expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.apiserver.cel import regex
from headrace.apiserver.cel import values as v
from headrace.apiserver.cel.functions import Row
from headrace.apiserver.cel.values import EvalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.apiserver.cel.values import Spend

_ASCII_LOWER = {c: c + 32 for c in range(65, 91)}
_ASCII_UPPER = {c: c - 32 for c in range(97, 123)}
_MAX_PRECISION = 1000


def _tenth(x: Any, *_: Any) -> int:
    return len(x) // 10


def _char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise EvalError(f"index out of range: {index}")
    return text[index : index + 1]


def _index_of(text: str, wanted: str, start: int = 0) -> int:
    if not 0 <= start <= len(text):
        if not wanted and start == len(text):
            return start
        raise EvalError(f"index out of range: {start}")
    return text.find(wanted, start)


def _last_index_of(text: str, wanted: str, start: int | None = None) -> int:
    if start is None:
        return text.rfind(wanted)
    if not 0 <= start <= len(text):
        raise EvalError(f"index out of range: {start}")
    return text.rfind(wanted, 0, start + len(wanted))


def _replace(spend: Spend, text: str, old: str, new: str, limit: int = -1) -> str:
    times = text.count(old) if limit < 0 else min(text.count(old), limit)
    spend((len(text) + times * len(new)) // 10)
    return text.replace(old, new, limit if limit >= 0 else -1)


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if not limit:
        return []
    if not separator:
        parts = list(text)
        return parts if limit < 0 or len(parts) <= limit else [*parts[: limit - 1], "".join(parts[limit - 1 :])]
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _substring(text: str, start: int, end: int | None = None) -> str:
    end = len(text) if end is None else end
    if not 0 <= start <= len(text):
        raise EvalError(f"index out of range: {start}")
    if not 0 <= end <= len(text):
        raise EvalError(f"index out of range: {end}")
    if start > end:
        raise EvalError(f"invalid substring range. start: {start}, end: {end}")
    return text[start:end]


def _join(spend: Spend, items: list[str], separator: str = "") -> str:
    spend((sum(map(len, items)) + len(separator) * len(items)) // 10)
    return separator.join(items)


def _quote(text: str) -> str:
    pairs = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
    pairs |= {"\\": "\\\\", '"': '\\"'}
    return '"' + "".join(pairs.get(c, c) for c in text) + '"'


def _format(spend: Spend, pattern: str, args: list[Any]) -> str:
    out, i, used = [], 0, 0
    while i < len(pattern):
        char = pattern[i]
        i += 1
        if char != "%":
            out.append(char)
            continue
        if pattern[i : i + 1] == "%":
            out.append("%")
            i += 1
            continue
        precision = 6
        if pattern[i : i + 1] == ".":
            end = i + 1
            while pattern[end : end + 1].isdecimal():
                end += 1
            precision = int(pattern[i + 1 : end][:6] or "0")
            i = end
        if precision > _MAX_PRECISION:
            raise EvalError(f"precision {precision} is above {_MAX_PRECISION}")
        verb = pattern[i : i + 1]
        i += 1
        if used >= len(args):
            raise EvalError(f"index {used} out of range")
        shown = _verb(spend, verb, args[used], precision)
        used += 1
        spend(len(shown) // 10)
        out.append(shown)
    return "".join(out)


def _verb(spend: Spend, verb: str, value: Any, precision: int) -> str:
    kind = v.kind(value)
    match verb:
        case "s":
            return _shown(spend, value)
        case "d" if kind in {"int", "uint"}:
            return str(int(value))
        case "f" if kind in {"int", "uint", "double"}:
            return f"{value:.{precision}f}"
        case "e" if kind in {"int", "uint", "double"}:
            return f"{value:.{precision}e}"
        case "b" if kind in {"int", "uint", "bool"}:
            return f"{int(value):b}"
        case "o" if kind in {"int", "uint"}:
            return f"{int(value):o}"
        case "x" | "X":
            hexed = f"{value:x}" if kind in {"int", "uint"} else ""
            if kind in {"string", "bytes"}:
                hexed = (value.encode() if isinstance(value, str) else value).hex()
            if hexed:
                return hexed.upper() if verb == "X" else hexed
    if verb and verb in "dfebosxX":
        raise EvalError(f"error during formatting: %{verb} clause cannot be used on {kind}")
    raise EvalError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')


def _shown(spend: Spend, value: Any) -> str:
    spend(1)
    match v.kind(value):
        case "list":
            return f"[{', '.join(_shown(spend, x) for x in value)}]"
        case "map":
            pairs = sorted((_shown(spend, k), _shown(spend, x)) for k, x in value.items())
            return "{" + ", ".join(f"{k}: {x}" for k, x in pairs) + "}"
        case "null":
            return "null"
        case "bytes":
            return str(value.decode(errors="replace"))
        case "string":
            spend(len(value) // 10)
            return str(value)
        case "bool" | "int" | "uint" | "double" | "timestamp" | "duration" | "type":
            return v.text_of(value)
        case other:
            raise EvalError(
                "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, "
                f"maps, lists, types, durations, and timestamps, was given {other}"
            )


def _rows() -> Iterator[Row]:
    def of(name: str, args: str, result: str, code: Any, **more: Any) -> Row:
        more.setdefault("cost", None if more.get("spends") else _tenth)
        return Row(name, args, result, code, method=True, **more)

    yield of("charAt", "string,int", "string", _char_at, cost=None)
    for name, code in (("indexOf", _index_of), ("lastIndexOf", _last_index_of)):
        yield of(name, "string,string", "int", code)
        yield of(name, "string,string,int", "int", code)
    yield of("join", "list<string>", "string", _join, spends=True)
    yield of("join", "list<string>,string", "string", _join, spends=True)
    yield of("lowerAscii", "string", "string", lambda x: x.translate(_ASCII_LOWER))
    yield of("upperAscii", "string", "string", lambda x: x.translate(_ASCII_UPPER))
    yield of("replace", "string,string,string", "string", _replace, spends=True)
    yield of("replace", "string,string,string,int", "string", _replace, spends=True)
    yield of("split", "string,string", "list<string>", _split)
    yield of("split", "string,string,int", "list<string>", _split)
    yield of("substring", "string,int", "string", _substring)
    yield of("substring", "string,int,int", "string", _substring)
    yield of("trim", "string", "string", str.strip)
    yield of("reverse", "string", "string", lambda x: x[::-1])
    yield of("format", "string,list<dyn>", "string", _format, spends=True)
    yield Row("strings.quote", "string", "string", _quote, cost=_tenth)
    yield of("find", "string,string", "string", regex.find, cost=regex.cost)
    yield of("findAll", "string,string", "list<string>", regex.find_all, cost=regex.cost)
    yield of("findAll", "string,string,int", "list<string>", regex.find_all, cost=regex.cost)


ROWS = tuple(_rows())

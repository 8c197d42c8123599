"""Custom resources: `additionalPrinterColumns` of their CRD, the name first, the age where none is declared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.apiserver.tables.base import NAME, UNKNOWN, Column, Printer, human_duration, name, parse_time
from headrace.apiserver.tables.jsonpath import BadPath, Path, compile_path

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from headrace.apiserver.tables.base import JSON

AGE_COLUMN = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def printer(columns: Sequence[JSON]) -> Printer:
    """A printer for the columns that a CRD version declares (raw JSON of `additionalPrinterColumns`)."""
    declared = list(columns) or [AGE_COLUMN]
    paths = [_path(c) for c in declared]
    types = [str(c.get("type", "string")) for c in declared]

    def cells(obj: JSON, now: dt.datetime) -> list[Any]:
        return [name(obj), *(_cell(p, t, obj, now) for p, t in zip(paths, types, strict=True))]

    return Printer((NAME, *(_column(c) for c in declared)), cells)


def _column(declared: JSON) -> Column:
    return Column(
        name=str(declared.get("name", "")),
        type=str(declared.get("type", "string")),
        format=str(declared.get("format") or ""),
        description=str(declared.get("description") or ""),
        priority=int(declared.get("priority") or 0),
    )


def _path(declared: JSON) -> Path | None:
    try:
        return compile_path(str(declared.get("jsonPath", "")))
    except BadPath:
        return None


def _cell(path: Path | None, type_: str, obj: JSON, now: dt.datetime) -> Any:
    found = path.find(obj) if path else []
    if not found:
        return None
    value = found[0] if len(found) == 1 else None
    match type_:
        case "date":
            moment = parse_time(found[0])
            return human_duration((now - moment).total_seconds()) if moment else UNKNOWN
        case "integer" | "number" | "boolean" if isinstance(value, int | float | bool):
            return value
        case "integer" | "number" | "boolean":
            return None
        case _:
            return value if isinstance(value, str) else _text(found)


def _text(found: list[Any]) -> str:
    """Several values are joined by commas, as upstream prints a path with a wildcard."""
    return ",".join(v if isinstance(v, str) else _wire.encode(v).decode() for v in found)

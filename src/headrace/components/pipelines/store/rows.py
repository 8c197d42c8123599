"""Between SQL rows and the values of `models`."""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.components.pipelines.store import models as m

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import RowMapping

T = TypeVar("T")

_AT_ONCE = 500
_ENUMS: dict[type, dict[str, Any]] = {
    m.Experiment: {"storage_state": m.StorageState},
    m.Run: {"storage_state": m.StorageState, "state": m.RuntimeState},
    m.RecurringRun: {"status": m.Status},
    m.FollowUp: {"kind": m.FollowUpKind},
    m.TaskRow: {"type": m.TaskType, "state": m.RuntimeState},
}


def from_row(kind: type[T], row: RowMapping) -> T:
    """A value from a row's mapping; columns that the value does not have are left out."""
    known = _names(kind)
    values = {name: value for name, value in row.items() if name in known}
    for name, enum in _ENUMS.get(kind, {}).items():
        values[name] = enum(values[name])
    return kind(**values)


def to_row(value: Any, *leave_out: str) -> dict[str, Any]:
    """Column values of a value."""
    return {name: getattr(value, name) for name in _names(type(value)) if name not in leave_out}


def _names(kind: Any) -> dict[str, None]:
    """The names of a dataclass's fields, in their order."""
    return _fields(kind)


@functools.cache
def _fields(kind: Any) -> dict[str, None]:
    return dict.fromkeys(f.name for f in fields(kind))


def parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many at a time as one statement may name: databases bound their parameters."""
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]


def history_entry(now: dt.datetime, state: m.RuntimeState, code: int = 0, message: str = "") -> m.StatusEntry:
    """An entry of a state history."""
    entry = m.StatusEntry(update_time=rfc3339(now), state=state.value)
    if message:
        entry["error"] = {"code": code, "message": message}
    return entry


def rfc3339(moment: dt.datetime) -> str:
    """`2026-08-21T21:10:03.123456Z`, as protobuf's JSON has timestamps."""
    text = moment.isoformat(timespec="microseconds" if moment.microsecond else "seconds")
    return text.replace("+00:00", "Z")

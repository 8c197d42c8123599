"""Between SQL rows and the values of `models`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.components.pipelines.store import models as m

if TYPE_CHECKING:
    from sqlalchemy.engine import RowMapping

T = TypeVar("T")

_ENUMS: dict[type, dict[str, Any]] = {
    m.Experiment: {"storage_state": m.StorageState},
    m.Run: {"storage_state": m.StorageState, "state": m.RuntimeState},
    m.RecurringRun: {"status": m.Status},
    m.FollowUp: {"kind": m.FollowUpKind},
    m.TaskRow: {"type": m.TaskType, "state": m.RuntimeState},
}


def from_row(kind: type[T], row: RowMapping) -> T:
    """A value from a row's mapping; columns that the value does not have are left out."""
    enums = _ENUMS.get(kind, {})
    values = {f.name: row[f.name] for f in fields(kind) if f.name in row}  # type: ignore[arg-type]
    for name, enum in enums.items():
        values[name] = enum(values[name])
    return kind(**values)


def to_row(value: Any, *leave_out: str) -> dict[str, Any]:
    """Column values of a value."""
    return {f.name: getattr(value, f.name) for f in fields(value) if f.name not in leave_out}

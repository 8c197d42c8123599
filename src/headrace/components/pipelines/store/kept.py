"""Tasks that were read last, as their readers want them: a run of a thousand tasks is asked for again and again while
it runs, and few of them have changed.

Invariants:
- everything here belongs to the database's thread, where who changes tasks says so in the same transaction: what is
  kept is what a transaction of that thread would read;
- what a reader gets is shared and must not be changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

import sqlalchemy as sa

from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.rows import parts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection, RowMapping

T = TypeVar("T")
Make = Callable[["Connection", Sequence["RowMapping"], Mapping[str, Sequence[str]]], list[T]]

_ALL = sa.select(t.tasks).where(t.tasks.c.run_id == sa.bindparam("of_run")).order_by(t.tasks.c.seq)
_SOME = sa.select(t.tasks).where(t.tasks.c.id.in_(sa.bindparam("ids", expanding=True))).order_by(t.tasks.c.seq)


class _Kept(Generic[T]):
    """One run's."""

    __slots__ = ("changed", "children", "made")

    def __init__(self) -> None:
        self.made: dict[str, T] = {}
        """By id, in the order of their creation."""
        self.children: dict[str, list[str]] = {}
        self.changed: set[str] = set()


class KeptTasks(Generic[T]):
    """`make(connection, rows, children)` gives one value for each row; `children` are the ids of the tasks within a
    task's scope. At most `size` tasks are kept, of the runs that were asked for last.
    """

    def __init__(self, make: Make[T], size: int) -> None:
        self._make, self._size = make, size
        self._runs: OrderedDict[str, _Kept[T]] = OrderedDict()

    def of_run(self, connection: Connection, run_id: str) -> list[T]:
        """All tasks of a run, as they are now, in the order of their creation."""
        # While it is being brought up to date it is nobody's: should that fail, everything is read again.
        kept = self._runs.pop(run_id, None)
        if kept is None:
            kept = _Kept()
            rows = connection.execute(_ALL, {"of_run": run_id}).mappings().all()
        else:
            rows = _rows(connection, sorted(kept.changed))
        for row in rows:
            if row["id"] not in kept.made and row["parent_id"]:
                kept.children.setdefault(row["parent_id"], []).append(row["id"])
        for row, made in zip(rows, self._make(connection, rows, kept.children), strict=True):
            kept.made[row["id"]] = made
        kept.changed.clear()
        self._runs[run_id] = kept
        while sum(len(other.made) for other in self._runs.values()) > self._size:
            self._runs.popitem(last=False)
        return list(kept.made.values())

    def created(self, run_id: str, tasks: Iterable[tuple[str, str | None]]) -> None:
        """A run has more tasks, by id and parent's id."""
        if run_id in self._runs:
            self._runs[run_id].changed.update(ident for pair in tasks for ident in pair if ident)

    def changed(self, task_id: str) -> None:
        """One is another."""
        for kept in self._runs.values():
            if task_id in kept.made:
                kept.changed.add(task_id)

    def forget(self) -> None:
        """Keep nothing."""
        self._runs.clear()


def _rows(connection: Connection, ids: Sequence[str]) -> list[RowMapping]:
    found: list[RowMapping] = []
    for some in parts(ids):
        found += connection.execute(_SOME, {"ids": some}).mappings()
    return sorted(found, key=lambda row: int(row["seq"]))  # each part of them is

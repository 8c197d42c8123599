"""Runs and tasks in the dashboard's words and colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.components.pipelines.store.models import RuntimeState, total_use
from headrace.machinery import look
from headrace.machinery.html import Markup, el
from headrace.machinery.words import _

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.components.pipelines.store.models import Run, TaskRow

THINNEST = 0.06
_KINDS = {
    RuntimeState.PENDING: look.WAIT,
    RuntimeState.RUNNING: look.RUN,
    RuntimeState.SUCCEEDED: look.OK,
    RuntimeState.SKIPPED: look.WAIT,
    RuntimeState.FAILED: look.BAD,
    RuntimeState.CANCELING: look.WARN,
    RuntimeState.CANCELED: look.WARN,
    RuntimeState.PAUSED: look.WAIT,
}


def _word(state: RuntimeState) -> str:
    match state:
        case RuntimeState.PENDING:
            return _("Waiting")
        case RuntimeState.RUNNING:
            return _("Running")
        case RuntimeState.SUCCEEDED:
            return _("Succeeded")
        case RuntimeState.SKIPPED:
            return _("Skipped")
        case RuntimeState.FAILED:
            return _("Failed")
        case RuntimeState.CANCELING:
            return _("Stopping")
        case RuntimeState.CANCELED:
            return _("Stopped")
        case RuntimeState.PAUSED:
            return _("Paused")


def look_of(state: RuntimeState) -> tuple[str, str]:
    """Colour and word of a run's state."""
    return _KINDS[state], _word(state)


def look_of_task(task: TaskRow) -> tuple[str, str]:
    """Colour and word of a task's state."""
    if task.cached_from and task.state is RuntimeState.SUCCEEDED:
        return look.HIT, _("From cache")
    return look_of(task.state)


def widths(counts: Mapping[str, int]) -> dict[str, float]:
    """Counts as parts of one, none too thin to be seen: one failure among a thousand is what one looks for."""
    total = sum(counts.values()) or 1
    found = {kind: max(count / total, THINNEST) for kind, count in counts.items() if count}
    whole = sum(found.values())
    return {kind: share / whole for kind, share in found.items()}


def duration(run: Run, now: dt.datetime) -> float:
    """Seconds, until now for a run that goes on."""
    return ((run.finished_at or now) - run.created_at).total_seconds() if run.created_at else 0.0


def cpu_seconds(tasks: Iterable[TaskRow]) -> float | None:
    """Processor time of these tasks together, all attempts; None when nobody counted any."""
    return total_use(task.used for task in tasks).get("cpu_seconds")


def cost(tasks: Iterable[TaskRow]) -> str:
    """The same in words, with the highest use of memory; empty when nobody counted."""
    found = total_use(task.used for task in tasks)
    if not found:
        return ""
    time = look.seconds(found["cpu_seconds"])
    if not found.get("peak_bytes"):
        return _("{time} of CPU", time=time)
    return _("{time} of CPU, at most {size} of memory", time=time, size=look.size(found["peak_bytes"]))


def bars(runs: Sequence[Run], now: dt.datetime, *, slots: int, width: int, strip: bool = False) -> Markup:
    """Runs as bars, the newest right: colour is the result, height the duration. Each leads to its run."""
    shown = list(runs)[:slots][::-1]
    longest = max((duration(run, now) for run in shown), default=0.0) or 1.0
    step = 100 / slots if strip else width + 2
    height = 40 if strip else 22
    parts = []
    for index, run in enumerate(shown):
        kind, word = look_of(run.state)
        tall = max(3.0, height * duration(run, now) / longest)
        place = slots - len(shown) + index if strip else index
        rect = el(
            "rect",
            x=f"{place * step:.2f}{'%' if strip else ''}",
            y=f"{height - tall:.1f}",
            width=f"{step * 0.8:.2f}%" if strip else width,
            height=f"{tall:.1f}",
            rx="1.5",
            class_=kind,
        )
        hint = el("title", f"{run.display_name}: {word}, {look.seconds(duration(run, now))}")
        parts.append(el("a", hint, rect, href=f"/runs/{run.id}", aria_label=f"{run.display_name}: {word}"))
    if strip:
        return el("svg", parts, class_="strip", role="group", aria_label=_("Runs, the newest right"))
    total = max(len(shown), 1) * (width + 2)
    return el(
        "svg", parts, class_="bars", width=total, height=height, role="group", aria_label=_("Runs, the newest right")
    )

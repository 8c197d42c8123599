"""When a recurring run is due: a pure function of its trigger and of when it was last triggered.

Semantics (upstream: crd/controller/scheduledworkflow/util/{cron,periodic}_schedule.go):
- times follow from the last start, or else from the start time, or else from when the recurring run was created;
- with catch-up each time that was missed is made up for, in order; without it only the newest one is;
- a periodic trigger that lost time without catch-up starts at once and counts its interval from there;
- cron has six fields, the first of them seconds, in UTC.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.machinery.cron import Every, parse_with_seconds

if TYPE_CHECKING:
    from headrace.machinery.cron import Schedule

MAX_CONCURRENCY = 10
_NOT_A_NAME = re.compile(r"[^a-z0-9-]+")
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""What Kubernetes makes generated names of."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """Cron or, when there is none, an interval; within bounds of time."""

    cron: Schedule | None = None
    interval: dt.timedelta = dt.timedelta()
    start: dt.datetime | None = None
    end: dt.datetime | None = None


def parse_trigger(trigger: dict[str, Any]) -> Trigger:
    """A trigger from the API's form of it, with moments as text. Raises ValueError with a sentence."""
    given = trigger.get("cron_schedule") or trigger.get("periodic_schedule") or {}
    start, end = _moment(given.get("start_time")), _moment(given.get("end_time"))
    if "cron_schedule" in trigger:
        return Trigger(cron=parse_with_seconds(given["cron"]), start=start, end=end)
    seconds = int(given["interval_second"])
    if seconds < 1:
        raise ValueError(f"the interval is {seconds}; it must be at least 1 second")
    try:
        return Trigger(interval=dt.timedelta(seconds=seconds), start=start, end=end)
    except OverflowError as error:
        raise ValueError(f"the interval {seconds} is too long") from error


def next_due(
    trigger: Trigger, last: dt.datetime | None, created: dt.datetime, now: dt.datetime, *, no_catchup: bool
) -> dt.datetime | None:
    """The next start, which may lie in the past; None when there is none any more."""
    since = (last or trigger.start or created).replace(microsecond=0)
    now = now.replace(microsecond=0)
    try:
        if trigger.cron is None:
            return _periodic(trigger, since, now, no_catchup=no_catchup)
        return _by_cron(trigger, trigger.cron, since, now, no_catchup=no_catchup)
    except OverflowError:
        return None


def _by_cron(
    trigger: Trigger, cron: Schedule, since: dt.datetime, now: dt.datetime, *, no_catchup: bool
) -> dt.datetime | None:
    if trigger.start is not None and trigger.start > since:
        since = trigger.start
    due = cron.next(since)
    if due is None or (trigger.end is not None and trigger.end < due):
        return None
    if not no_catchup or due > now:
        return due
    return _newest(cron, due, now if trigger.end is None else min(now, trigger.end))


def _newest(cron: Schedule, due: dt.datetime, until: dt.datetime) -> dt.datetime:
    """The last start from `due` to `until`; by halving, for a schedule of seconds may have missed millions."""
    if isinstance(cron, Every):
        return due + (until - due) // cron.interval * cron.interval
    found, low, high = due, 0, int((until - due).total_seconds())
    while low <= high:
        middle = (low + high) // 2
        later = cron.next(due + dt.timedelta(seconds=middle))
        if later is not None and later <= until:
            found, low = later, middle + 1
        else:
            high = middle - 1
    return found


def _periodic(trigger: Trigger, since: dt.datetime, now: dt.datetime, *, no_catchup: bool) -> dt.datetime | None:
    if trigger.start is not None and trigger.start > since:
        return trigger.start
    due = since + trigger.interval
    if trigger.end is not None and trigger.end < due:
        return None
    if no_catchup and now >= due + trigger.interval:
        return now if trigger.end is None else min(now, trigger.end)
    return due


def resource_name(display_name: str, ident: str) -> str:
    """What upstream's object in Kubernetes would be called; the end follows from the id."""
    base = _NOT_A_NAME.sub("", display_name.lower())[:25] or "job-"
    number = int(ident.replace("-", ""), 16)
    letters = ""
    for _ in range(5):
        number, index = divmod(number, len(_LETTERS))
        letters += _LETTERS[index]
    return base + letters


def run_name(resource: str, index: int) -> str:
    """The name of the index-th run (from 1)."""
    name = f"{resource}-{index}"
    digest = 0x811C9DC5
    for byte in name.encode():
        digest = (digest ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{name}-{digest}"


def _moment(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text) if text else None

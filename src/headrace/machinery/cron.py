"""Cron schedules, exactly as Kubernetes reads them (upstream: robfig/cron v3, ParseStandard and SpecSchedule.Next).

Five fields, names of months and days, lists, ranges and steps, `@hourly` and its like, `@every 90m`. Not the cron of
other libraries: no `L`, `#` or `W`, no Sunday as 7, no ranges that run backwards. Where clocks change, an hour that
does not exist has no starts and an hour that comes twice has both.

`parse_with_seconds` reads the dialect of Kubeflow Pipelines (robfig/cron v1, Parse): a field of seconds comes first and
the day of week may be left out.
"""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from dataclasses import dataclass

YEARS = 5
"""How far ahead a next time is looked for; a schedule such as February 31 has none."""
_MONTHS = {
    "jan": 1,
    "feb": 2,
    "mar": 3,
    "apr": 4,
    "may": 5,
    "jun": 6,
    "jul": 7,
    "aug": 8,
    "sep": 9,
    "oct": 10,
    "nov": 11,
    "dec": 12,
}
_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_SECONDS: tuple[str, int, int, dict[str, int]] = ("second", 0, 59, {})
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_HOUR, _MINUTE, _DAY = dt.timedelta(hours=1), dt.timedelta(minutes=1), dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Every:
    """`@every`: a fixed time after the last start, in whole seconds."""

    interval: dt.timedelta

    def next(self, after: dt.datetime) -> dt.datetime | None:
        """The next start after a moment, in UTC."""
        return after.astimezone(dt.UTC).replace(microsecond=0) + self.interval


@dataclass(frozen=True, slots=True)
class Cron:
    """Minutes, hours, days and months in a time zone."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    """Day of month or day of week is a star: both must hold, else one is enough."""
    zone: dt.tzinfo
    seconds: frozenset[int] = frozenset({0})

    def next(self, after: dt.datetime) -> dt.datetime | None:
        """The next start after a moment, in UTC; None when there is none within five years."""
        moment = (after.astimezone(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=1)).astimezone(self.zone)
        first = min(self.seconds)
        last = moment.year + YEARS
        while moment.year <= last:
            if moment.month not in self.months:
                moment = self._first_of_next_month(moment)
            elif not self._day_matches(moment):
                moment = self._midnight(moment + _DAY)
            elif moment.hour not in self.hours:
                moment = self._plus(moment.replace(minute=0, second=0), _HOUR)
            elif moment.minute not in self.minutes:
                moment = self._plus(moment.replace(second=0), _MINUTE)
            elif moment.second not in self.seconds:
                later = min((s for s in self.seconds if s > moment.second), default=None)
                if later is None:
                    moment = self._plus(moment.replace(second=first), _MINUTE)
                else:
                    moment = moment.replace(second=later)
            else:
                return moment.astimezone(dt.UTC)
        return None

    def _day_matches(self, moment: dt.datetime) -> bool:
        by_date, by_weekday = moment.day in self.days, moment.isoweekday() % 7 in self.weekdays
        return by_date and by_weekday if self.any_day else by_date or by_weekday

    def _plus(self, moment: dt.datetime, step: dt.timedelta) -> dt.datetime:
        """Time that really passes, not what the wall clock shows."""
        return (moment.astimezone(dt.UTC) + step).astimezone(self.zone)

    def _first_of_next_month(self, moment: dt.datetime) -> dt.datetime:
        year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
        return self._midnight(dt.datetime(year, month, 1, tzinfo=self.zone))

    def _midnight(self, moment: dt.datetime) -> dt.datetime:
        """The first moment of a day; where clocks change at midnight that is not 00:00."""
        start = moment.replace(hour=0, minute=0, second=0, fold=0)
        return start.astimezone(dt.UTC).astimezone(self.zone)


Schedule = Cron | Every


def parse(text: str, zone: dt.tzinfo = dt.UTC) -> Schedule:
    """The schedule that a text describes. Raises ValueError with a sentence."""
    found = _descriptor(text)
    if isinstance(found, Every):
        return found
    parts = found.split()
    if len(parts) != len(_FIELDS):
        raise ValueError(f"expected exactly {len(_FIELDS)} fields, found {len(parts)}: {parts}")
    starred = any(_starred(part) for part in (parts[2], parts[4]))
    return _cron(parts, starred, zone, frozenset({0}))


def parse_with_seconds(text: str, zone: dt.tzinfo = dt.UTC) -> Schedule:
    """The schedule that six fields describe, seconds first. Raises ValueError with a sentence."""
    found = _descriptor(text)
    if isinstance(found, Every):
        return found
    parts = found.split()
    if text.strip().startswith("@"):
        parts = ["0", *parts]
    if len(parts) == len(_FIELDS):
        parts.append("*")
    if len(parts) != len(_FIELDS) + 1:
        raise ValueError(f"expected 5 to 6 fields, found {len(parts)}: {parts}")
    # Here a star with a step is a star as well.
    starred = any(term[:1] in {"*", "?"} for part in (parts[3], parts[5]) for term in part.split(","))
    return _cron(parts[1:], starred, zone, _field(parts[0], *_SECONDS))


def _descriptor(text: str) -> str | Every:
    """The fields that a text has or stands for."""
    spec = text.strip()
    if not spec:
        raise ValueError("empty spec string")
    if spec.startswith("@every "):
        return Every(_interval(spec.removeprefix("@every "), text))
    if spec.startswith("@"):
        if spec not in _DESCRIPTORS:
            raise ValueError(f"unrecognized descriptor: {spec}")
        return _DESCRIPTORS[spec]
    return spec


def _cron(parts: list[str], starred: bool, zone: dt.tzinfo, seconds: frozenset[int]) -> Cron:
    sets = [_field(part, *field) for part, field in zip(parts, _FIELDS, strict=True)]
    if not seconds:
        raise ValueError("the field second is empty")
    minutes, hours, days, months, weekdays = sets
    return Cron(minutes, hours, days, months, weekdays, any_day=starred, zone=zone, seconds=seconds)


def zone_of(name: str) -> dt.tzinfo:
    """The time zone of the IANA database. Raises ValueError."""
    if not name or name.lower() == "local" or name.startswith("/") or ".." in name:
        raise ValueError(f"unknown time zone {name}")
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone {name}") from error


def _interval(text: str, whole: str) -> dt.timedelta:
    found = list(_DURATION.finditer(text))
    if not found or "".join(m[0] for m in found) != text:
        raise ValueError(f"failed to parse duration {whole}: {text!r} is not a duration such as 1h30m")
    seconds = sum(float(m[1]) * _UNITS[m[2]] for m in found)
    try:
        return dt.timedelta(seconds=max(int(seconds), 1))
    except OverflowError as error:
        raise ValueError(f"failed to parse duration {whole}: {text!r} is too long") from error


def _starred(field: str) -> bool:
    """Whether one of the field's terms is a star; a star with a step is none (upstream drops it for steps over 1)."""
    return any(term in {"*", "?", "*/1", "?/1"} for term in field.split(","))


def _field(text: str, name: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    out: set[int] = set()
    for term in text.split(","):
        if term:
            out.update(_range(term, name, low, high, names))
    return frozenset(out)


def _range(term: str, name: str, low: int, high: int, names: dict[str, int]) -> range:
    span, slash, step_text = term.partition("/")
    if "/" in step_text:
        raise ValueError(f"too many slashes: {term}")
    first, dash, last = span.partition("-")
    if first in {"*", "?"}:
        start, end = low, high
        if dash:
            raise ValueError(f"too many hyphens: {term}")
    else:
        if "-" in last:
            raise ValueError(f"too many hyphens: {term}")
        start = _number(first, names, term)
        end = _number(last, names, term) if dash else start
    step = 1
    if slash:
        step = _number(step_text, {}, term)
        if not dash and first not in {"*", "?"}:
            end = high
    if start < low:
        raise ValueError(f"beginning of range ({start}) below minimum ({low}): {term} in the field {name}")
    if end > high:
        raise ValueError(f"end of range ({end}) above maximum ({high}): {term} in the field {name}")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {term} in the field {name}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {term} in the field {name}")
    return range(start, end + 1, step)


def _number(text: str, names: dict[str, int], term: str) -> int:
    found = names.get(text.lower())
    if found is not None:
        return found
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ValueError(f"failed to parse int from {text}: {term}")
    return int(text)

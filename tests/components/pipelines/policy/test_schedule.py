"""When recurring runs are due, by upstream's rules."""

from __future__ import annotations

import datetime as dt

import pytest

from headrace.components.pipelines.policy.schedule import next_due, parse_trigger, resource_name, run_name


def at(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC) if text else None


def cron(text: str, **more: str) -> dict:
    return {"cron_schedule": {"cron": text} | more}


def every(seconds: int, **more: str) -> dict:
    return {"periodic_schedule": {"interval_second": str(seconds)} | more}


CREATED = "2026-01-01T10:00:30"
HOURLY = "0 0 * * * *"


@pytest.mark.parametrize(
    ("trigger", "last", "now", "no_catchup", "expected"),
    [
        # From the creation, then from start to start.
        (cron(HOURLY), None, "2026-01-01T10:00:31", False, "2026-01-01T11:00"),
        (cron(HOURLY), "2026-01-01T11:00", "2026-01-01T11:00:01", False, "2026-01-01T12:00"),
        (every(60), None, "2026-01-01T10:00:31", False, "2026-01-01T10:01:30"),
        (every(60), "2026-01-01T10:01:30", "2026-01-01T10:01:31", False, "2026-01-01T10:02:30"),
        # A machine that slept from 11 to 15 o'clock.
        (cron(HOURLY), "2026-01-01T11:00", "2026-01-01T15:10", False, "2026-01-01T12:00"),
        (cron(HOURLY), "2026-01-01T11:00", "2026-01-01T15:10", True, "2026-01-01T15:00"),
        (every(3600), "2026-01-01T11:00", "2026-01-01T15:10", False, "2026-01-01T12:00"),
        (every(3600), "2026-01-01T11:00", "2026-01-01T15:10", True, "2026-01-01T15:10"),
        (every(3600), "2026-01-01T11:00", "2026-01-01T12:30", True, "2026-01-01T12:00"),
        (cron("@every 1h"), "2026-01-01T11:00", "2026-01-01T15:10", True, "2026-01-01T15:00"),
        (cron("* * * * * *"), "2016-01-01T00:00", "2026-01-01T15:10:07", True, "2026-01-01T15:10:07"),
        # A clock that went back starts nothing twice.
        (cron(HOURLY), "2026-01-01T11:00", "2026-01-01T09:00", True, "2026-01-01T12:00"),
        (every(60), "2026-01-01T11:00", "2026-01-01T09:00", True, "2026-01-01T11:01"),
        # A start in the future and one in the past.
        (every(60, start_time="2026-02-01T00:00:00Z"), None, "2026-01-01T10:10", False, "2026-02-01T00:01"),
        (cron(HOURLY, start_time="2026-02-01T00:00:00Z"), None, "2026-01-01T10:10", False, "2026-02-01T01:00"),
        (cron(HOURLY, start_time="2025-12-31T22:30:00Z"), None, "2026-01-01T10:10", False, "2025-12-31T23:00"),
        (cron(HOURLY, start_time="2025-12-31T22:30:00Z"), None, "2026-01-01T10:10", True, "2026-01-01T10:00"),
        # An end.
        (cron(HOURLY, end_time="2026-01-01T11:00:00Z"), None, "2026-01-01T10:10", False, "2026-01-01T11:00"),
        (cron(HOURLY, end_time="2026-01-01T10:59:00Z"), None, "2026-01-01T10:10", False, None),
        (
            cron(HOURLY, end_time="2026-01-01T13:30:00Z"),
            "2026-01-01T11:00",
            "2026-01-02T00:00",
            True,
            "2026-01-01T13:00",
        ),
        (every(60, end_time="2026-01-01T10:01:00Z"), None, "2026-01-01T10:10", False, None),
        (every(60, end_time="2026-01-01T10:05:00Z"), None, "2026-01-01T10:10", True, "2026-01-01T10:05"),
        (cron("0 0 0 30 2 ?"), None, "2026-01-01T10:10", True, None),
        (every(10**12), None, "2026-01-01T10:10", True, None),
    ],
)
def test_next_due(trigger, last, now, no_catchup, expected):
    found = next_due(parse_trigger(trigger), at(last), at(CREATED), at(now), no_catchup=no_catchup)
    assert found == at(expected)


def test_with_catch_up_every_hour_that_was_missed_comes_once():
    trigger, last, now, seen = parse_trigger(cron(HOURLY)), at("2026-01-01T11:00"), at("2026-01-01T15:10"), []
    while (due := next_due(trigger, last, at(CREATED), now, no_catchup=False)) <= now:
        seen.append(due.hour)
        last = due
    assert seen == [12, 13, 14, 15]


@pytest.mark.parametrize(
    "trigger",
    [
        cron(""),
        cron("often"),
        cron("61 * * * * *"),
        every(0),
        every(-5),
        every(10**15),
        cron(HOURLY, start_time="soon"),
    ],
)
def test_what_is_no_trigger(trigger):
    with pytest.raises(ValueError, match=r"\w"):
        parse_trigger(trigger)


def test_names_are_those_that_upstream_gives():
    ident = "11111111-2222-3333-4444-555555555555"
    name = resource_name("My Nightly Training of a very long name", ident)
    assert name[:-5] == "mynightlytrainingofaveryl"
    assert name == resource_name("My Nightly Training of a very long name", ident)
    assert resource_name("£", ident)[:-5] == "job-"
    # From upstream's own test of NextResourceName.
    assert run_name("WORKFLOW_NAME", 51) == "WORKFLOW_NAME-51-2626342551"

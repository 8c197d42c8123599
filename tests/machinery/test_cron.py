"""Schedules as Kubernetes reads them: the tables of robfig/cron's own tests, and what must be refused."""

import datetime as dt

import pytest

from headrace.machinery.cron import parse, parse_with_seconds, zone_of

NEW_YORK = "America/New_York"


def moment(text, zone="UTC"):
    return dt.datetime.fromisoformat(text).replace(tzinfo=zone_of(zone))


@pytest.mark.parametrize(
    ("after", "spec", "expected"),
    [
        ("2012-07-09T14:45", "0/15 * * * *", "2012-07-09T15:00"),
        ("2012-07-09T14:59:59", "0/15 * * * *", "2012-07-09T15:00"),
        ("2012-07-09T15:45", "20-35/15 * * * *", "2012-07-09T16:20"),
        ("2012-07-09T23:46", "*/15 * * * *", "2012-07-10T00:00"),
        ("2012-07-09T23:45", "20-35/15 * * * *", "2012-07-10T00:20"),
        ("2012-07-09T23:35:51", "20-35/15 1-23/2 * * *", "2012-07-10T01:20"),
        ("2012-07-09T23:35:51", "20-35/15 10-12 * * *", "2012-07-10T10:20"),
        ("2012-07-09T23:35:51", "20-35/15 1-23/2 */2 * *", "2012-07-11T01:20"),
        ("2012-07-09T23:35:51", "20-35/15 * 9-20 * *", "2012-07-10T00:20"),
        ("2012-07-09T23:35:51", "20-35/15 * 9-20 Jul *", "2012-07-10T00:20"),
        ("2012-07-09T23:35", "0 0 9 Apr-Oct ?", "2012-08-09T00:00"),
        ("2012-07-09T23:35", "0 0 */5 Apr,Aug,Oct Mon", "2012-08-01T00:00"),
        ("2012-07-09T23:35", "0 0 */5 Oct Mon", "2012-10-01T00:00"),
        ("2012-07-09T23:35", "0 0 * Feb Mon", "2013-02-04T00:00"),
        ("2012-07-09T23:35", "0 0 * Feb Mon/2", "2013-02-01T00:00"),
        ("2012-12-31T23:59:45", "* * * * *", "2013-01-01T00:00"),
        ("2012-07-09T23:35", "0 0 29 Feb ?", "2016-02-29T00:00"),
        ("2012-07-09T14:45", "@hourly", "2012-07-09T15:00"),
        ("2012-07-09T14:45", "@daily", "2012-07-10T00:00"),
        ("2012-07-09T14:45", "@weekly", "2012-07-15T00:00"),
        ("2012-07-09T14:45", "@monthly", "2012-08-01T00:00"),
        ("2012-07-09T14:45", "@yearly", "2013-01-01T00:00"),
        ("2012-07-09T14:45:10", "@every 1h30m5s", "2012-07-09T16:15:15"),
        ("2012-07-09T14:45:10", "@every 5ms", "2012-07-09T14:45:11"),
    ],
)
def test_next(after, spec, expected):
    assert parse(spec).next(moment(after)) == moment(expected)


@pytest.mark.parametrize("spec", ["0 0 30 Feb ?", "0 0 31 Apr ?"])
def test_never(spec):
    assert parse(spec).next(moment("2012-07-09T23:35")) is None


@pytest.mark.parametrize(
    ("after", "spec", "expected"),
    [
        # Spring: 02:00 -0500 is followed by 03:00 -0400.
        ("2012-03-11T00:00-05:00", "30 2 11 Mar ?", "2013-03-11T02:30-04:00"),
        ("2012-03-11T00:00-05:00", "0 * * * ?", "2012-03-11T01:00-05:00"),
        ("2012-03-11T01:00-05:00", "0 * * * ?", "2012-03-11T03:00-04:00"),
        ("2012-03-11T00:00-05:00", "0 2 * * ?", "2012-03-12T02:00-04:00"),
        # Autumn: 01:00 comes twice.
        ("2012-11-04T00:00-04:00", "30 2 04 Nov ?", "2012-11-04T02:30-05:00"),
        ("2012-11-04T01:45-04:00", "30 1 04 Nov ?", "2012-11-04T01:30-05:00"),
        ("2012-11-04T01:00-04:00", "0 * * * ?", "2012-11-04T01:00-05:00"),
        ("2012-11-04T01:00-05:00", "0 * * * ?", "2012-11-04T02:00-05:00"),
        ("2012-11-04T01:00-04:00", "0 0 * * ?", "2012-11-05T00:00-05:00"),
    ],
)
def test_where_clocks_change(after, spec, expected):
    found = parse(spec, zone_of(NEW_YORK)).next(dt.datetime.fromisoformat(after))
    assert found == dt.datetime.fromisoformat(expected)


def test_a_midnight_that_does_not_exist():
    """São Paulo, 21 October 2012: 00:00 is followed by 01:00."""
    found = parse("0 9 21 Oct ?", zone_of("America/Sao_Paulo")).next(
        dt.datetime.fromisoformat("2012-10-07T09:29-03:00")
    )
    assert found == dt.datetime.fromisoformat("2012-10-21T09:00-02:00")


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 7",
        "10-5 * * * *",
        "*/0 * * * *",
        "1/2/3 * * * *",
        "1-2-3 * * * *",
        "*-5 * * * *",
        "-1 * * * *",
        "x * * * *",
        "* * L * *",
        "* * * * mon#1",
        "@reboot",
        "@every",
        "@every soon",
        "99999999999 * * * *",
    ],
)
def test_refused(spec):
    with pytest.raises(ValueError, match=r".{10}"):
        parse(spec)


@pytest.mark.parametrize("name", ["", "Local", "Atlantis/Capital", "../etc/passwd", "/etc/localtime", "a\0b", "Europe"])
def test_unknown_zones(name):
    with pytest.raises(ValueError, match="unknown time zone"):
        zone_of(name)


@pytest.mark.parametrize(
    ("after", "spec", "expected"),
    [
        # robfig/cron v1's own table.
        ("2012-07-09T14:45", "0 0/15 * * * *", "2012-07-09T15:00"),
        ("2012-07-09T14:59:59", "0 0/15 * * * *", "2012-07-09T15:00"),
        ("2012-07-09T15:45", "0 20-35/15 * * * *", "2012-07-09T16:20"),
        ("2012-07-09T23:35:51", "15/35 20-35/15 * * * *", "2012-07-10T00:20:15"),
        ("2012-07-09T23:35:51", "15/35 20-35/15 1/2 * * *", "2012-07-10T01:20:15"),
        ("2012-07-09T23:35:51", "15/35 20-35/15 10-12 * * *", "2012-07-10T10:20:15"),
        ("2012-07-09T23:35", "0 0 0 9 Apr-Oct ?", "2012-08-09T00:00"),
        ("2012-07-09T23:35", "0 0 0 29 Feb ?", "2016-02-29T00:00"),
        ("2012-07-09T14:45:00", "*/20 * * * * *", "2012-07-09T14:45:20"),
        ("2012-07-09T14:45:50", "*/20 * * * * *", "2012-07-09T14:46:00"),
        ("2012-07-09T14:45:58", "5,59 * * * * *", "2012-07-09T14:45:59"),
        ("2012-07-09T14:59:59", "5,59 * * * * *", "2012-07-09T15:00:05"),
        # The day of week may be left out; the first field is the second all the same.
        ("2012-07-09T14:45:10", "30 * * * *", "2012-07-09T14:45:30"),
        ("2012-07-09T14:45", "@hourly", "2012-07-09T15:00"),
        ("2012-07-09T14:45:10", "@every 90s", "2012-07-09T14:46:40"),
        # A star with a step is a star: both days must hold.
        ("2012-07-09T23:35", "0 0 0 */5 Oct Mon", "2012-10-01T00:00"),
    ],
)
def test_next_with_seconds(after, spec, expected):
    assert parse_with_seconds(spec).next(moment(after)) == moment(expected)


@pytest.mark.parametrize(
    "spec", ["", "* * * *", "* * * * * * *", "60 * * * * *", ", * * * * *", "@often", "x 0 0 1 1 ?"]
)
def test_what_is_no_schedule_with_seconds(spec):
    with pytest.raises(ValueError, match=r"\w"):
        parse_with_seconds(spec)

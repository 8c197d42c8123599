"""Conditions: the transition time tells since when the status is what it is."""

from __future__ import annotations

import datetime as dt

import pytest

from headrace.api import conditions
from headrace.api.meta import Condition

FIRST = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LATER = FIRST + dt.timedelta(minutes=5)


@pytest.mark.parametrize(("status", "word"), [(True, "True"), (False, "False"), (None, "Unknown")])
def test_a_new_condition_begins_now(status, word):
    found: list[Condition] = []
    conditions.upsert(found, "Ready", status, reason="Why", message="Because.", now=FIRST, generation=3)
    assert found == [
        Condition(
            type="Ready",
            status=word,
            reason="Why",
            message="Because.",
            last_transition_time=FIRST,
            observed_generation=3,
        )
    ]


@pytest.mark.parametrize("before", [True, False, None])
@pytest.mark.parametrize("after", [True, False, None])
def test_the_transition_time_moves_only_with_the_status(before, after):
    found: list[Condition] = []
    conditions.upsert(found, "Ready", before, reason="Old", message="old", now=FIRST, generation=1)
    conditions.upsert(found, "Ready", after, reason="New", message="new", now=LATER, generation=2)
    (one,) = found
    assert one.last_transition_time == (FIRST if before is after else LATER)
    assert (one.reason, one.message, one.observed_generation) == ("New", "new", 2)


def test_others_stay_as_they_are_and_where_they_are():
    found: list[Condition] = []
    for type_ in ("A", "B", "C"):
        conditions.upsert(found, type_, True, reason="R", now=FIRST)
    conditions.upsert(found, "B", False, reason="R", now=LATER)
    assert [(c.type, c.status, c.last_transition_time) for c in found] == [
        ("A", "True", FIRST),
        ("B", "False", LATER),
        ("C", "True", FIRST),
    ]


def test_setting_the_same_again_changes_nothing():
    found: list[Condition] = []
    conditions.upsert(found, "Ready", True, reason="R", message="m", now=FIRST, generation=1)
    conditions.upsert(found, "Ready", True, reason="R", message="m", now=LATER, generation=1)
    assert found == [
        Condition(
            type="Ready",
            status="True",
            reason="R",
            message="m",
            last_transition_time=FIRST,
            observed_generation=1,
        )
    ]


def test_a_condition_that_somebody_wrote_without_a_time_gets_one():
    found = [Condition(type="Ready", status="True")]
    conditions.upsert(found, "Ready", True, reason="R", now=LATER)
    assert found[0].last_transition_time == LATER


@pytest.mark.parametrize(("status", "true"), [("True", True), ("False", False), ("Unknown", False), ("true", False)])
def test_is_true_is_true_for_true_only(status, true):
    found = [Condition(type="Other", status="True"), Condition(type="Ready", status=status)]
    assert conditions.is_true(found, "Ready") is true
    assert conditions.get(found, "Ready") is found[1]
    assert conditions.get(found, "Missing") is None
    assert conditions.is_true(found, "Missing") is False

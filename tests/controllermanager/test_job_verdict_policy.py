"""How jobs end, by a table."""

import datetime as dt
from collections import Counter

import pytest

from headrace.api.core import Pod
from headrace.controllermanager.job_policy import Account
from headrace.controllermanager.job_verdict_policy import verdict
from headrace.controllermanager.types import Job, JobSpec

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
INDEXED = {"completion_mode": "Indexed", "completions": 4}
PER_INDEX = {**INDEXED, "backoff_limit": 1000, "backoff_limit_per_index": 0}


def indexes(done, failed=()):
    count = len(done)
    tries = Counter(dict.fromkeys(failed, 1))
    return Account(set(range(count)), set(range(count, count + len(failed))), set(), set(done), set(failed), tries)


def success(*rules):
    return {"success_policy": {"rules": list(rules)}}


@pytest.mark.parametrize(
    ("spec", "account", "active", "expected"),
    [
        ({"completions": 2}, Account({0}), 0, None),
        ({"completions": 2}, Account({0, 1}), 1, (True, "CompletionsReached")),
        ({"completions": 2, "backoff_limit": 0}, Account({0, 1}, {2}), 0, (False, "BackoffLimitExceeded")),
        ({}, Account({0}), 1, None),
        ({}, Account({0}), 0, (True, "CompletionsReached")),
        ({}, Account(), 0, None),
        (INDEXED, indexes({0, 1, 2}), 1, None),
        (INDEXED, indexes({0, 1, 2, 3}), 0, (True, "CompletionsReached")),
        (INDEXED, indexes({0, 1, 2, 9}), 0, None),
        (PER_INDEX, indexes({0}, {1, 2}), 1, None),
        (PER_INDEX, indexes({0}, {1, 2, 3}), 0, (False, "FailedIndexes")),
        ({**PER_INDEX, "max_failed_indexes": 1}, indexes({0}, {1}), 1, None),
        ({**PER_INDEX, "max_failed_indexes": 1}, indexes({0}, {1, 2}), 1, (False, "MaxFailedIndexesExceeded")),
        ({**INDEXED, **success({"succeededIndexes": "0-1"})}, indexes({0, 2}), 2, None),
        ({**INDEXED, **success({"succeededIndexes": "0-1"})}, indexes({0, 1}), 2, (True, "SuccessPolicy")),
        (
            {**INDEXED, **success({"succeededIndexes": "0-2", "succeededCount": 2})},
            indexes({1, 2}),
            2,
            (True, "SuccessPolicy"),
        ),
        ({**INDEXED, **success({"succeededCount": 3})}, indexes({1, 2}), 2, None),
        ({**INDEXED, **success({"succeededCount": 2})}, indexes({1, 2}), 2, (True, "SuccessPolicy")),
        (
            {**INDEXED, **success({"succeededIndexes": "0"}, {"succeededCount": 1})},
            indexes({3}),
            2,
            (True, "SuccessPolicy"),
        ),
    ],
)
def test_verdict(spec, account, active, expected):
    job = Job(spec=JobSpec(**spec))
    pods = [Pod() for _ in range(active)]
    found = verdict(job, account, pods, pods, NOW)
    assert (found and (found.success, found.reason)) == expected

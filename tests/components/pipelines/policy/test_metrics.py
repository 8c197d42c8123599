"""Metrics files of components of kfp 1."""

from __future__ import annotations

import json

import pytest

from headrace.components.pipelines.policy.metrics import MAX_METRICS, parse
from headrace.components.pipelines.store.models import Metric


def test_what_a_file_holds():
    entries = [
        {"name": "accuracy", "numberValue": 0.5, "format": "PERCENTAGE"},
        {"name": "count", "numberValue": 3, "format": "ODD"},
        {"name": "", "numberValue": 1},
        {"name": "text", "numberValue": "x"},
        {"name": "truth", "numberValue": True},
        {"name": "n" * 200, "numberValue": 1},
        {"numberValue": 1},
        3,
    ]
    assert parse(json.dumps({"metrics": entries}).encode(), "t") == [
        Metric("accuracy", "t", 0.5, "PERCENTAGE"),
        Metric("count", "t", 3.0, ""),
    ]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"{}", b'{"metrics": 3}', b'{"metrics": [{"name": "x", "numberValue": NaN}]}', b"\xff"]
)
def test_what_is_no_file_of_metrics_holds_none(raw):
    assert parse(raw, "t") == []


def test_there_is_a_bound():
    entries = [{"name": f"m{i}", "numberValue": i} for i in range(MAX_METRICS + 5)]
    assert len(parse(json.dumps({"metrics": entries}).encode(), "t")) == MAX_METRICS

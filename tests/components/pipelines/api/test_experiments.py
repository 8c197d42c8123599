"""Experiments through the REST API."""

from __future__ import annotations

import json

import pytest
from pipelines_harness import HOME, OTHER


async def test_create_get_list_delete(api):
    made = await api.ok("POST", "/experiments", {"display_name": "digits", "description": "d"})
    assert made["namespace"] == HOME
    assert made["storage_state"] == "AVAILABLE"
    assert await api.ok("GET", f"/experiments/{made['experiment_id']}") == made
    listed = await api.ok("GET", "/experiments")
    assert listed == {"experiments": [made], "total_size": 1}
    assert await api.ok("DELETE", f"/experiments/{made['experiment_id']}") == {}
    assert (await api.refused("GET", f"/experiments/{made['experiment_id']}"))[:2] == (404, 5)
    assert await api.ok("GET", "/experiments") == {}


async def test_a_name_is_taken_within_its_namespace_only(api):
    await api.ok("POST", "/experiments", {"display_name": "digits"})
    status, code, message = await api.refused("POST", "/experiments", {"display_name": "digits"})
    assert (status, code) == (409, 6)
    assert "'digits'" in message
    await api.ok("POST", "/experiments", {"display_name": "digits"}, user="other")


@pytest.mark.parametrize("body", [{}, {"display_name": ""}, {"display_name": "x" * 129}, {"display_name": 3}])
async def test_a_name_is_needed(api, body):
    assert (await api.refused("POST", "/experiments", body))[:2] == (400, 3)


async def test_default_cannot_be_deleted(api):
    run = await api.start_run()
    status, code, message = await api.refused("DELETE", f"/experiments/{run['experiment_id']}")
    assert (status, code) == (409, 10)
    assert "archive it" in message


async def test_runs_outlive_their_experiment(api):
    experiment = await api.ok("POST", "/experiments", {"display_name": "short"})
    run = await api.start_run(experiment_id=experiment["experiment_id"])
    await api.ok("DELETE", f"/experiments/{experiment['experiment_id']}")
    assert (await api.ok("GET", f"/runs/{run['run_id']}"))["experiment_id"] == experiment["experiment_id"]


@pytest.mark.parametrize(
    "predicate",
    [
        {"operation": 1, "key": "display_name", "stringValue": "b"},
        {"operation": "EQUALS", "key": "display_name", "string_value": "b"},
        {"operation": "IN", "key": "name", "string_values": {"values": ["b", "z"]}},
        {"operation": "IS_SUBSTRING", "key": "description", "stringValue": "SECOND"},
        {"operation": "GREATER_THAN", "key": "display_name", "stringValue": "a"},
    ],
)
async def test_filters_in_both_dialects(api, predicate):
    for name, description in (("a", "the first 100%"), ("b", "the second")):
        await api.ok("POST", "/experiments", {"display_name": name, "description": description})
    query = {"filter": json.dumps({"predicates": [predicate]})}
    listed = await api.ok("GET", "/experiments", params=query)
    assert [e["display_name"] for e in listed["experiments"]] == ["b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "does not parse"),
        ("[]", "must be a JSON object"),
        ('{"predicates": 3}', "list of objects"),
        ('{"predicates": [{"operation": 4, "key": "name", "stringValue": "x"}]}', "not a filter operation"),
        ('{"predicates": [{"operation": 1, "key": "colour", "stringValue": "x"}]}', "Cannot filter by 'colour'"),
        ('{"predicates": [{"operation": 1, "stringValue": "x"}]}', "needs a key"),
        ('{"predicates": [{"operation": 1, "key": "name"}]}', "exactly one value"),
        ('{"predicates": [{"operation": 8, "key": "name", "stringValue": "x"}]}', "needs a list"),
        ('{"predicates": [{"operation": 1, "key": "name", "stringValues": {"values": []}}]}', "not a list"),
        ('{"predicates": [{"operation": 9, "key": "created_at", "stringValue": "x"}]}', "IS_SUBSTRING"),
        ('{"predicates": [{"operation": 3, "key": "created_at", "longValue": "99999999999999999"}]}', "no moment"),
        ('{"predicates": [{"operation": 3, "key": "created_at", "longValue": "soon"}]}', "not an integer"),
        ('{"predicates": [{"operation": 1, "key": "name", "colour": "x"}]}', "colour"),
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(api, text, words):
    status, code, message = await api.refused("GET", "/experiments", params={"filter": text})
    assert (status, code) == (400, 3)
    assert words in message


async def test_another_namespace_is_refused_and_stays_out_of_sight(api):
    theirs = await api.ok("POST", "/experiments", {"display_name": "secret"}, user="other")
    assert theirs["namespace"] == OTHER
    assert await api.ok("GET", "/experiments") == {}
    for method, path in (
        ("GET", f"/experiments/{theirs['experiment_id']}"),
        ("DELETE", f"/experiments/{theirs['experiment_id']}"),
        ("POST", f"/experiments/{theirs['experiment_id']}:archive"),
        ("POST", f"/experiments/{theirs['experiment_id']}:unarchive"),
        ("GET", f"/experiments?namespace={OTHER}"),
        ("GET", f"/runs?experiment_id={theirs['experiment_id']}"),
    ):
        assert (await api.refused(method, path))[:2] == (403, 7), path
    body = {"display_name": "mine", "namespace": OTHER}
    assert (await api.refused("POST", "/experiments", body))[:2] == (403, 7)

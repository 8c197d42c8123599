"""Recurring runs over the API."""

from __future__ import annotations

import pytest
import yaml
from aiohttp import FormData
from pipelines_harness import HOME, SPEC

CRON = {"cron_schedule": {"cron": "0 0 9 ? * 2-6", "start_time": "2026-01-01T00:00:00Z"}}
PERIODIC = {"periodic_schedule": {"interval_second": 3600}}


def body(**more) -> dict:
    base = {
        "display_name": "nightly",
        "pipeline_spec": SPEC,
        "runtime_config": {"parameters": {"who": "x"}},
        "max_concurrency": "1",
        "mode": "ENABLE",
        "trigger": CRON,
    }
    return {key: value for key, value in (base | more).items() if value is not None}


async def upload(api) -> str:
    form = FormData()
    form.add_field("uploadfile", yaml.safe_dump(SPEC), filename="greet.yaml")
    return (await api.ok("POST", "/pipelines/upload?name=greet", data=form))["pipeline_id"]


async def test_create_get_disable_enable_delete(api):
    made = await api.ok("POST", "/recurringruns", body(description="d", no_catchup=True, max_concurrency=3))
    assert made["trigger"] == CRON
    assert (made["status"], made["mode"], made["max_concurrency"], made["no_catchup"]) == (
        "ENABLED",
        "ENABLE",
        "3",
        True,
    )
    assert (made["namespace"], made["pipeline_spec"]) == (HOME, SPEC)
    path = f"/recurringruns/{made['recurring_run_id']}"
    assert await api.ok("GET", path) == made
    assert await api.ok("POST", f"{path}:disable") == {}
    disabled = await api.ok("GET", path)
    assert (disabled["status"], disabled["mode"]) == ("DISABLED", "DISABLE")
    assert disabled["updated_at"] > made["updated_at"]
    await api.ok("POST", f"{path}:enable")
    assert (await api.ok("GET", path))["status"] == "ENABLED"
    assert {c.kind for c in api.changes} == {"schedule"}
    await api.ok("DELETE", path)
    assert (await api.refused("GET", path))[:2] == (404, 5)
    assert (await api.refused("POST", f"{path}:enable"))[:2] == (404, 5)


async def test_a_pipeline_by_version_and_by_latest(api):
    pipeline = await upload(api)
    (version,) = (await api.ok("GET", f"/pipelines/{pipeline}/versions"))["pipeline_versions"]
    reference = {"pipeline_id": pipeline, "pipeline_version_id": version["pipeline_version_id"]}
    pinned = await api.ok("POST", "/recurringruns", body(pipeline_spec=None, pipeline_version_reference=reference))
    assert pinned["pipeline_version_reference"] == reference
    latest = await api.ok(
        "POST", "/recurringruns", body(pipeline_spec=None, pipeline_version_reference={"pipeline_id": pipeline})
    )
    assert latest["pipeline_version_reference"] == {"pipeline_id": pipeline}
    assert "pipeline_spec" not in latest
    # What a pinned one runs outlives the pipeline.
    await api.ok("DELETE", f"/pipelines/{pipeline}?cascade=true")
    found = [r for r, _ in await api.recurring.enabled()]
    sources = {r.id: await api.recurring.source(r) for r in found}
    assert sources[pinned["recurring_run_id"]].spec.pipeline_spec == SPEC
    assert sources[latest["recurring_run_id"]] is None


async def test_list_filter_sort(api):
    experiment = await api.ok("POST", "/experiments", {"display_name": "e"})
    ident = experiment["experiment_id"]
    for name in ("b", "a"):
        await api.ok("POST", "/recurringruns", body(display_name=name, experiment_id=ident, trigger=PERIODIC))
    await api.ok("POST", "/recurringruns", body(display_name="c", mode="DISABLE"))
    listed = await api.ok("GET", "/recurringruns?sort_by=display_name")
    assert [r["display_name"] for r in listed["recurringRuns"]] == ["a", "b", "c"]
    assert listed["recurringRuns"][0]["trigger"] == {"periodic_schedule": {"interval_second": "3600"}}
    mine = await api.ok("GET", f"/recurringruns?experiment_id={ident}&page_size=1")
    assert (mine["total_size"], len(mine["recurringRuns"])) == (2, 1)
    text = '{"predicates":[{"operation":"EQUALS","key":"status","string_value":"DISABLED"}]}'
    found = await api.ok("GET", "/recurringruns", params={"filter": text})
    assert [r["display_name"] for r in found["recurringRuns"]] == ["c"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"display_name": None}, "needs a display_name"),
        ({"trigger": None}, "needs a trigger"),
        ({"trigger": {}}, "needs a trigger"),
        ({"trigger": CRON | PERIODIC}, "needs a trigger"),
        ({"trigger": {"cron_schedule": {"cron": "61 * * * * *"}}}, "not a schedule: end of range (61)"),
        ({"trigger": {"cron_schedule": {}}}, "not a schedule: empty spec"),
        ({"trigger": {"periodic_schedule": {"interval_second": "0"}}}, "at least 1 second"),
        ({"trigger": {"periodic_schedule": {"interval_second": "soon"}}}, "not a schedule"),
        (
            {
                "trigger": {
                    "cron_schedule": {
                        "cron": "@daily",
                        "start_time": "2026-01-02T00:00:00Z",
                        "end_time": "2026-01-01T00:00:00",
                    }
                }
            },
            "end_time must be after",
        ),
        ({"max_concurrency": 0}, "at least 1 and at most 10"),
        ({"max_concurrency": "11"}, "at least 1 and at most 10"),
        ({"max_concurrency": None}, "at least 1 and at most 10"),
        ({"mode": "SOMETIMES"}, "mode must be"),
        ({"runtime_config": {}}, "needs a value for who"),
        ({"pipeline_spec": None}, "A recurring run needs a pipeline_spec or"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_what_cannot_recur_is_refused(api, more, words):
    status, code, message = await api.refused("POST", "/recurringruns", body(**more))
    assert (status, code) == (400, 3)
    assert words in message
    assert "recurringRuns" not in await api.ok("GET", "/recurringruns")


async def test_who_may(api):
    made = await api.ok("POST", "/recurringruns", body())
    path = f"/recurringruns/{made['recurring_run_id']}"
    assert (await api.ok("GET", path, user="viewer"))["display_name"] == "nightly"
    for verb in ("enable", "disable"):
        assert (await api.refused("POST", f"{path}:{verb}", user="viewer"))[:2] == (403, 7)
    assert (await api.refused("DELETE", path, user="viewer"))[:2] == (403, 7)
    assert (await api.refused("POST", "/recurringruns", body(), user="viewer"))[:2] == (403, 7)
    assert (await api.refused("GET", path, user="other"))[:2] == (403, 7)
    assert (await api.refused("GET", f"/recurringruns?namespace={HOME}", user="other"))[:2] == (403, 7)

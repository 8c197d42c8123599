"""Experiments, schedules and comparisons; and who may not."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import aiohttp
import pytest
from dashboard_world import HOME, HOSTILE, NOBODY, SPEC, STRANGER, VIEWER

from headrace.components.pipelines.store.models import (
    NewArtifact,
    RecurringRun,
    Report,
    Run,
    RuntimeState,
    Spec,
    TaskRow,
    TaskType,
)
from headrace.components.pipelines.ui.schedules import in_words, left, upcoming

JSON = {"accept": "application/json"}
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


async def post(session, path: str, status: int = 200, **fields: str) -> dict[str, Any]:
    async with session.post(path, data=aiohttp.FormData(fields), headers=JSON) as response:
        found = await response.json()
        assert response.status == status, found
        return found


async def api(world, path: str, body: Any = None) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {await world.token()}"}
    method = "GET" if body is None else "POST"
    async with (
        world.anonymous() as session,
        session.request(method, f"/apis/v2beta1{path}", json=body, headers=headers) as response,
    ):
        return await response.json()


async def test_experiments_are_made_archived_and_restored(world):
    session = await world.browser()
    path = f"/experiments?ns={HOME}"
    assert "No experiment here" in await world.page(session, path)
    await post(session, path, action="make", name="study", description="Of rates.")
    text = await world.page(session, path)
    assert "study" in text
    assert "Of rates." in text
    (made,) = (await api(world, f"/experiments?namespace={HOME}"))["experiments"]
    assert f"/runs?experiment={made['experiment_id']}" in text
    assert "study" not in await world.page(session, f"{path}&q=other")
    await post(session, path, action="archive", experiment=made["experiment_id"])
    assert "study" not in await world.page(session, path)
    assert "study" in await world.page(session, f"{path}&archived=yes")
    await post(session, path, action="restore", experiment=made["experiment_id"])
    assert "study" in await world.page(session, path)
    assert "exists" in (await post(session, path, 409, action="make", name="study"))["error"]


async def pipeline(world) -> str:
    headers = {"authorization": f"Bearer {await world.token()}"}
    form = aiohttp.FormData()
    form.add_field("uploadfile", json.dumps(SPEC).encode(), filename="greet.json")
    async with (
        world.anonymous() as session,
        session.post(
            f"/apis/v2beta1/pipelines/upload?name=greet&namespace={HOME}", data=form, headers=headers
        ) as answer,
    ):
        return (await answer.json())["pipeline_id"]


async def test_a_schedule_from_a_form_to_its_end(world):
    session = await world.browser()
    ident = await pipeline(world)
    assert "greet" in await world.page(session, f"/schedules/new?ns={HOME}")
    path = f"/schedules/new?ns={HOME}&pipeline={ident}"
    assert 'name="cron"' in await world.page(session, path)
    plan = {"trigger": "cron", "cron": "0 30 6 * * *", "ends": "2031-01-01T00:00", "concurrency": "2", "catchup": "no"}
    await post(session, path, action="start", name="each morning", follow="latest", **plan)
    (made,) = (await api(world, f"/recurringruns?namespace={HOME}"))["recurringRuns"]
    assert made["display_name"] == "each morning"
    assert made["trigger"]["cron_schedule"] == {"cron": "0 30 6 * * *", "end_time": "2031-01-01T00:00:00Z"}
    assert (made["max_concurrency"], made["no_catchup"], made["status"]) == ("2", True, "ENABLED")
    assert made["pipeline_version_reference"] == {"pipeline_id": ident}
    path = f"/schedules?ns={HOME}"
    text = await world.page(session, path)
    assert "every day at 06:30 UTC" in text
    assert text.count("<time") == 5
    schedule = made["recurring_run_id"]
    like = f"/schedules/new?like={schedule}"
    assert like in text
    form = await world.page(session, like)
    for words in ('value="0 30 6 * * *"', 'value="2031-01-01T00:00"', "Clone of each morning"):
        assert words in form
    await post(session, like, action="start", name="each evening", follow="latest", **(plan | {"cron": "0 0 18 * * *"}))
    both = (await api(world, f"/recurringruns?namespace={HOME}"))["recurringRuns"]
    copy = next(each for each in both if each["display_name"] == "each evening")
    assert copy["pipeline_version_reference"] == {"pipeline_id": ident}
    assert copy["trigger"]["cron_schedule"]["cron"] == "0 0 18 * * *"
    await world.page(await world.browser(STRANGER), like, 403)
    await post(session, path, action="delete", schedule=copy["recurring_run_id"])
    await post(session, path, action="disable", schedule=schedule)
    text = await world.page(session, path)
    assert "Switch on" in text
    assert "<time" not in text
    await post(session, path, action="enable", schedule=schedule)
    assert "Switch off" in await world.page(session, path)
    await post(session, path, action="delete", schedule=schedule)
    assert "Nothing is scheduled" in await world.page(session, path)


@pytest.mark.parametrize(
    ("plan", "status", "words"),
    [
        ({"trigger": "cron", "cron": "never"}, 400, "not a schedule"),
        ({"trigger": "interval", "minutes": "soon"}, 422, "must be a number"),
        ({"trigger": "interval", "minutes": "0"}, 400, "not a schedule"),
        ({"trigger": "interval", "minutes": "5", "concurrency": "99"}, 400, "max_concurrency"),
        (
            {"trigger": "interval", "minutes": "5", "begins": "2031-01-01T00:00", "ends": "2030-01-01T00:00"},
            400,
            "after",
        ),
    ],
)
async def test_what_is_no_schedule_is_said_in_words(world, plan, status, words):
    path = f"/schedules/new?ns={HOME}&pipeline={await pipeline(world)}"
    assert words in (await post(await world.browser(), path, status, action="start", **plan))["error"]


def schedule(trigger: dict[str, Any], **more: Any) -> RecurringRun:
    return RecurringRun("r", HOME, "e", "name", trigger, created_at=NOON, **more)


def test_the_next_times_are_the_schedulers():
    every = schedule({"periodic_schedule": {"interval_second": "600"}})
    assert [(at - NOON).total_seconds() / 60 for at in upcoming(every, NOON)] == [10, 20, 30, 40, 50]
    late = upcoming(
        schedule({"cron_schedule": {"cron": "0 0 * * * *"}}, no_catchup=1), NOON + dt.timedelta(minutes=150)
    )
    assert [at.hour for at in late] == [14, 15, 16, 17, 18]
    ends = {"cron_schedule": {"cron": "0 0 * * * *", "end_time": "2026-01-01T14:30:00Z"}}
    assert [at.hour for at in upcoming(schedule(ends), NOON)] == [13, 14]
    assert upcoming(schedule({"cron_schedule": {"cron": "nonsense"}}), NOON) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "now"), (30, "in 30 s"), (600, "in 10 min"), (3 * 3600, "in 3 h"), (3 * 86400, "in 3 days")],
)
def test_how_long_from_now(seconds, words):
    assert left(NOON + dt.timedelta(seconds=seconds), NOON) == words


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        ({"periodic_schedule": {"interval_second": "3600"}}, "every 1 h"),
        ({"periodic_schedule": {"interval_second": "90"}}, "every 1 m 30 s"),
        ({"cron_schedule": {"cron": "0 5 4 * * *"}}, "every day at 04:05 UTC"),
        ({"cron_schedule": {"cron": "0 15 * * * *"}}, "every hour at minute 15"),
        ({"cron_schedule": {"cron": "0 0 0 1 * *"}}, "cron 0 0 0 1 * *"),
    ],
)
def test_the_rule_in_words(trigger, words):
    assert in_words(trigger) == words


async def measured(world, ident: str, rate: float, accuracy: float, namespace: str = HOME) -> str:
    """A run that has ended with metrics, a curve and a matrix."""
    spec = Spec(SPEC)
    parameters = {"rate": rate, "same": "yes"}
    run = Run(ident, namespace, "e", f"run {ident}", pipeline_name="train", parameters=parameters)
    await world.runs.create_run(run, spec)
    tasks = [TaskRow(f"{ident}-0", ident, "root", "root", TaskType.ROOT, state=RuntimeState.RUNNING)]
    tasks.append(TaskRow(f"{ident}-1", ident, "root/score", "score", TaskType.RUNTIME, f"{ident}-0"))
    await world.runs.create_tasks(ident, tasks)
    numbers = {"accuracy": accuracy, "loss": 1 - accuracy, "size": 7, HOSTILE: accuracy}
    curve = [{"confidenceThreshold": t, "recall": 1 - t * t, "falsePositiveRate": 1 - t} for t in (0.1, 0.5, 0.9)]
    matrix = {
        "annotationSpecs": [{"displayName": "cat"}, {"displayName": "dog"}],
        "rows": [{"row": [5, 1]}, {"row": [2, 4]}],
    }
    made = [
        NewArtifact("metrics", "metrics", "system.Metrics", "minio://m/x", numbers),
        NewArtifact(
            "classes",
            "classes",
            "system.ClassificationMetrics",
            "minio://m/y",
            {"confidenceMetrics": curve, "confusionMatrix": matrix},
        ),
    ]
    await world.runs.record_outputs(f"{ident}-1", Report(0, RuntimeState.SUCCEEDED, {}, made))
    await world.runs.finish_run(ident, RuntimeState.SUCCEEDED)
    return ident


async def test_runs_side_by_side_show_what_differs(world):
    await measured(world, "one", 0.1, 0.8)
    await measured(world, "two", 0.2, 0.9)
    session = await world.browser()
    text = await world.page(session, "/compare?run=one&run=two")
    for part in ("run one", "run two", ">rate<", ">accuracy<", "Parallel coordinates", "2 ROC curves", "cat"):
        assert part in text
    assert ">same<" not in text
    assert ">size<" not in text
    assert "<script>alert" not in text
    assert text.count("<polyline") == 4, "two curves, two lines of coordinates"
    text = await world.page(session, "/compare?run=one,two&all=yes")
    assert ">same<" in text
    assert ">size<" in text


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "at least two"),
        ("?run=one", 400, "at least two"),
        ("?run=one&run=one", 400, "at least two"),
        ("?run=one&run=gone", 404, "may have been deleted"),
        ("?" + "&".join(f"run={n}" for n in range(11)), 400, "At most 10"),
    ],
)
async def test_what_cannot_be_compared(world, query, status, words):
    await measured(world, "one", 0.1, 0.8)
    assert words in await world.page(await world.browser(), f"/compare{query}", status)


async def test_a_viewer_sees_and_changes_nothing(world):
    made = await api(world, "/experiments", {"display_name": "study", "namespace": HOME})
    ident = await pipeline(world)
    session = await world.browser()
    plan = {"trigger": "interval", "minutes": "600"}
    await post(session, f"/schedules/new?ns={HOME}&pipeline={ident}", action="start", **plan)
    (planned,) = (await api(world, f"/recurringruns?namespace={HOME}"))["recurringRuns"]
    viewer = await world.browser(VIEWER)
    assert "study" in await world.page(viewer, f"/experiments?ns={HOME}")
    assert "greet" in await world.page(viewer, f"/schedules?ns={HOME}")
    which, what = {"experiment": made["experiment_id"]}, {"schedule": planned["recurring_run_id"]}
    for path, fields in (
        ("/experiments", {"action": "make", "name": "theirs"}),
        ("/experiments", {"action": "archive", **which}),
        ("/experiments", {"action": "restore", **which}),
        ("/schedules", {"action": "enable", **what}),
        ("/schedules", {"action": "disable", **what}),
        ("/schedules", {"action": "delete", **what}),
        ("/schedules/new", {"action": "start", **plan}),
    ):
        found = await post(viewer, f"{path}?ns={HOME}&pipeline={ident}", 403, **fields)
        assert "may not" in found["error"]
    assert "study" in await world.page(session, f"/experiments?ns={HOME}")
    assert "Switch off" in await world.page(session, f"/schedules?ns={HOME}")


@pytest.mark.parametrize("person", [STRANGER, NOBODY])
async def test_others_see_nothing(world, person):
    await measured(world, "one", 0.1, 0.8)
    await measured(world, "two", 0.2, 0.9)
    other = await world.browser(person)
    for path in (f"/experiments?ns={HOME}", f"/schedules?ns={HOME}", "/compare?run=one&run=two"):
        await world.page(other, path, 403)


async def test_an_artifact_and_its_family(world):
    await measured(world, "one", 0.1, 0.8)
    session = await world.browser()
    text = await world.page(session, f"/artifacts?ns={HOME}")
    assert ">metrics<" in text
    assert "minio://m/x" in text
    assert ">classes<" not in await world.page(session, f"/artifacts?ns={HOME}&q=metr")
    listed = await api(world, f"/artifacts?namespace={HOME}")
    ident = next(a["artifact_id"] for a in listed["artifacts"] if a["name"] == "classes")
    text = await world.page(session, f"/artifacts/{ident}")
    for part in ("Confusion matrix", "ROC curve", "run one", ">score<", f"/apis/v2beta1/artifacts/{ident}:download"):
        assert part in text
    assert "/runs/one?task=one-1" in text
    await world.page(await world.browser(VIEWER), f"/artifacts/{ident}")
    for person in (STRANGER, NOBODY):
        other = await world.browser(person)
        await world.page(other, f"/artifacts/{ident}", 403)
        await world.page(other, f"/artifacts?ns={HOME}", 403)
        await world.page(other, f"/artifacts?ns={HOME}&tab=buckets", 403)


async def test_what_a_run_took_by_default_is_compared_as_what_it_was_given(world):
    wanted = {"parameters": {"n": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3.0}}}
    spec = {**SPEC, "root": {**SPEC["root"], "inputDefinitions": wanted}}
    for name, given in (("one", {}), ("two", {"n": 3.0}), ("three", {"n": 4.0})):
        run = Run(id=name, namespace=HOME, experiment_id="e", display_name=name, parameters=given)
        await world.runs.create_run(run, Spec(spec))
    session = await world.browser()
    assert "the same parameters" in await world.page(session, "/compare?run=one&run=two")
    text = await world.page(session, "/compare?run=one&run=three")
    assert ">3<" in text
    assert ">4<" in text

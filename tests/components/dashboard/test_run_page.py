"""The page of a run: its tasks as a graph and by a selection, previews, why a task failed, the object of its pod."""

from __future__ import annotations

import pytest
from dashboard_world import HOME, HOSTILE, NOBODY, STRANGER, VIEWER, World, event

from headrace.components.pipelines.store.models import NewArtifact, Report, RuntimeState, TaskRow, TaskType, TaskUpdate

CURVE = {
    "confusionMatrix": {"annotationSpecs": [{"displayName": "cat"}], "rows": [{"row": [3]}]},
    "confidenceMetrics": [{"falsePositiveRate": 0.1, "recall": 0.5}, {"falsePositiveRate": 0.4, "recall": 0.9}],
}


async def recorded(world: World, name: str = "say", **detail: object) -> str:
    """A failed run of two tasks: one made artifacts, one failed."""
    await world.record_run(pipeline_name=name)
    root = TaskRow("t0", "run-1", "root", "root", TaskType.ROOT, state=RuntimeState.RUNNING)
    made = TaskRow("t1", "run-1", "root/say", "say", TaskType.RUNTIME, "t0", pod_name="say-0")
    fails = TaskRow("t2", "run-1", "root/break", "break", TaskType.RUNTIME, "t0", display_name=name, pod_name="break-1")
    made.state = fails.state = RuntimeState.RUNNING
    made.detail, fails.detail = dict(detail), {"failed_pods": ["break-0"]}
    await world.runs.create_tasks("run-1", [root, made, fails])
    artifacts = [
        NewArtifact("curve", name, "system.ClassificationMetrics", "minio://b/curve", CURVE),
        NewArtifact("page", "page", "system.HTML", "minio://b/page"),
    ]
    await world.runs.record_outputs("t1", Report(0, RuntimeState.SUCCEEDED, {"Output": name}, artifacts))
    failed = {"state": RuntimeState.FAILED, "error_message": f"The step failed: {name}"}
    await world.runs.update_tasks([TaskUpdate("t2", failed)])
    await world.runs.finish_run("run-1", RuntimeState.FAILED, error_message=f"Task {name}")
    return "/runs/run-1"


async def test_the_graph_and_the_table_and_a_selection(world):
    page = await recorded(world)
    session = await world.browser()
    graph = await world.page(session, f"{page}?view=graph")
    assert 'class="dag"' in graph
    assert "task=t1" in graph
    assert "gantt" in await world.page(session, page)
    for view in ("timeline", "graph", "table"):
        some = await world.page(session, f"{page}?view={view}&q=state:failed&task=t2")
        assert "1 of 2 tasks" in some
        assert "task=t1" not in some, view
        assert "no state nope" in await world.page(session, f"{page}?view={view}&q=state:nope")
        assert "No task of this run is meant" in await world.page(session, f"{page}?view={view}&q=nothing-like-it")


async def test_why_it_failed_is_drawn_from_everything(world):
    page = await recorded(world)
    pod = await world.pod("break-1")
    await event(world, pod, "BackOff", "It cannot be pulled")
    world.write_log(HOME, "break-1", pod.metadata.uid, "before", "ValueError: seven is too many")
    for email in (VIEWER, None):
        session = await world.browser(email) if email else await world.browser()
        text = await world.page(session, f"{page}?task=t2")
        for words in ("The step failed: say", "It cannot be pulled", "ValueError: seven is too many", "attempt 1"):
            assert words in text


async def test_the_pod_as_yaml_for_who_may_get_it(world):
    page = await recorded(world)
    session = await world.browser()
    assert "The pod is gone, and its object" in await world.page(session, f"{page}?task=t2&tab=yaml")
    await world.pod("break-1")
    text = await world.page(session, f"{page}?task=t2&tab=yaml")
    assert "image: busybox" in text
    assert "managedFields" not in text
    for email in (STRANGER, NOBODY):
        refused = await world.page(await world.browser(email), f"{page}?task=t2&tab=yaml", 403)
        assert "busybox" not in refused


async def test_previews_and_where_things_come_from(world):
    page = await recorded(world)
    session = await world.browser(VIEWER)
    text = await world.page(session, f"{page}?task=t1&tab=values")
    assert "Confusion matrix of 1 classes" in text  # what a person came for is open
    artifacts = {a.name: a.id for a in (await world.runs.load_run("run-1")).artifacts.values()}
    assert f'href="/apis/v2beta1/artifacts/{artifacts["page"]}:download"' in text
    assert 'href="/runs/run-1?task=t1&amp;tab=values">say</a>' in text  # made by
    closed = await world.page(session, f"{page}?task=t1&tab=values&show=none")
    assert "Confusion matrix of 1 classes" not in closed
    # There is no object store in this world: the reason is said in the page.
    other = await world.page(session, f"{page}?task=t1&tab=values&show={artifacts['page']}")
    assert 'class="empty"' in other
    async with session.get(f"/apis/v2beta1/artifacts/{artifacts['page']}:show") as response:
        assert response.status in {400, 412, 503}
    stranger = await world.browser(STRANGER)
    async with stranger.get(f"/apis/v2beta1/artifacts/{artifacts['page']}:show") as response:
        assert response.status == 403
    assert "Confusion" not in await world.page(stranger, f"{page}?task=t1&tab=values", 403)


async def test_a_cache_hit_leads_to_the_task_that_made_it(world):
    page = await recorded(world, cache="An earlier task had the same inputs.")
    await world.runs.create_run(
        type(await world.runs.get_run("run-1"))(id="run-2", namespace=HOME, experiment_id="e", display_name="again"),
        (await world.runs.load_run("run-1")).spec,
    )
    root = TaskRow("u0", "run-2", "root", "root", TaskType.ROOT, state=RuntimeState.RUNNING)
    hit = TaskRow("u1", "run-2", "root/say", "say", TaskType.RUNTIME, "u0", state=RuntimeState.SUCCEEDED)
    hit.cached_from, hit.detail = "t1", {"cache": "It was taken from the cache because of <b>."}
    await world.runs.create_tasks("run-2", [root, hit])
    text = await world.page(await world.browser(), "/runs/run-2?task=u1")
    assert "because of &lt;b&gt;." in text
    assert 'href="/runs/run-1?task=t1"' in text
    assert "An earlier task had the same inputs." in await world.page(await world.browser(), f"{page}?task=t1")


@pytest.mark.parametrize("query", ["view=graph", "view=graph&q=state:failed", "task=t1&tab=values", "q=alert(1)"])
async def test_hostile_names_are_only_text(world, query):
    page = await recorded(world, HOSTILE)
    text = await world.page(await world.browser(), f"{page}?{query}")
    assert HOSTILE not in text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


async def test_the_words_are_translated(world):
    page = await recorded(world)
    session = await world.browser()
    for language, words in (("ko", "타임라인"), ("zh-TW", "時間軸")):
        async with session.get(page, headers={"accept-language": language}) as response:
            assert words in await response.text()


async def test_what_it_cost_in_processor_time(world):
    page = await recorded(world, used={"cpu_seconds": 4.0, "peak_bytes": 3 << 20})  # of an attempt before
    session = await world.browser()
    assert "4.00 s of CPU" in await world.page(session, page)
    assert "4.00 s of CPU, at most 3.0 MiB of memory" in await world.page(session, f"{page}?task=t1")
    assert "4.00 s of CPU, at most 3.0 MiB of memory" in await world.page(session, f"{page}?task=t0")
    assert "<dt>Cost</dt>" not in await world.page(session, f"{page}?task=t2")
    assert "4.00 s" in await world.page(session, f"{page}?view=table")

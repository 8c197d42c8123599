"""What people do with runs from the pages: one or many, who may, and what cannot be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from dashboard_world import HOME, OTHER, STRANGER, VIEWER, World

from headrace.components.pipelines.store.catalog import Catalog
from headrace.components.pipelines.store.models import RuntimeState, StorageState
from headrace.machinery.sql import Database

if TYPE_CHECKING:
    import aiohttp

JSON = {"accept": "application/json"}


async def act(session: aiohttp.ClientSession, path: str, action: str, *runs: str) -> tuple[int, dict[str, str]]:
    form = [("action", action), *(("run", run) for run in runs)]
    async with session.post(path, data=form, headers=JSON) as response:
        return response.status, await response.json()


async def stored(world: World, run: str) -> StorageState | None:
    found = await world.runs.get_run(run)
    return found.storage_state if found else None


async def ended(world: World, name: str, state: RuntimeState = RuntimeState.FAILED, **fields: str) -> None:
    await world.record_run(id=name, display_name=name, **fields)
    await world.runs.finish_run(name, state, error_message="it broke")


async def test_many_runs_at_once(world):
    session = await world.browser()
    for name in ("a", "b"):
        await ended(world, name)
    await world.record_run(id="c", display_name="c")
    assert await act(session, "/runs", "archive", "a", "b") == (
        200,
        {"location": "", "message": "2 runs are in the archive."},
    )
    status, said = await act(session, "/runs", "archive", "a", "c", "gone")
    assert (status, said["message"]) == (200, "The run is in the archive. Left as they were: 2.")
    assert [await stored(world, name) for name in "abc"] == [StorageState.ARCHIVED] * 3
    text = await world.page(session, "/runs?archived=1")
    assert 'value="unarchive"' in text
    assert 'value="archive"' not in text
    assert "<td" not in await world.page(session, "/runs")
    status, said = await act(session, "/runs", "unarchive", "c")
    assert said["message"] == "The run is in the list again."
    status, said = await act(session, "/runs", "terminate", "a", "c")
    assert said["message"] == "The run is being stopped. Left as they were: 1."
    status, said = await act(session, "/runs", "delete", "a", "b")
    assert (status, said["message"]) == (200, "2 runs are deleted.")
    assert await world.runs.get_run("a") is None


async def test_a_run_by_its_own_page(world):
    session = await world.browser()
    await ended(world, "other")
    run = await world.start_run()
    text = await world.page(session, f"/runs/{run}")
    assert 'value="terminate"' in text
    assert 'value="retry"' not in text
    assert f'href="/runs/new?clone={run}"' in text
    assert (await act(session, f"/runs/{run}", "terminate"))[0] == 200
    assert 'value="retry"' in await world.page(session, "/runs/other")
    # The page's own run is meant, whatever the form names.
    assert (await act(session, "/runs/other", "retry", run))[1]["message"] == (
        "The run goes on from the step that failed."
    )
    assert not (await world.runs.get_run("other")).state.final
    status, said = await act(session, "/runs/other", "delete")
    assert (status, said["location"]) == (200, "/runs")


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("terminate", "has ended already"),
        ("retry", "Only a run that failed"),
        ("unarchive", "It is in the list"),
    ],
)
async def test_what_cannot_be_done_is_said(world, action, words):
    session = await world.browser()
    await ended(world, "a", RuntimeState.SUCCEEDED)
    status, said = await act(session, "/runs/a", action)
    assert status == 409
    assert words in said["error"]
    assert (await act(session, "/runs", action))[0] == 422


async def test_a_run_of_an_archived_experiment_is_not_restored(world):
    session = await world.browser()
    database = Database(f"sqlite:///{world.settings.state / 'pipelines.db'}")
    await database.open(lambda _connection: None)
    catalog = Catalog(database, world.clock)
    experiment = await catalog.create_experiment(HOME, "old")
    await ended(world, "a", experiment_id=experiment.id)
    await catalog.archive_experiment(experiment.id)
    await database.close()
    status, said = await act(session, "/runs/a", "unarchive")
    assert status == 409
    assert "experiment is archived" in said["error"]


@pytest.mark.parametrize("action", ["terminate", "retry", "archive", "unarchive", "delete"])
async def test_who_may_only_look_changes_nothing(world, action):
    await ended(world, "mine")
    await world.record_run(id="going", display_name="going")
    before = [await world.runs.get_run(name) for name in ("mine", "going")]
    for email in (VIEWER, STRANGER):
        session = await world.browser(email)
        for path, runs in (("/runs", ("mine", "going")), ("/runs/mine", ()), ("/runs/going", ())):
            status, said = await act(session, path, action, *runs)
            assert status == 403, (email, path)
            assert f"may not {action} runs in namespace {HOME}" in said["error"]
    assert [await world.runs.get_run(name) for name in ("mine", "going")] == before


async def test_one_foreign_run_in_a_list_and_nothing_is_done(world):
    await ended(world, "mine")
    await ended(world, "theirs", namespace=OTHER)
    session = await world.browser()
    assert (await act(session, "/runs", "archive", "mine", "theirs"))[0] == 403
    assert await stored(world, "mine") is StorageState.AVAILABLE
    assert await stored(world, "theirs") is StorageState.AVAILABLE


async def test_buttons_are_for_those_who_may(world):
    await ended(world, "mine")
    owner, viewer = await world.browser(), await world.browser(VIEWER)
    for path in (f"/runs?ns={HOME}", "/runs/mine"):
        theirs, text = await world.page(viewer, path), await world.page(owner, path)
        for action in ("retry", "archive"):
            assert f'value="{action}"' in text
            assert f'value="{action}"' not in theirs
    assert 'value="compare"' in await world.page(viewer, f"/runs?ns={HOME}")
    assert "/runs/new" not in await world.page(viewer, "/runs/mine")


async def test_comparing_needs_two(world):
    session = await world.browser(VIEWER)
    assert await act(session, "/runs", "compare", "a", "b", "a") == (
        200,
        {"location": "/compare?run=a&run=b", "message": ""},
    )
    assert (await act(session, "/runs", "compare", "a"))[0] == 422


async def test_filters_by_pipeline_and_time(world):
    session = await world.browser()
    world.clock.ahead = -7200
    await world.record_run(id="old", display_name="old run", pipeline_name="train")
    world.clock.ahead = 0
    await world.record_run(id="new", display_name="new run", pipeline_name="serve")
    for query, there in (
        ("", {"old", "new"}),
        ("?time=1h", {"new"}),
        ("?time=1d", {"old", "new"}),
        ("?pipeline=train", {"old"}),
        ("?pipeline=train&time=1h", set()),
        ("?pipeline=nothing-like-it", set()),
    ):
        text = await world.page(session, f"/runs{query}")
        assert {name for name in ("old", "new") if f'id="run-{name}"' in text} == there, query
        assert '<option value="train"' in text

"""The first page: what the machine used over the last hour, and what can be started with one press."""

from __future__ import annotations

import re

import pytest
from dashboard_world import HOME, NOBODY, OTHER, OWNER, VIEWER

from headrace.components.dashboard.controller import KEPT, History, existing
from headrace.components.dashboard.ui import usage
from headrace.machinery.component import ContainerUsage, NodeUsage
from headrace.machinery.offers import NEVER, Hit, best, score
from headrace.testing import FakeClock, eventually

JSON = {"accept": "application/json"}


class Pods:
    """Says what two pods use."""

    def spent(self, pod_uid: str) -> None:
        return None

    async def usage(self) -> NodeUsage:
        pods = {"a": (ContainerUsage("main", 0.5, 100), ContainerUsage("side", 0.25, 20)), "b": ()}
        return NodeUsage(30.0, 1.0, 1000, pods)


async def half_a_minute(clock: FakeClock) -> None:
    """The sampler sleeps, wakes, has done its work and sleeps again."""
    await eventually(lambda: clock.sleepers == 1)
    clock.step(30)
    await eventually(lambda: clock.sleepers == 1)


async def test_samples_are_taken_by_the_clock_and_kept_for_three_hours(tmp_path):
    clock = FakeClock()
    history = History(clock, tmp_path / "not" / "yet", Pods())
    await history.start()
    try:
        for _ in range(3):
            await half_a_minute(clock)
        samples = history.since(3600)
        assert len(samples) == 3
        assert samples == sorted(samples, key=lambda s: s.at)
        for sample in samples:
            assert 0 <= sample.cpu <= 1
            assert 0 < sample.memory <= 1
            assert 0 < sample.disk <= 1
            assert (sample.pods_cpu, sample.pods_memory) == (0.75, 120)
        assert len(history.since(45)) == 2
        look = await history.look()
        assert await history.look() is look
        assert len(history.since(3600)) == 3
    finally:
        await history.stop()
    for _ in range(KEPT + 5):
        await history.take()
    assert len(history.since(1e9)) == KEPT


async def test_a_failed_sample_is_a_gap_and_not_the_end(tmp_path):
    class Broken(Pods):
        times = 0

        async def usage(self) -> NodeUsage:
            self.times += 1
            if self.times == 1:
                raise OSError("gone")
            return await super().usage()

    clock = FakeClock()
    history = History(clock, tmp_path, Broken())
    await history.start()
    try:
        for _ in range(2):
            await half_a_minute(clock)
        assert len(history.since(3600)) == 1
    finally:
        await history.stop()


def test_the_nearest_folder(tmp_path):
    assert existing(tmp_path / "a" / "b") == tmp_path
    assert existing(tmp_path) == tmp_path


def test_a_chart_says_what_it_shows_and_has_gaps():
    points = [(1000.0, 0.1), (1030.0, 0.5), (1060.0, 0.2), (3000.0, 0.9)]
    drawn = usage.chart("CPU", points, 3600.0, alarm=True)
    assert "CPU over the last hour: now 90 percent, at most 90" in drawn
    assert drawn.count("<polyline") == 2
    assert 'class="hour warn"' in drawn
    assert 'class="hour accent"' in usage.chart("CPU", points, 3600.0, alarm=False)
    xs = [float(x) for x in re.findall(r"(-?[\d.]+),[\d.]+", drawn)]
    assert all(0 <= x <= usage.WIDTH for x in xs)
    assert "<polyline" not in usage.chart("CPU", [], 3600.0, alarm=True)


async def test_the_first_page_shows_the_hour(world):
    page = await world.page(await world.browser(), "/")
    for name in ("CPU", "Memory", "Disk"):
        assert f"{name} over the last hour" in page


@pytest.mark.parametrize(
    ("email", "namespace", "status"), [(OWNER, HOME, 200), (VIEWER, HOME, 403), (OWNER, OTHER, 403)]
)
async def test_the_example_starts_for_who_may_run_things(world, email, namespace, status):
    session = await world.browser(email)
    page = await world.page(session, f"/?ns={namespace}")
    assert (f'action="/examples/digits?ns={namespace}"' in page) == (status == 200)
    where = f"/examples/digits?ns={namespace}"
    assert ('value="start"' in await world.page(session, where)) == (status == 200)
    async with session.post(where, data={"action": "start"}, headers=JSON) as response:
        said = await response.json()
        assert response.status == status, said
    if status == 200:
        run = await world.runs.get_run(said["location"].removeprefix("/runs/"))
        assert run is not None
        assert (run.namespace, run.pipeline_name) == (HOME, "digits-recognizer")


async def test_nobody_is_offered_what_they_may_not_start(world):
    page = await world.page(await world.browser(NOBODY), f"/examples/digits?ns={HOME}")
    assert "You may not start runs" in page


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("", ["train digits", "digits", "other"]),
        ("digits", ["digits", "train digits"]),
        ("dig tr", ["train digits"]),
        ("run", ["train digits", "other"]),
        ("nothing", []),
    ],
)
def test_the_best_comes_first(text, order):
    hits = [Hit("Run", "train digits", "/1"), Hit("Model", "digits", "/2"), Hit("Run", "other", "/3")]
    assert [hit.title for hit in best(text, hits, 10)] == order
    assert best(text, hits, 1) == best(text, hits, 10)[:1]


def test_every_word_must_be_found():
    assert score("digits xyz", Hit("Run", "digits", "/1")) == NEVER

"""Recurring runs over a real database and a clock that tests move: each scheduled time has exactly one run."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from pipelines_harness import HOME, SPEC

from headrace.components.pipelines.api.launch import check
from headrace.components.pipelines.controller.schedules import Scheduler
from headrace.components.pipelines.migrations import upgrade
from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.catalog import Catalog
from headrace.components.pipelines.store.models import (
    Pipeline,
    PipelineVersion,
    RecurringRun,
    Run,
    RuntimeState,
    Spec,
    Status,
)
from headrace.components.pipelines.store.recurring import RecurringRuns
from headrace.components.pipelines.store.repository import RunRepository
from headrace.components.pipelines.store.rows import from_row
from headrace.machinery.sql import Database
from headrace.testing import FakeClock, eventually

HOURLY = {"cron_schedule": {"cron": "0 0 * * * *"}}
HOUR = 3600.0


@dataclass
class Bench:
    database: Database
    clock: FakeClock
    runs: RunRepository
    recurring: RecurringRuns
    catalog: Catalog
    scheduler: Scheduler

    async def add(self, spec: Spec | None = None, **more) -> RecurringRun:
        more = {"trigger": HOURLY, "parameters": {"who": "x"}} | more
        row = RecurringRun("", HOME, "e", "Nightly", **more)
        return await self.recurring.create(row, None if row.pipeline_id else spec or Spec(SPEC))

    async def started(self) -> list[Run]:
        def work(connection: sa.Connection) -> list[Run]:
            rows = connection.execute(sa.select(t.runs).order_by(t.runs.c.scheduled_at)).mappings()
            return [from_row(Run, row) for row in rows]

        return await self.database.run(work)

    async def until(self, count: int) -> list[Run]:
        async def there() -> bool:
            return len(await self.started()) >= count

        await eventually(there)
        await self.settle()
        found = await self.started()
        assert len(found) == count
        return found

    async def settle(self) -> None:
        """Long enough for a turn that would start too much."""
        for _ in range(5):
            await self.database.run(lambda _c: None)
            await asyncio.sleep(0.005)

    async def finish(self, run: Run) -> None:
        await self.runs.finish_run(run.id, RuntimeState.SUCCEEDED)

    async def restart(self) -> None:
        await self.scheduler.stop()
        self.scheduler = Scheduler(self.clock, self.recurring, self.runs, check)
        await self.scheduler.start()


@pytest.fixture
async def bench(database_url):
    database, clock = Database(database_url), FakeClock()
    await database.open(upgrade)
    runs = RunRepository(database, clock)
    recurring = RecurringRuns(database, clock, runs)
    found = Bench(database, clock, runs, recurring, Catalog(database, clock), Scheduler(clock, recurring, runs, check))
    await found.scheduler.start()
    yield found
    await found.scheduler.stop()
    await database.close()


async def advance(bench: Bench, seconds: float) -> None:
    """As time goes by: the loop wakes at least once a minute."""
    while seconds > 0:
        await eventually(lambda: bench.clock.sleepers > 0)
        bench.clock.step(min(seconds, 60.0))
        seconds -= 60.0
        await asyncio.sleep(0)


async def test_each_hour_has_one_run(bench):
    recurring = await bench.add()
    await advance(bench, HOUR)
    (first,) = await bench.until(1)
    await bench.finish(first)
    await advance(bench, HOUR)
    first, second = await bench.until(2)

    assert [r.scheduled_at.hour for r in (first, second)] == [1, 2]
    assert first.display_name.startswith("nightly")
    assert (first.recurring_run_id, first.pipeline_name, first.parameters) == (recurring.id, "greet", {"who": "x"})
    assert [r.display_name.split("-")[-2] for r in (first, second)] == ["1", "2"]


async def test_a_time_that_passed_while_nothing_ran_is_made_up_for_once(bench):
    await bench.add(max_concurrency=10)
    await bench.scheduler.stop()
    bench.clock.step(3.5 * HOUR)
    await bench.restart()
    assert [r.scheduled_at.hour for r in await bench.until(3)] == [1, 2, 3]
    await bench.restart()
    await bench.settle()
    assert len(await bench.started()) == 3


async def test_without_catch_up_only_the_newest(bench):
    await bench.add(max_concurrency=10, no_catchup=1)
    await bench.scheduler.stop()
    bench.clock.step(3.5 * HOUR)
    await bench.restart()
    assert [r.scheduled_at.hour for r in await bench.until(1)] == [3]


async def test_no_more_than_max_concurrency_at_a_time(bench):
    await bench.scheduler.stop()
    await bench.add(max_concurrency=2)
    bench.clock.step(4.5 * HOUR)
    await bench.restart()
    first, _ = await bench.until(2)
    await bench.finish(first)
    *_, third = await bench.until(3)
    assert third.scheduled_at.hour == 3


async def test_disabled_starts_nothing_and_enabled_again_catches_up(bench):
    recurring = await bench.add(max_concurrency=10)
    await bench.recurring.set_status(recurring.id, Status.DISABLED)
    await eventually(lambda: bench.clock.sleepers == 0)
    bench.clock.step(2 * HOUR)
    await bench.settle()
    assert await bench.started() == []
    await bench.recurring.set_status(recurring.id, Status.ENABLED)
    await bench.until(2)
    await bench.recurring.delete(recurring.id)
    await eventually(lambda: bench.clock.sleepers == 0)


async def test_the_latest_version_and_what_happens_without_one(bench):
    pipeline = await bench.catalog.create_pipeline(Pipeline("", HOME, "p"))
    recurring = await bench.add(pipeline_id=pipeline.id)
    await advance(bench, HOUR)

    async def error() -> str:
        found, _ = await bench.recurring.get(recurring.id)
        return found.error_message

    assert "with a version not found" in await eventually(error)
    assert await bench.started() == []
    inputs = {"who": {"parameterType": "STRING"}, "more": {"parameterType": "STRING"}}
    needs_more = {**SPEC, "root": {**SPEC["root"], "inputDefinitions": {"parameters": inputs}}}
    await bench.catalog.create_version(PipelineVersion("", pipeline.id, "v1", spec=Spec(needs_more)))
    await advance(bench, HOUR)

    async def other() -> bool:
        return "needs a value for more" in await error()

    await eventually(other)
    newest = await bench.catalog.create_version(PipelineVersion("", pipeline.id, "v2", spec=Spec(SPEC)))
    await advance(bench, HOUR)
    (run,) = await bench.until(1)
    assert (run.pipeline_version_id, run.scheduled_at.hour) == (newest.id, 3)
    assert await error() == ""


async def test_an_archived_experiment_starts_nothing(bench):
    experiment = await bench.catalog.create_experiment(HOME, "e")
    row = RecurringRun("", HOME, experiment.id, "n", trigger=HOURLY, parameters={"who": "x"})
    recurring = await bench.recurring.create(row, Spec(SPEC))
    await bench.catalog.archive_experiment(experiment.id)
    found, _ = await bench.recurring.get(recurring.id)
    assert found.status is Status.DISABLED


PROGRAM = """
import asyncio, sys
from headrace.components.pipelines.controller.schedules import Scheduler
from headrace.components.pipelines.migrations import upgrade
from headrace.machinery.sql import Database
from headrace.components.pipelines.store.models import RuntimeState
from headrace.components.pipelines.store.recurring import RecurringRuns
from headrace.components.pipelines.store.repository import RunRepository
from headrace.machinery.clock import SystemClock

async def main():
    database, clock = Database(sys.argv[1]), SystemClock()
    await database.open(upgrade)
    runs = RunRepository(database, clock)
    def on_change(change):
        if change.kind == "created":
            print(change.run_id, flush=True)
            tasks.add(asyncio.ensure_future(runs.finish_run(change.run_id, RuntimeState.SUCCEEDED)))
    tasks = set()
    runs.subscribe(on_change)
    for run_id in await runs.unfinished_runs():
        await runs.finish_run(run_id, RuntimeState.SUCCEEDED)
    await Scheduler(clock, RecurringRuns(database, clock, runs), runs, lambda spec, parameters: "p").start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_kill_9_neither_loses_nor_repeats_a_start(bench, database_url):
    await bench.scheduler.stop()
    start = "2025-01-01T00:00:00Z"
    await bench.add(trigger={"periodic_schedule": {"interval_second": "60", "start_time": start}}, max_concurrency=3)
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, database_url], stdout=subprocess.PIPE, text=True
        ) as process:
            for _ in range(20):
                await asyncio.to_thread(process.stdout.readline)
            process.send_signal(signal.SIGKILL)
    begin = dt.datetime.fromisoformat(start)
    found = await bench.started()

    assert len(found) >= 60
    assert [r.scheduled_at for r in found] == [begin + dt.timedelta(minutes=n + 1) for n in range(len(found))]
    assert [int(r.display_name.split("-")[-2]) for r in found] == list(range(1, len(found) + 1))

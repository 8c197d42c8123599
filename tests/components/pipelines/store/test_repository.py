"""The record of runs: exactly once, never back from a final state, the same after a repetition."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading

import pytest
import sqlalchemy as sa

from headrace.components.pipelines.migrations import upgrade
from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.kept import KeptTasks
from headrace.components.pipelines.store.models import (
    FINAL,
    Again,
    Change,
    ChangeKind,
    NewArtifact,
    Report,
    Run,
    RuntimeState,
    Spec,
    TaskRow,
    TaskType,
    TaskUpdate,
    Values,
)
from headrace.components.pipelines.store.repository import RunNotFound, RunRepository
from headrace.machinery.sql import Database

S = RuntimeState
MODEL = NewArtifact("model", "model", "system.Model", "s3://b/model", {"accuracy": 0.9})


def run(ident: str = "r1", **more) -> Run:
    given = {"namespace": "team", "experiment_id": "e", "display_name": ident, "pipeline_name": "p"} | more
    return Run(id=ident, **given)


def task(ident: str = "t1", **more) -> TaskRow:
    given = {"run_id": "r1", "path": f"root/{ident}", "name": ident, "type": TaskType.RUNTIME} | more
    return TaskRow(id=ident, **given)


@pytest.fixture
async def started(repository) -> RunRepository:
    await repository.create_run(run(), Spec({"pipelineInfo": {"name": "p"}}))
    await repository.start_run("r1")
    await repository.create_tasks("r1", [task()])
    await repository.update_tasks([TaskUpdate("t1", {"state": S.RUNNING, "pod_name": "pod-0"})])
    return repository


async def count(database, table) -> int:
    return await database.run(lambda c: c.scalar(sa.select(sa.func.count()).select_from(table)))


async def test_a_run_goes_from_pending_to_its_final_state_and_stays(repository, clock):
    await repository.create_run(run(), Spec({"a": 1}))
    assert await repository.unfinished_runs() == ["r1"]
    clock.step(1)
    assert await repository.start_run("r1")
    assert not await repository.start_run("r1")
    clock.step(1)
    assert await repository.finish_run("r1", S.FAILED, error_code=2, error_message="why")
    for state in FINAL:
        assert not await repository.finish_run("r1", state)
    assert not await repository.request_termination("r1")
    found = await repository.get_run("r1")
    assert (found.state, found.error_code, found.error_message) == (S.FAILED, 2, "why")
    assert (found.finished_at - found.created_at).total_seconds() == 2
    assert [(e["state"], e["update_time"]) for e in found.state_history] == [
        ("PENDING", "2026-01-01T00:00:00Z"),
        ("RUNNING", "2026-01-01T00:00:01Z"),
        ("FAILED", "2026-01-01T00:00:02Z"),
    ]
    assert found.state_history[-1]["error"] == {"code": 2, "message": "why"}
    assert await repository.unfinished_runs() == []


async def test_a_run_is_not_finished_by_a_state_that_is_not_final(repository):
    with pytest.raises(ValueError, match="not a final state"):
        await repository.finish_run("r1", S.RUNNING)


async def test_termination_is_asked_for_once_and_wakes_once(started):
    changes: list[Change] = []
    stop = started.subscribe(changes.append)
    assert await started.request_termination("r1")
    assert await started.request_termination("r1")
    assert [c.kind for c in changes] == [ChangeKind.TERMINATING]
    assert (await started.get_run("r1")).state is S.CANCELING
    assert not await started.start_run("r1")
    stop()
    await started.delete_run("r1")
    assert len(changes) == 1
    with pytest.raises(RunNotFound):
        await started.request_termination("r1")


async def test_a_subscriber_that_fails_does_not_fail_the_write(repository, caplog):
    def broken(_change: Change) -> None:
        raise RuntimeError("broken subscriber")

    heard: list[Change] = []
    repository.subscribe(broken)
    repository.subscribe(heard.append)
    await repository.create_run(run(), Spec({}))
    assert [c.kind for c in heard] == [ChangeKind.CREATED]
    assert "broken subscriber" in caplog.text


async def test_tasks_are_created_once_per_path(repository):
    await repository.create_run(run(), Spec({}))
    first = await repository.create_tasks("r1", [task("a"), task("b")])
    again = await repository.create_tasks("r1", [task("other", path="root/a"), task("c")])
    assert [x.id for x in first] == ["a", "b"]
    assert [x.id for x in again] == ["a", "c"]
    loaded = await repository.load_run("r1")
    assert [x.path for x in loaded.tasks] == ["root/a", "root/b", "root/c"]


async def test_the_same_path_twice_in_one_call_is_one_task(repository):
    await repository.create_run(run(), Spec({}))
    both = await repository.create_tasks("r1", [task("a"), task("b", path="root/a")])
    assert [x.id for x in both] == ["a", "a"]


async def test_the_database_itself_refuses_two_tasks_of_one_path(started, database):
    with pytest.raises(sa.exc.IntegrityError):
        await database.run(
            lambda c: c.execute(
                t.tasks.insert().values(
                    id="t2", run_id="r1", seq=9, path="root/t1", inputs=Values(), outputs=Values(), detail={},
                    state_history=[],
                )
            )
        )  # fmt: skip


async def test_a_task_may_be_created_in_a_final_state(repository):
    await repository.create_run(run(), Spec({}))
    skipped = await repository.create_tasks("r1", [task(state=S.SKIPPED)])
    assert skipped[0].finished_at is not None
    assert await repository.update_tasks([TaskUpdate("t1", {"state": S.RUNNING})]) == [False]


async def test_updates_compare_before_they_set(started):
    pending, running = frozenset({S.PENDING}), frozenset({S.RUNNING})
    assert await started.update_tasks(
        [
            TaskUpdate("t1", {"pod_name": "x"}, expect=pending),
            TaskUpdate("t1", {"pod_name": "x"}, expect_attempt=1),
            TaskUpdate("nobody", {"pod_name": "x"}),
            TaskUpdate("t1", {"pod_name": "y"}, expect=running, expect_attempt=0),
        ]
    ) == [False, False, False, True]
    assert (await started.get_task("t1")).pod_name == "y"


@pytest.mark.parametrize("final", sorted(FINAL))
async def test_a_finished_task_never_changes(started, final):
    assert await started.update_tasks([TaskUpdate("t1", {"state": final})]) == [True]
    before = await started.get_task("t1")
    for state in S:
        assert await started.update_tasks([TaskUpdate("t1", {"state": state, "attempt": 1})]) == [False]
    assert not await started.record_outputs("t1", Report(0, S.SUCCEEDED, {"x": 1}, [MODEL]))
    assert await started.get_task("t1") == before


async def test_times_and_history_follow_the_states(started, clock):
    clock.step(5)
    await started.update_tasks([TaskUpdate("t1", {"pod_name": "pod-1", "state": S.RUNNING})])
    assert len((await started.get_task("t1")).state_history) == 2
    await started.update_tasks([TaskUpdate("t1", {"state": S.FAILED, "error_code": 1, "error_message": "no"})])
    done = await started.get_task("t1")
    assert (done.finished_at - done.started_at).total_seconds() == 5
    assert [e["state"] for e in done.state_history] == ["PENDING", "RUNNING", "FAILED"]
    assert done.state_history[-1]["error"] == {"code": 1, "message": "no"}


async def test_a_success_is_recorded_exactly_once_also_by_two_reporters_at_once(started, database):
    changes: list[Change] = []
    started.subscribe(changes.append)
    report = Report(0, S.SUCCEEDED, {"accuracy": 0.9}, [MODEL, MODEL])
    results = await asyncio.gather(*(started.record_outputs("t1", report) for _ in range(8)))
    assert sorted(results) == [False] * 7 + [True]
    assert [(c.kind, c.task.id) for c in changes] == [(ChangeKind.REPORTED, "t1")]
    done = await started.get_task("t1")
    assert done == changes[0].task
    assert [e["state"] for e in done.state_history].count("SUCCEEDED") == 1
    assert done.outputs.parameters == {"accuracy": 0.9}
    assert len(done.outputs.artifacts["model"]) == 2
    assert await count(database, t.artifacts) == 2


async def test_a_report_for_another_attempt_is_not_recorded(started):
    assert not await started.record_outputs("t1", Report(1, S.SUCCEEDED))
    assert await started.record_outputs("t1", Report(0, S.FAILED, {}, [MODEL], 1, 13, "boom"))
    assert not await started.record_outputs("t1", Report(0, S.SUCCEEDED))
    task_now = await started.get_task("t1")
    assert (task_now.state, task_now.report["error"]["message"]) == (S.RUNNING, "boom")
    assert await started.update_tasks([TaskUpdate("t1", {"attempt": 1, "state": S.PENDING, "pod_name": ""})]) == [True]
    retried = await started.get_task("t1")
    assert (retried.report, retried.attempt) == (None, 1)
    assert not await started.record_outputs("t1", Report(0, S.SUCCEEDED))
    assert await started.record_outputs("t1", Report(1, S.SUCCEEDED, {}, [MODEL]))
    loaded = await started.load_run("r1")
    assert len(loaded.artifacts) == 1  # those of the failed attempt are linked no more
    assert [e["state"] for e in loaded.tasks[0].state_history] == ["PENDING", "RUNNING", "PENDING", "SUCCEEDED"]


async def test_what_attempts_cost_is_added_up(started):
    first = {"cpu_seconds": 1.5, "peak_bytes": 300}
    assert await started.record_outputs("t1", Report(0, S.FAILED, error_message="boom", used=first))
    task = await started.get_task("t1")
    assert task.used == first
    change = {"attempt": 1, "state": S.PENDING, "detail": {"used": task.used}}
    assert await started.update_tasks([TaskUpdate("t1", change)]) == [True]
    assert await started.record_outputs("t1", Report(1, S.SUCCEEDED, used={"cpu_seconds": 0.25, "peak_bytes": 100}))
    assert (await started.get_task("t1")).used == {"cpu_seconds": 1.75, "peak_bytes": 300}


@pytest.mark.parametrize(
    ("began", "noted"),
    [(3, 3), (-100, 0), (100, 5)],
    ids=["between", "before it was created", "in the future"],
)
async def test_a_step_that_is_faster_than_the_note_that_it_runs(repository, clock, began, noted):
    await repository.create_run(run(), Spec({"a": 1}))
    created = clock.precise()
    await repository.create_tasks("r1", [task()])
    clock.step(5)
    when = created + dt.timedelta(seconds=began)
    assert await repository.record_outputs("t1", Report(0, S.SUCCEEDED, started_at=when))

    found = await repository.get_task("t1")
    assert [e["state"] for e in found.state_history] == ["PENDING", "RUNNING", "SUCCEEDED"]
    assert (found.started_at - created).total_seconds() == noted
    assert (found.finished_at - created).total_seconds() == 5


async def test_a_report_of_what_never_began_has_no_beginning(repository):
    await repository.create_run(run(), Spec({"a": 1}))
    await repository.create_tasks("r1", [task()])
    assert await repository.record_outputs("t1", Report(0, S.FAILED, error_message="no image"))

    found = await repository.get_task("t1")
    assert ([e["state"] for e in found.state_history], found.started_at) == (["PENDING"], None)


async def test_a_report_on_nothing_is_an_error(repository):
    with pytest.raises(RunNotFound):
        await repository.record_outputs("nobody", Report(0, S.SUCCEEDED))


async def test_load_brings_the_artifacts_that_tasks_name(started):
    await started.record_outputs("t1", Report(0, S.SUCCEEDED, {}, [MODEL]))
    made = (await started.get_task("t1")).outputs.artifacts["model"]
    await started.create_tasks("r1", [task("t2", inputs=Values({"n": 1}, {"given": made}))])
    loaded = await started.load_run("r1")
    assert loaded.spec.pipeline_spec == {"pipelineInfo": {"name": "p"}}
    assert loaded.tasks[1].inputs == Values({"n": 1}, {"given": made})
    artifact = loaded.artifacts[made[0]]
    assert (artifact.type, artifact.uri, artifact.metadata) == ("system.Model", "s3://b/model", {"accuracy": 0.9})
    assert (artifact.namespace, artifact.task_id, artifact.number > 0) == ("team", "t1", True)
    assert (await started.artifacts([*made, "nobody"])).keys() == set(made)
    assert await started.load_run("nobody") is None


async def test_who_looks_again_and_again_sees_every_change(started):
    await started.create_tasks("r1", [task("t2"), task("t3", state=S.SKIPPED)])

    async def shown() -> list[tuple[str, S, int]]:
        row = await started.show_run("r1")
        assert row.tasks == (await started.load_run("r1")).tasks
        return [(found.id, found.state, found.attempt) for found in row.tasks]

    assert await shown() == [("t1", S.RUNNING, 0), ("t2", S.PENDING, 0), ("t3", S.SKIPPED, 0)]
    await started.record_outputs("t1", Report(0, S.SUCCEEDED, artifacts=[MODEL]))
    await started.update_tasks([TaskUpdate("t2", {"state": S.FAILED, "error_message": "why"})])
    assert await shown() == [("t1", S.SUCCEEDED, 0), ("t2", S.FAILED, 0), ("t3", S.SKIPPED, 0)]
    first, again = (await started.show_run("r1")).tasks, (await started.show_run("r1")).tasks
    assert [a is b for a, b in zip(first, again, strict=True)] == [True] * 3, "what has not changed is read once"
    await started.finish_run("r1", S.FAILED)
    assert await started.retry_run(await started.get_run("r1"), {"root/t2": Again.RESET, "root/t3": Again.RESET})
    assert await shown() == [("t1", S.SUCCEEDED, 0), ("t2", S.PENDING, 1), ("t3", S.PENDING, 0)]


async def test_many_tasks_say_at_once_what_they_wait_for(started):
    many = [task(f"w{n}") for n in range(600)]
    again = task("w600", attempt=1)
    await started.create_tasks("r1", [*many, again])
    await started.update_tasks([TaskUpdate("w7", {"state": S.CANCELED}), TaskUpdate("w8", {"attempt": 1})])
    await started.show_run("r1")
    await started.note_waiting("r1", [*many, again, task("t1")], "Waiting for its turn.")
    shown = {row.id: row.error_message for row in (await started.show_run("r1")).tasks}
    silent = {"t1": "it runs", "w7": "it has ended", "w8": "another attempt was meant"}
    assert {ident for ident, said in shown.items() if not said} == silent.keys()
    assert set(shown.values()) == {"", "Waiting for its turn."}
    assert len(shown) == 602


async def test_only_so_many_tasks_are_kept(started, database):
    await started.create_tasks("r1", [task(f"s{n}", state=S.SKIPPED) for n in range(5)])
    made: list[str] = []

    def make(_connection, rows, _children) -> list[str]:
        made.extend(row["id"] for row in rows)
        return [row["id"] for row in rows]

    for size, times in ((5, 2), (6, 1)):
        kept = KeptTasks(make, size)
        made.clear()
        for _ in range(2):
            rows = await database.run(lambda c, kept=kept: kept.of_run(c, "r1"))
            assert rows == ["t1", "s0", "s1", "s2", "s3", "s4"]
        assert made == rows * times


async def test_a_task_is_rendered_again_when_it_or_what_is_within_it_changes(started):
    rendered: list[str] = []

    def render(row, artifacts, children) -> str:
        rendered.append(row.id)
        uris = [artifacts[ident].uri for ids in row.outputs.artifacts.values() for ident in ids]
        return f"{row.id} {row.state} {list(children)} {uris}"

    show = started.rendered(render)

    async def shown(again: list[str]) -> list[str]:
        rendered.clear()
        run, spec, tasks = await show("r1")
        assert (run.id, spec.pipeline_spec) == ("r1", {"pipelineInfo": {"name": "p"}})
        assert rendered == again
        return tasks

    assert await show("nobody") is None
    assert await shown(["t1"]) == ["t1 RUNNING [] []"]
    many = [task(f"c{n:04}", parent_id="t1") for n in range(1200)]
    await started.create_tasks("r1", many)
    idents = [row.id for row in many]
    assert (await shown(["t1", *idents]))[0] == f"t1 RUNNING {idents} []"
    await started.update_tasks([TaskUpdate("c0007", {"state": S.RUNNING})])
    assert (await shown(["c0007"]))[8] == "c0007 RUNNING [] []"
    await started.record_outputs("c0007", Report(0, S.SUCCEEDED, artifacts=[MODEL]))
    assert (await shown(["c0007"]))[8] == "c0007 SUCCEEDED [] ['s3://b/model']"
    await shown([])
    await started.delete_run("r1")
    assert await show("r1") is None


async def test_what_a_transaction_read_that_came_to_nothing_is_read_again(started, database):
    def breaks_the_commit(connection) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.execute(
            t.artifact_tasks.insert().values(artifact_id="a", task_id="t", direction="INPUT", key="k", run_id="r")
        )

    def holds(connection) -> None:
        held.set()
        assert asked.wait(30)

    held, asked = threading.Event(), threading.Event()
    show = started.rendered(lambda row, _artifacts, _children: row.state)
    assert (await show("r1"))[2] == [S.RUNNING]
    # The first keeps the thread busy until the others wait together, in one transaction.
    first = asyncio.ensure_future(database.run(holds))
    assert await asyncio.to_thread(held.wait, 30)
    together = asyncio.gather(
        started.update_tasks([TaskUpdate("t1", {"state": S.FAILED})]),
        show("r1"),
        database.run(breaks_the_commit),
        return_exceptions=True,
    )
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked.set()
    await first
    assert [type(found) for found in await together] == [sa.exc.IntegrityError] * 3
    assert (await show("r1"))[2] == [S.RUNNING]


async def test_the_cache_finds_the_newest_success_in_its_scope(started, clock):
    await started.update_tasks([TaskUpdate("t1", {"cache_key": "k"})])
    assert await started.find_cached("team", "p", "k") is None
    await started.record_outputs("t1", Report(0, S.SUCCEEDED, {"x": 1}, [MODEL]))
    hit = await started.find_cached("team", "p", "k")
    assert hit.id == "t1"
    assert await started.find_cached("other", "p", "k") is None
    assert await started.find_cached("team", "q", "k") is None
    clock.step(1)
    copied = task("t2", state=S.SUCCEEDED, cache_key="k", cached_from="t1", outputs=hit.outputs)
    await started.create_tasks("r1", [copied])
    assert (await started.find_cached("team", "p", "k")).id == "t1"
    await started.create_tasks("r1", [task(f"of{n}", state=S.SUCCEEDED, cache_key=f"k{n}") for n in range(3)])
    many = [*(f"k{n}" for n in range(700)), "k", "k"]  # more than one question holds
    found = await started.find_all_cached("team", "p", many)
    assert {key: row.id for key, row in found.items()} == {"k": "t1", "k0": "of0", "k1": "of1", "k2": "of2"}
    assert await started.find_all_cached("team", "q", many) == await started.find_all_cached("team", "p", []) == {}


async def test_deleting_a_run_takes_all_with_it_but_what_another_run_uses(started, database):
    await started.record_outputs("t1", Report(0, S.SUCCEEDED, {}, [MODEL]))
    made = (await started.get_task("t1")).outputs
    await started.create_run(run("r2"), Spec({"another": 1}))
    await started.create_tasks("r2", [task("t2", run_id="r2", path="root/t2", outputs=made, cached_from="t1")])
    assert await started.delete_run("r1")
    assert not await started.delete_run("r1")
    assert await count(database, t.tasks) == 1
    assert await count(database, t.specs) == 1
    assert len((await started.load_run("r2")).artifacts) == 1
    assert await started.delete_run("r2")
    for table in (t.runs, t.tasks, t.artifacts, t.artifact_tasks, t.specs):
        assert await count(database, table) == 0, table.name


async def test_runs_of_one_pipeline_share_its_spec(repository, database):
    for ident in ("a", "b"):
        await repository.create_run(run(ident), Spec({"x": 1}))
    await repository.create_run(run("c"), Spec({"x": 1}, {"platforms": {}}))
    assert await count(database, t.specs) == 2
    await repository.delete_run("a")
    assert (await repository.load_run("b")).spec == Spec({"x": 1})


async def test_everything_is_there_after_a_restart(started, database, database_url, clock):
    await started.record_outputs("t1", Report(0, S.SUCCEEDED, {"x": [1, None, "é"]}, [MODEL]))
    before = await started.load_run("r1")
    await database.close()
    again = Database(database_url)
    await again.open(upgrade)
    assert await RunRepository(again, clock).load_run("r1") == before
    await again.close()

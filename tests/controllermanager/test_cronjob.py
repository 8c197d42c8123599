"""CronJobs on an embedded cluster, and the decisions by tables."""

import copy
import datetime as dt

import pytest

from headrace.api.batch import CronJob, CronJobSpec, CronJobStatus
from headrace.api.core import Event
from headrace.api.errors import Invalid
from headrace.api.meta import ObjectMeta
from headrace.controllermanager import cronjob_policy as policy
from headrace.controllermanager.types import Job

from .conftest import NS

TEMPLATE = {
    "metadata": {"labels": {"made": "often"}, "annotations": {"why": "because"}},
    "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "python:3.11"}]}}
    },
}


def cron_job(schedule="*/10 * * * *", **spec):
    template = copy.deepcopy(TEMPLATE)
    return CronJob(
        metadata=ObjectMeta(name="tick", namespace=NS),
        spec=CronJobSpec(schedule=schedule, job_template=template, **spec),
    )


async def jobs(world, number=None):
    async def check():
        found = sorted((await world.client.list(Job, NS)).items, key=lambda j: j.metadata.name)
        return found if number is None or len(found) == number else None

    return await world.until(check) if number else await check()


async def reasons(world):
    return {e.reason for e in (await world.client.list(Event, NS)).items if e.involved_object.kind == "CronJob"}


async def finish(world, job, type_="Complete"):
    now = world.clock.now().isoformat().replace("+00:00", "Z")
    status = {"conditions": [{"type": type_, "status": "True", "lastTransitionTime": now}], "startTime": now}
    if type_ == "Complete":
        status["completionTime"] = now
    await world.client.patch(Job, job.metadata.name, {"status": status}, NS, subresource="status")
    await world.quiet()


async def to_the_next(world, minutes=10):
    """The clock moves on to just after the next whole ten minutes."""
    now = world.clock.now()
    world.clock.step(minutes * 60 - now.timestamp() % (minutes * 60) + 1)
    await world.quiet()


async def get(world):
    return await world.client.get(CronJob, "tick", NS)


async def test_a_job_for_every_start(world):
    made = await world.client.create(cron_job())
    await world.quiet()
    assert await jobs(world) == []
    await to_the_next(world)
    (first,) = await jobs(world, 1)
    minutes = int(world.clock.now().timestamp()) // 600 * 10
    assert first.metadata.name == f"tick-{minutes}"
    assert first.metadata.labels == {"made": "often"}
    start = dt.datetime.fromtimestamp(minutes * 60, dt.UTC)
    assert first.metadata.annotations["why"] == "because"
    assert first.metadata.annotations[policy.SCHEDULED] == start.isoformat().replace("+00:00", "Z")
    assert first.metadata.owner_references[0].uid == made.metadata.uid
    found = await get(world)
    assert [r.name for r in found.status.active] == [first.metadata.name]
    assert found.status.last_schedule_time == start
    await finish(world, first)
    found = await get(world)
    assert found.status.active == []
    assert found.status.last_successful_time is not None
    await to_the_next(world)
    assert len(await jobs(world, 2)) == 2
    assert {"SuccessfulCreate", "SawCompletedJob"} <= await reasons(world)


async def test_allow_starts_beside_what_runs(world):
    await world.client.create(cron_job())
    await to_the_next(world)
    await to_the_next(world)
    await jobs(world, 2)
    assert len((await get(world)).status.active) == 2


async def test_forbid_waits_for_what_runs(world):
    await world.client.create(cron_job(concurrency_policy="Forbid"))
    await to_the_next(world)
    (first,) = await jobs(world, 1)
    await to_the_next(world)
    assert len(await jobs(world)) == 1
    assert "JobAlreadyActive" in await reasons(world)
    await finish(world, first)
    await jobs(world, 2)


async def test_replace_ends_what_runs(world):
    await world.client.create(cron_job(concurrency_policy="Replace"))
    await to_the_next(world)
    (first,) = await jobs(world, 1)
    await to_the_next(world)
    await world.gone(Job, first.metadata.name)
    (second,) = await jobs(world, 1)
    assert second.metadata.name != first.metadata.name
    assert [r.name for r in (await get(world)).status.active] == [second.metadata.name]


async def test_suspended_and_taken_up_again_with_the_latest_start_only(world):
    await world.client.create(cron_job(suspend=True))
    for _ in range(3):
        await to_the_next(world)
    assert await jobs(world) == []
    await world.client.patch(CronJob, "tick", {"spec": {"suspend": False}}, NS)
    (only,) = await jobs(world, 1)
    assert only.metadata.name == f"tick-{int(world.clock.now().timestamp()) // 600 * 10}"


async def test_too_late_to_start(world):
    await world.client.create(cron_job(suspend=True, starting_deadline_seconds=30))
    await to_the_next(world)
    world.clock.step(60)
    await world.client.patch(CronJob, "tick", {"spec": {"suspend": False}}, NS)
    await world.quiet()
    assert await jobs(world) == []


async def test_many_missed_starts_are_said_and_one_is_made(world):
    await world.client.create(cron_job("* * * * *", suspend=True))
    await world.quiet()
    world.clock.step(150 * 60)
    await world.client.patch(CronJob, "tick", {"spec": {"suspend": False}}, NS)
    await jobs(world, 1)
    await world.quiet()
    assert "TooManyMissedTimes" in await reasons(world)


async def test_the_history_is_kept_short(world):
    await world.client.create(cron_job(successful_jobs_history_limit=1, failed_jobs_history_limit=0))
    names = []
    for outcome in ("Complete", "Complete", "Failed"):
        await to_the_next(world)
        running = [j for j in await jobs(world) if not policy.outcome(j)]
        names.append(running[0].metadata.name)
        await finish(world, running[0], outcome)
    await world.gone(Job, names[0])
    await world.gone(Job, names[2])
    assert [j.metadata.name for j in await jobs(world)] == [names[1]]


async def test_a_lost_job_is_forgotten(world):
    await world.client.create(cron_job())
    await to_the_next(world)
    (first,) = await jobs(world, 1)
    await world.client.delete(Job, first.metadata.name, NS)
    await world.gone(Job, first.metadata.name)
    await world.quiet()
    assert (await get(world)).status.active == []
    assert await jobs(world) == []
    assert "MissingJob" in await reasons(world)


async def test_its_jobs_go_with_it(world):
    await world.client.create(cron_job())
    await to_the_next(world)
    (first,) = await jobs(world, 1)
    await world.client.delete(CronJob, "tick", NS)
    await world.gone(Job, first.metadata.name)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"schedule": ""}, "spec.schedule"),
        ({"schedule": "* * *"}, "spec.schedule"),
        ({"schedule": "TZ=UTC * * * * *"}, "spec.schedule"),
        ({"time_zone": "Nowhere/At all"}, "spec.timeZone"),
        ({"time_zone": ""}, "spec.timeZone"),
        ({"concurrency_policy": "Maybe"}, "spec.concurrencyPolicy"),
        ({"starting_deadline_seconds": -1}, "spec.startingDeadlineSeconds"),
        ({"failed_jobs_history_limit": -1}, "spec.failedJobsHistoryLimit"),
    ],
)
async def test_refused(world, spec, field):
    with pytest.raises(Invalid) as caught:
        await world.client.create(cron_job(**spec))
    assert [c.field for c in caught.value.causes] == [field]


async def test_defaults_and_long_names(world):
    made = await world.client.create(cron_job())
    assert (made.spec.successful_jobs_history_limit, made.spec.failed_jobs_history_limit) == (3, 1)
    long = cron_job()
    long.metadata.name = "x" * 53
    with pytest.raises(Invalid, match="must be no more than 52 characters"):
        await world.client.create(long)


START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("schedule", "minutes", "deadline", "expected", "missed"),
    [
        ("*/10 * * * *", 9, None, None, 0),
        ("*/10 * * * *", 10, None, 10, 1),
        ("*/10 * * * *", 19, None, 10, 1),
        ("*/10 * * * *", 45, None, 40, 4),
        ("*/10 * * * *", 45, 60, None, 0),
        ("*/10 * * * *", 45, 360, 40, 1),
        ("* * * * *", 150, None, 150, 101),
        ("0,1 3 * * *", 500 * 1440, None, 499 * 1440 + 181, 101),
        ("0,59 * * * *", 121, None, 120, 4),
        ("0 0 31 2 *", 10**6, None, None, 0),
        ("0 0 1 2 *", 31 * 1440, None, 31 * 1440, 1),
    ],
)
def test_due(schedule, minutes, deadline, expected, missed):
    obj = cron_job(schedule, starting_deadline_seconds=deadline)
    obj.status = CronJobStatus(last_schedule_time=START)
    found = policy.due(obj, policy.schedule_of(obj), START + dt.timedelta(minutes=minutes))
    assert found.time == (None if expected is None else START + dt.timedelta(minutes=expected))
    assert found.missed == missed


def test_the_time_zone_counts():
    obj = cron_job("0 9 * * *", time_zone="Asia/Tokyo")
    obj.status = CronJobStatus(last_schedule_time=START)
    found = policy.due(obj, policy.schedule_of(obj), START + dt.timedelta(hours=25))
    assert found.time == dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    job = policy.job_of(obj, found.time)
    assert job.metadata.annotations[policy.SCHEDULED] == "2026-01-02T09:00:00+09:00"

"""When a CronJob's next job is due and which of its jobs to keep: pure functions (upstream: pkg/controller/cronjob)."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.api.meta import ObjectMeta
from headrace.controllermanager.types import JobManifest
from headrace.machinery import cron

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.batch import CronJob
    from headrace.controllermanager.types import Job

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
MANY = 100
"""More missed starts than this are worth a warning: a clock was wrong, or the platform was off for long."""
_EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Due:
    """The latest start that has come and was not made, and how many there were (counted up to one more than MANY)."""

    time: dt.datetime | None
    missed: int = 0


def schedule_of(cron_job: CronJob) -> cron.Schedule:
    """The schedule in its time zone. Raises ValueError."""
    return cron.parse(
        cron_job.spec.schedule, cron.zone_of(cron_job.spec.time_zone) if cron_job.spec.time_zone else dt.UTC
    )


def due(cron_job: CronJob, schedule: cron.Schedule, now: dt.datetime) -> Due:
    """What has come since the last start, or since the deadline for starting when that is later."""
    since = _since(cron_job)
    deadline = cron_job.spec.starting_deadline_seconds
    if deadline is not None:
        since = max(since, now - dt.timedelta(seconds=min(deadline, 10**9)))
    first = schedule.next(since)
    if first is None or now < first:
        return Due(None)
    latest, missed = first, 1
    following = schedule.next(first)
    while following is not None and following <= now:
        if missed > MANY:
            return Due(_latest(schedule, now), missed)
        latest, missed = following, missed + 1
        following = schedule.next(latest)
    return Due(latest, missed)


def _latest(schedule: cron.Schedule, now: dt.datetime) -> dt.datetime | None:
    """The last start up to now, found from close before it: years of minutes are not walked through."""
    back, found = dt.timedelta(minutes=2), None
    while (candidate := schedule.next(now - back)) is None or candidate > now:
        back *= 2
    while candidate is not None and candidate <= now:
        found, candidate = candidate, schedule.next(candidate)
    return found


def _since(cron_job: CronJob) -> dt.datetime:
    return cron_job.status.last_schedule_time or cron_job.metadata.creation_timestamp or _EARLIEST


def wait(schedule: cron.Schedule, now: dt.datetime) -> float | None:
    """Seconds until the next start; None when there will be none."""
    following = schedule.next(now)
    return None if following is None else max((following - now).total_seconds(), 0.0)


def too_late(cron_job: CronJob, scheduled: dt.datetime, now: dt.datetime) -> bool:
    """Whether the time to start has passed the deadline."""
    deadline = cron_job.spec.starting_deadline_seconds
    return deadline is not None and (now - scheduled).total_seconds() > deadline


def job_name(cron_job: CronJob, scheduled: dt.datetime) -> str:
    """`name-minutes since 1970`: the same start never makes two jobs."""
    return f"{cron_job.metadata.name}-{math.floor(scheduled.timestamp()) // 60}"


def job_of(cron_job: CronJob, scheduled: dt.datetime) -> JobManifest:
    """The job of one start."""
    template = cron_job.spec.job_template
    meta = template.get("metadata") or {}
    zone = cron.zone_of(cron_job.spec.time_zone) if cron_job.spec.time_zone else dt.UTC
    written = scheduled.astimezone(zone).isoformat().replace("+00:00", "Z")
    return JobManifest(
        metadata=ObjectMeta(
            name=job_name(cron_job, scheduled),
            namespace=cron_job.metadata.namespace,
            labels=dict(meta.get("labels") or {}),
            annotations={**(meta.get("annotations") or {}), SCHEDULED: written},
            owner_references=[cron_job.owner_reference()],
        ),
        spec=dict(template.get("spec") or {}),
    )


def outcome(job: Job) -> str:
    """Complete or Failed, or empty while it runs."""
    return next((c.type for c in job.status.conditions if c.type in {"Complete", "Failed"} and c.status == "True"), "")


def expired(cron_job: CronJob, jobs: Iterable[Job]) -> list[Job]:
    """Finished jobs beyond the history's limits, oldest first."""
    limits = {
        "Complete": cron_job.spec.successful_jobs_history_limit,
        "Failed": cron_job.spec.failed_jobs_history_limit,
    }
    kinds: dict[str, list[Job]] = {"Complete": [], "Failed": []}
    for job in jobs:
        found = outcome(job)
        if found and job.metadata.deletion_timestamp is None:
            kinds[found].append(job)
    gone: list[Job] = []
    for kind, found_jobs in kinds.items():
        limit = limits[kind]
        if limit is not None:
            ordered = sorted(found_jobs, key=lambda j: (j.status.start_time or _EARLIEST, j.metadata.name))
            gone += ordered[: max(len(ordered) - limit, 0)]
    return gone

"""CronJobs: a Job for every start of a schedule (upstream: pkg/controller/cronjob, v2)."""

from __future__ import annotations

import email.utils
from typing import TYPE_CHECKING

from headrace.api import core
from headrace.api.batch import CronJob
from headrace.api.errors import AlreadyExists, NotFound, StatusError
from headrace.controllermanager import cronjob_policy as policy
from headrace.controllermanager import pods
from headrace.controllermanager.types import Job, JobManifest
from headrace.machinery.controller import DONE, Controller, Result

if TYPE_CHECKING:
    import datetime as dt

    from headrace.client.base import Client
    from headrace.machinery import cron
    from headrace.machinery.clock import Clock
    from headrace.machinery.events import EventRecorder


class CronJobController(Controller[CronJob]):
    """See module."""

    name = "cronjob"
    kind = CronJob
    owns = (Job,)

    def __init__(self, client: Client, clock: Clock, events: EventRecorder) -> None:
        self._client, self._clock, self._events = client, clock, events

    async def reconcile(self, obj: CronJob) -> Result:
        """Settle what has ended, start what is due, and wake up at the next start."""
        # What was started is read live: a cache that lags would not know the job of a moment ago.
        meta = obj.metadata
        live = await self._client.get(CronJob, meta.name, meta.namespace)
        obj.status, meta.resource_version = live.status, live.metadata.resource_version
        listed = await self._client.list(Job, meta.namespace)
        jobs = [j for j in listed.items if (ref := pods.controller_of(j)) is not None and ref.uid == meta.uid]
        await self._settle(obj, jobs)
        if meta.deletion_timestamp is not None:
            return DONE
        await self._forget(obj, jobs)
        try:
            schedule = policy.schedule_of(obj)
        except ValueError as error:
            # Admission refuses these; a time zone may also have left the machine's database since.
            reason = "UnknownTimeZone" if "time zone" in str(error) else "UnparseableSchedule"
            await self._events.warning(obj, reason, f"unparseable schedule: {obj.spec.schedule!r} : {error}")
            return DONE
        if obj.spec.suspend:
            return DONE
        now = self._clock.now()
        await self._start(obj, schedule, now)
        return Result(after=policy.wait(schedule, now))

    async def _settle(self, obj: CronJob, jobs: list[Job]) -> None:
        """Bring `status.active` to what runs."""
        found = {job.metadata.uid: job for job in jobs}
        active: list[core.ObjectReference] = []
        for ref in obj.status.active:
            job = found.pop(ref.uid, None)
            if job is None:
                await self._events.normal(obj, "MissingJob", f"Active job went missing: {ref.name}")
                continue
            result = policy.outcome(job)
            if not result:
                active.append(ref)
                continue
            message = f"Saw completed job: {ref.name}, condition: {result}"
            await self._events.normal(obj, "SawCompletedJob", message)
            ended, before = job.status.completion_time, obj.status.last_successful_time
            if result == "Complete" and ended is not None and (before is None or ended > before):
                obj.status.last_successful_time = ended
        for job in found.values():
            if policy.outcome(job):
                continue
            # One that a crash kept us from writing down has the name of its start; others are a person's doing.
            if policy.SCHEDULED in job.metadata.annotations:
                active.append(_reference(job))
            else:
                message = f"Saw a job that the controller did not create or forgot: {job.metadata.name}"
                await self._events.warning(obj, "UnexpectedJob", message)
        obj.status.active = active

    async def _forget(self, obj: CronJob, jobs: list[Job]) -> None:
        for job in policy.expired(obj, jobs):
            await self._delete(obj, job.metadata.name, job.metadata.uid)

    async def _start(self, obj: CronJob, schedule: cron.Schedule, now: dt.datetime) -> None:
        found = policy.due(obj, schedule, now)
        if found.missed > policy.MANY:
            message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            await self._events.warning(obj, "TooManyMissedTimes", message)
        scheduled = found.time
        if scheduled is None or scheduled == obj.status.last_schedule_time:
            return
        if policy.too_late(obj, scheduled, now):
            message = f"Missed scheduled time to start a job: {email.utils.format_datetime(scheduled)}"
            await self._events.warning(obj, "MissSchedule", message)
            return
        name = policy.job_name(obj, scheduled)
        if any(ref.name == name for ref in obj.status.active):
            obj.status.last_schedule_time = scheduled
            return
        if obj.spec.concurrency_policy == "Forbid" and obj.status.active:
            message = "Not starting job because prior execution is running and concurrency policy is Forbid"
            await self._events.normal(obj, "JobAlreadyActive", message)
            return
        if obj.spec.concurrency_policy == "Replace":
            for ref in obj.status.active:
                await self._delete(obj, ref.name, ref.uid)
            obj.status.active = []
        made = await self._create(obj, policy.job_of(obj, scheduled))
        if made is not None:
            obj.status.active = [*obj.status.active, made]
        obj.status.last_schedule_time = scheduled

    async def _create(self, obj: CronJob, manifest: JobManifest) -> core.ObjectReference | None:
        """The reference of the job; None when the job of this start has ended already."""
        meta = manifest.metadata
        try:
            created = await self._client.create(manifest)
        except AlreadyExists:
            found = await self._client.get(Job, meta.name, meta.namespace)
            ref = pods.controller_of(found)
            if ref is None or ref.uid != obj.metadata.uid:
                message = f"Error creating job: jobs.batch {meta.name!r} exists already and belongs to somebody else"
                await self._events.warning(obj, "FailedCreate", message)
                raise
            return None if policy.outcome(found) else _reference(found)
        except StatusError as error:
            if not any(cause.reason == "NamespaceTerminating" for cause in error.causes):
                await self._events.warning(obj, "FailedCreate", f"Error creating job: {error.message}")
            raise
        await self._events.normal(obj, "SuccessfulCreate", f"Created job {meta.name}")
        return _reference(created)

    async def _delete(self, obj: CronJob, name: str, uid: str) -> None:
        try:
            await self._client.delete(Job, name, obj.metadata.namespace, uid=uid)
        except NotFound:
            return
        except StatusError as error:
            await self._events.warning(obj, "FailedDelete", f"Deleted job: {error.message}")
            raise
        await self._events.normal(obj, "SuccessfulDelete", f"Deleted job {name}")


def _reference(job: Job | JobManifest) -> core.ObjectReference:
    meta = job.metadata
    return core.ObjectReference(
        api_version=job.api_version,
        kind=job.kind,
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        resource_version=meta.resource_version,
    )

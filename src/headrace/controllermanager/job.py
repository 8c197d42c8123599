"""Jobs: pods until enough have succeeded (upstream: pkg/controller/job, ttlafterfinished)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import core
from headrace.api.errors import AlreadyExists, NotFound, StatusError
from headrace.controllermanager import job_policy as policy
from headrace.controllermanager import job_verdict_policy as verdicts
from headrace.controllermanager import pods
from headrace.controllermanager.types import Job, PodManifest
from headrace.machinery.controller import DONE, Controller, Result

if TYPE_CHECKING:
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock
    from headrace.machinery.events import EventRecorder

BURST = 500
MANAGER = "kubernetes.io/job-controller"
FAILURES = "batch.kubernetes.io/job-index-failure-count"


class JobController(Controller[Job]):
    """See module."""

    name = "job"
    kind = Job
    owns = (core.Pod,)

    def __init__(self, client: Client, clock: Clock, events: EventRecorder) -> None:
        self._client, self._clock, self._events = client, clock, events

    async def reconcile(self, obj: Job) -> Result:
        """Count what ended, decide, create and delete."""
        if obj.metadata.deletion_timestamp is not None:
            return DONE
        if policy.is_finished(obj):
            return await self._expire(obj)
        if obj.spec.managed_by not in {None, MANAGER}:
            return DONE
        # Attempts and their count are read live: a cache that lags would forget an attempt and make it again.
        live = await self._client.get(Job, obj.metadata.name, obj.metadata.namespace)
        account = policy.Account.parse(live.metadata.annotations.get(policy.ACCOUNT, ""))
        mine = await self._pods(obj)
        if policy.settle(obj, account, mine):
            patch = {"metadata": {"annotations": {policy.ACCOUNT: str(account)}}}
            meta = live.metadata
            live = await self._client.patch(
                Job, meta.name, patch, meta.namespace, resource_version=meta.resource_version
            )
        obj.metadata.resource_version = live.metadata.resource_version
        obj.status.conditions = live.status.conditions
        active = [pod for pod in mine if pods.active(pod)]
        result = await self._decide(obj, account, mine, active)
        _count(obj, account, mine)
        return result

    async def _decide(self, obj: Job, account: policy.Account, mine: list[core.Pod], active: list[core.Pod]) -> Result:
        now = self._clock.now()
        if obj.status.start_time is None and not obj.spec.suspend:
            obj.status.start_time = now
        found = verdicts.verdict(obj, account, mine, active, now)
        if found is not None:
            return await self._conclude(obj, mine, active, found)
        if obj.spec.suspend:
            await self._suspend(obj, mine, active)
            return DONE
        if policy.is_suspended(obj):
            await self._resume(obj)
        after = await self._fill(obj, account, mine, active)
        left = policy.deadline_left(obj, now)
        waits = [seconds for seconds in (after, left) if seconds]
        return Result(after=min(waits)) if waits else DONE

    async def _pods(self, obj: Job) -> list[core.Pod]:
        listed = await self._client.list(core.Pod, obj.metadata.namespace)
        return [
            pod for pod in listed.items if (ref := pods.controller_of(pod)) is not None and ref.uid == obj.metadata.uid
        ]

    async def _fill(
        self, obj: Job, account: policy.Account, mine: list[core.Pod], active: list[core.Pod]
    ) -> float | None:
        """Create what is missing, delete what is too much; seconds until the backoff is over, if it holds."""
        doomed = policy.misplaced(obj, active)
        active = [pod for pod in active if pod not in doomed]
        wanted = policy.wanted_active(obj, account, len(active))
        surplus = len(active) - wanted
        if surplus > 0:
            doomed += sorted(active, key=pods.deletion_order)[:surplus]
        if doomed:
            await self._delete(obj, mine, doomed)
            return None
        held = policy.holding(obj, mine)
        number = min(wanted - len(held), BURST)
        if number <= 0:
            return None
        indexes, after = self._due(obj, account, mine, held, number)
        for attempt, index in zip(policy.free_attempts(account, mine), indexes, strict=False):
            mine.append(await self._create(obj, account, attempt, index))
        return after

    def _due(
        self, obj: Job, account: policy.Account, mine: list[core.Pod], held: list[core.Pod], number: int
    ) -> tuple[list[int | None], float | None]:
        """What to create now (indexes, or as many times None), and seconds until more may be created."""
        now = self._clock.now()
        missing: list[int | None] = [None] * number
        after: float | None = None
        if policy.indexed(obj):
            indexes = policy.missing_indexes(obj, account, held)
            if obj.spec.backoff_limit_per_index is not None:
                indexes, after = policy.due_indexes(account, indexes, mine, now)
            missing = list(indexes[:number])
        if obj.spec.backoff_limit_per_index is None:
            left = policy.backoff_left(mine, now)
            if left > 0:
                return [], left
        return missing, after

    async def _create(self, obj: Job, account: policy.Account, attempt: int, index: int | None) -> core.Pod:
        manifest = manifest_of(obj, attempt, index)
        if index is not None and obj.spec.backoff_limit_per_index is not None:
            manifest.metadata.annotations[FAILURES] = str(account.index_failures[index])
        meta = manifest.metadata
        try:
            created = await self._client.create(manifest)
        except AlreadyExists:
            found = await self._client.get(core.Pod, meta.name, meta.namespace)
            ref = pods.controller_of(found)
            if ref is None or ref.uid != obj.metadata.uid:
                await self._events.warning(obj, "FailedCreate", f"Error creating: pod {meta.name} exists already")
                raise
            return found
        except StatusError as error:
            await self._events.warning(obj, "FailedCreate", f"Error creating: {error.message}")
            raise
        await self._events.normal(obj, "SuccessfulCreate", f"Created pod: {meta.name}")
        return core.Pod(metadata=created.metadata, status=core.PodStatus(phase="Pending"))

    async def _delete(self, obj: Job, mine: list[core.Pod], doomed: list[core.Pod]) -> None:
        """Delete pods; they count as terminating from now on."""
        for pod in doomed:
            meta = pod.metadata
            try:
                await self._client.delete(core.Pod, meta.name, meta.namespace, uid=meta.uid)
            except NotFound:
                mine.remove(pod)
                continue
            pod.metadata.deletion_timestamp = self._clock.now()
            await self._events.normal(obj, "SuccessfulDelete", f"Deleted pod: {meta.name}")

    async def _conclude(
        self, obj: Job, mine: list[core.Pod], active: list[core.Pod], found: verdicts.Verdict
    ) -> Result:
        """Say how the job ends, stop what still runs, and when nothing does any more let it end."""
        await self._delete(obj, mine, active)
        now = self._clock.now()
        first, last = ("SuccessCriteriaMet", "Complete") if found.success else ("FailureTarget", "Failed")
        policy.set_condition(obj, first, "True", found.reason, found.message, now=now)
        if any(not pods.finished(pod) for pod in mine):
            return DONE
        policy.set_condition(obj, last, "True", found.reason, found.message, now=now)
        if found.success:
            obj.status.completion_time = now
            await self._events.normal(obj, "Completed", "Job completed")
        else:
            await self._events.warning(obj, found.reason, found.message)
        return self._after_finish(obj)

    async def _suspend(self, obj: Job, mine: list[core.Pod], active: list[core.Pod]) -> None:
        await self._delete(obj, mine, active)
        obj.status.start_time = None
        if policy.set_condition(obj, "Suspended", "True", "JobSuspended", "Job suspended", now=self._clock.now()):
            await self._events.normal(obj, "Suspended", "Job suspended")

    async def _resume(self, obj: Job) -> None:
        now = self._clock.now()
        policy.set_condition(obj, "Suspended", "False", "JobResumed", "Job resumed", now=now)
        obj.status.start_time = now
        await self._events.normal(obj, "Resumed", "Job resumed")

    def _after_finish(self, obj: Job) -> Result:
        ttl, ended = obj.spec.ttl_seconds_after_finished, policy.finished_at(obj)
        if ttl is None or ended is None:
            return DONE
        return Result(after=max(ttl - (self._clock.now() - ended).total_seconds(), 0.0))

    async def _expire(self, obj: Job) -> Result:
        after = self._after_finish(obj)
        if after.after is None or after.after > 0:
            return after
        meta = obj.metadata
        await self._client.delete(Job, meta.name, meta.namespace, uid=meta.uid)
        return DONE


def manifest_of(obj: Job, attempt: int, index: int | None) -> PodManifest:
    """The pod of one attempt."""
    manifest = pods.from_template(obj.spec.template, obj, name=policy.pod_name(obj, attempt, index))
    meta = manifest.metadata
    meta.annotations[policy.ATTEMPT] = str(attempt)
    meta.labels |= {
        "batch.kubernetes.io/controller-uid": obj.metadata.uid,
        "batch.kubernetes.io/job-name": obj.metadata.name,
        "controller-uid": obj.metadata.uid,
        "job-name": obj.metadata.name,
    }
    if index is not None:
        meta.annotations[policy.INDEX] = meta.labels[policy.INDEX] = str(index)
        manifest.spec = _with_index(manifest.spec, f"{obj.metadata.name}-{index}")
    return manifest


def _with_index(spec: dict[str, Any], hostname: str) -> dict[str, Any]:
    """Every container learns its index; the pod's host name ends with it."""
    source = {"fieldRef": {"fieldPath": f"metadata.annotations['{policy.INDEX}']"}}
    variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}
    made = {**spec, "hostname": spec.get("hostname") or hostname[:63]}
    for kind in ("containers", "initContainers"):
        if kind in made:
            made[kind] = [
                c
                if any(e.get("name") == "JOB_COMPLETION_INDEX" for e in c.get("env") or ())
                else {**c, "env": [*(c.get("env") or ()), variable]}
                for c in made[kind]
            ]
    return made


def _count(obj: Job, account: policy.Account, mine: list[core.Pod]) -> None:
    active = [pod for pod in mine if pods.active(pod)]
    status = obj.status
    status.active = len(active)
    status.ready = sum(pods.ready(pod) for pod in active)
    status.terminating = sum(pod.metadata.deletion_timestamp is not None and not pods.finished(pod) for pod in mine)
    status.failed = len(account.failed)
    if policy.indexed(obj):
        status.succeeded = len(account.indexes)
        status.completed_indexes = policy.format_numbers(account.indexes)
        if obj.spec.backoff_limit_per_index is not None:
            status.failed_indexes = policy.format_numbers(account.failed_indexes)
    else:
        status.succeeded = len(account.succeeded)

"""ReplicaSets and ReplicationControllers: as many pods as wanted, no more and no fewer (upstream:
pkg/controller/replicaset, pkg/controller/replication).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from headrace.api import core
from headrace.api.errors import Forbidden, Invalid, NotFound, StatusError
from headrace.api.meta import LabelSelector
from headrace.controllermanager import adoption, pods
from headrace.controllermanager.types import ReplicaSet, ReplicationController
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from headrace.api.core import Pod
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock
    from headrace.machinery.events import EventRecorder

S = TypeVar("S", ReplicaSet, ReplicationController)
BURST = 500
"""Pods made or deleted in one reconcile."""


def surplus(active: list[Pod], wanted: int) -> list[Pod]:
    """The pods to delete, those that will be missed least first."""
    return sorted(active, key=pods.deletion_order)[: max(len(active) - wanted, 0)]


def selector_of(obj: ReplicaSet | ReplicationController) -> LabelSelector:
    """Which pods it is for."""
    selector = obj.spec.selector
    return selector if isinstance(selector, LabelSelector) else LabelSelector(match_labels=selector)


def count(replica_set: ReplicaSet | ReplicationController, active: list[Pod], now: dt.datetime) -> float | None:
    """Write counts to the status; seconds until another pod becomes available by age, if one will."""
    status, spec = replica_set.status, replica_set.spec
    labels = (spec.template.get("metadata") or {}).get("labels") or {}
    waits = [pods.available_after(pod, spec.min_ready_seconds, now) for pod in active]
    status.replicas = len(active)
    status.fully_labeled_replicas = sum(labels.items() <= pod.metadata.labels.items() for pod in active)
    status.ready_replicas = sum(wait is not None for wait in waits)
    status.available_replicas = sum(wait == 0 for wait in waits)
    status.observed_generation = replica_set.metadata.generation
    return min((wait for wait in waits if wait), default=None)


def set_failure(replica_set: ReplicaSet | ReplicationController, reason: str, message: str, now: dt.datetime) -> None:
    """ReplicaFailure, or its absence when there is no message."""
    found: list[core.PodCondition] = replica_set.status.conditions
    if not message:
        replica_set.status.conditions = [c for c in found if c.type != "ReplicaFailure"]
        return
    current = next((c for c in found if c.type == "ReplicaFailure"), None)
    if current is None or current.status != "True":
        replica_set.status.conditions = [
            *(c for c in found if c.type != "ReplicaFailure"),
            core.PodCondition(
                type="ReplicaFailure", status="True", reason=reason, message=message, last_transition_time=now
            ),
        ]
    else:
        current.reason, current.message = reason, message


class Replicas(Controller[S]):
    """See module."""

    owns = (core.Pod,)

    def __init__(self, client: Client, clock: Clock, events: EventRecorder) -> None:
        self._client, self._clock, self._events = client, clock, events
        self.watches = (Watch(core.Pod, self._adopters),)

    def _adopters(self, pod: Pod) -> Iterable[str]:
        """Those that may adopt a pod that nobody controls."""
        if pods.controller_of(pod) is None and pod.metadata.labels:
            for found in self.cache(self.kind).all(pod.metadata.namespace):
                selector = selector_of(found)
                if not pods.is_empty(selector) and selector.matches(pod.metadata.labels):
                    yield found.key

    async def reconcile(self, obj: S) -> Result:
        """Bring the number of active pods to `spec.replicas`."""
        selector = selector_of(obj)
        if pods.is_empty(selector):
            return DONE
        mine = await adoption.claim(self._client, core.Pod, obj, selector)
        active = [pod for pod in mine if pods.active(pod)]
        failure: StatusError | None = None
        if obj.metadata.deletion_timestamp is None:
            try:
                active += await self._create(obj, min(obj.spec.replicas - len(active), BURST))
            except StatusError as error:
                failure = error
                set_failure(obj, "FailedCreate", error.message, self._clock.now())
            else:
                set_failure(obj, "", "", self._clock.now())
            gone = surplus(active, obj.spec.replicas)[:BURST]
            for pod in gone:
                await self._delete(obj, pod)
            names = {pod.metadata.uid for pod in gone}
            active = [pod for pod in active if pod.metadata.uid not in names]
        after = count(obj, active, self._clock.now())
        if failure is not None and not isinstance(failure, Forbidden | Invalid):
            raise failure
        if failure is not None:
            return Result(after=30.0)
        return Result(after=after) if after is not None else DONE

    async def _create(self, obj: S, number: int) -> list[Pod]:
        made: list[Pod] = []
        for _ in range(number):
            manifest = pods.from_template(obj.spec.template, obj, prefix=f"{obj.metadata.name[:57]}-")
            try:
                created = await self._client.create(manifest)
            except StatusError as error:
                if not _terminating(error):
                    await self._events.warning(obj, "FailedCreate", f"Error creating: {error.message}")
                raise
            await self._events.normal(obj, "SuccessfulCreate", f"Created pod: {created.metadata.name}")
            made.append(core.Pod(metadata=created.metadata))
        return made

    async def _delete(self, obj: S, pod: Pod) -> None:
        meta = pod.metadata
        try:
            await self._client.delete(core.Pod, meta.name, meta.namespace, uid=meta.uid)
        except NotFound:
            return
        await self._events.normal(obj, "SuccessfulDelete", f"Deleted pod: {meta.name}")


class ReplicaSetController(Replicas[ReplicaSet]):
    """Of ReplicaSets."""

    name = "replicaset"
    kind = ReplicaSet


class ReplicationControllerController(Replicas[ReplicationController]):
    """Of ReplicationControllers."""

    name = "replicationcontroller"
    kind = ReplicationController


def _terminating(error: StatusError) -> bool:
    return any(cause.reason == "NamespaceTerminating" for cause in error.causes)

"""DaemonSets: one pod on every node that fits (upstream: pkg/controller/daemon)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import core
from headrace.api.apps import ControllerRevision, DaemonSet
from headrace.api.errors import AlreadyExists, NotFound, StatusError
from headrace.controllermanager import adoption, pods
from headrace.controllermanager import daemonset_policy as policy
from headrace.controllermanager.revisions import HASH_LABEL, POD_LABEL, History
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.client.base import Client
    from headrace.machinery.clock import Clock
    from headrace.machinery.events import EventRecorder


class DaemonSetController(Controller[DaemonSet]):
    """See module."""

    name = "daemonset"
    kind = DaemonSet
    owns = (core.Pod, ControllerRevision)

    def __init__(self, client: Client, clock: Clock, events: EventRecorder) -> None:
        self._client, self._clock, self._events = client, clock, events
        self._history = History(client)
        self._seen: dict[str, tuple[dict[str, str], list[dict[str, Any]]]] = {}
        self.watches = (Watch(core.Pod, self._adopters), Watch(core.Node, self._of_node))

    def _adopters(self, pod: core.Pod) -> Iterable[str]:
        """DaemonSets that may adopt a pod that nobody controls."""
        if pods.controller_of(pod) is None and pod.metadata.labels:
            for found in self.cache(DaemonSet).all(pod.metadata.namespace):
                if not pods.is_empty(found.spec.selector) and found.spec.selector.matches(pod.metadata.labels):
                    yield found.key

    def _of_node(self, node: core.Node) -> Iterable[str]:
        """All, when a node came, went or has other labels or taints; heartbeats concern nobody."""
        name, now = node.metadata.name, (node.metadata.labels, node.spec.taints)
        there = self.cache(core.Node).get(name) is not None
        if there and self._seen.get(name) == now:
            return []
        if there:
            self._seen[name] = now
        else:
            self._seen.pop(name, None)
        return [found.key for found in self.cache(DaemonSet).all()]

    async def reconcile(self, obj: DaemonSet) -> Result:
        """One step towards a pod a node."""
        if pods.is_empty(obj.spec.selector):
            message = "This daemon set is selecting all pods. A non-empty selector is required."
            await self._events.warning(obj, "SelectingAll", message)
            return DONE
        known = await self._history.of(obj, obj.spec.selector)
        try:
            update = await self._history.latest(obj, obj.spec.template, known, obj.status.collision_count)
        except AlreadyExists:
            obj.status.collision_count += 1
            raise
        digest = update.metadata.labels[HASH_LABEL]
        mine = await adoption.claim(self._client, core.Pod, obj, obj.spec.selector)
        nodes = (await self._client.list(core.Node)).items
        after: float | None = None
        if obj.metadata.deletion_timestamp is None:
            plan = policy.plan(obj, nodes, mine, digest, self._clock.now())
            for pod in plan.delete:
                await self._delete(obj, pod)
            for node in plan.create:
                mine.append(await self._create(obj, node, digest))
            after = plan.after
        left = policy.count(obj, nodes, mine, digest, self._clock.now())
        used = {pod.metadata.labels.get(POD_LABEL) for pod in mine}
        live = {r.metadata.name for r in known if r is update or r.metadata.labels.get(HASH_LABEL) in used}
        await self._history.trim(known, live, obj.spec.revision_history_limit)
        waits = [seconds for seconds in (after, left) if seconds is not None]
        return Result(after=min(waits)) if waits else DONE

    async def _create(self, obj: DaemonSet, node: str, digest: str) -> core.Pod:
        manifest = policy.manifest(obj, node, digest)
        try:
            created = await self._client.create(manifest)
        except StatusError as error:
            if not any(cause.reason == "NamespaceTerminating" for cause in error.causes):
                await self._events.warning(obj, "FailedCreate", f"Error creating: {error.message}")
            raise
        await self._events.normal(obj, "SuccessfulCreate", f"Created pod: {created.metadata.name}")
        spec = core.PodSpec(affinity=manifest.spec["affinity"])
        return core.Pod(metadata=created.metadata, spec=spec, status=core.PodStatus(phase="Pending"))

    async def _delete(self, obj: DaemonSet, pod: core.Pod) -> None:
        meta = pod.metadata
        if pods.finished(pod):
            failed = pod.status.phase == "Failed"
            reason, word = ("FailedDaemonPod", "failed") if failed else ("SucceededDaemonPod", "succeeded")
            message = f"Found {word} daemon pod {pod.key} on node {policy.node_of(pod)}, will try to delete it"
            await self._events.warning(obj, reason, message)
        try:
            await self._client.delete(core.Pod, meta.name, meta.namespace, uid=meta.uid)
        except NotFound:
            return
        meta.deletion_timestamp = self._clock.now()
        await self._events.normal(obj, "SuccessfulDelete", f"Deleted pod: {meta.name}")

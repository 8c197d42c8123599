"""StatefulSets: numbered pods with names, addresses and claims of their own (upstream: pkg/controller/statefulset)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api import _wire, core
from headrace.api.apps import ControllerRevision, StatefulSet
from headrace.api.errors import AlreadyExists, Conflict, NotFound, StatusError
from headrace.controllermanager import adoption, pods
from headrace.controllermanager import statefulset_policy as policy
from headrace.controllermanager.revisions import History, template_of
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.client.base import Client
    from headrace.controllermanager.types import ClaimManifest
    from headrace.machinery.clock import Clock
    from headrace.machinery.events import EventRecorder

Claim = core.PersistentVolumeClaim


class StatefulSetController(Controller[StatefulSet]):
    """See module."""

    name = "statefulset"
    kind = StatefulSet
    owns = (core.Pod, ControllerRevision)

    def __init__(self, client: Client, clock: Clock, events: EventRecorder) -> None:
        self._client, self._clock, self._events = client, clock, events
        self._history = History(client)
        self.watches = (Watch(core.Pod, self._adopters),)

    def _adopters(self, pod: core.Pod) -> Iterable[str]:
        """StatefulSets that may adopt a pod that nobody controls, or that wait for its name."""
        stem = pod.metadata.name.rpartition("-")[0]
        found = self.cache(StatefulSet).get(f"{pod.metadata.namespace}/{stem}")
        if found is not None:
            yield found.key

    async def reconcile(self, obj: StatefulSet) -> Result:
        """One step towards the wanted pods, each in its turn."""
        if pods.is_empty(obj.spec.selector):
            return DONE
        selector = obj.spec.selector
        known = await self._history.of(obj, selector)
        try:
            update = await self._history.latest(obj, obj.spec.template, known, obj.status.collision_count)
        except AlreadyExists:
            obj.status.collision_count += 1
            raise
        names = {r.metadata.name: r for r in known}
        current = names.get(obj.status.current_revision, update)
        mine = await adoption.claim(
            self._client, core.Pod, obj, selector, lambda p: policy.ordinal(obj, p.metadata.name) is not None
        )
        if obj.metadata.deletion_timestamp is None:
            await self._name(mine)
            await self._keep_claims(obj, mine)
            mine = await self._step(obj, mine, current, update)
        after = policy.count(obj, mine, current.metadata.name, update.metadata.name, self._clock.now())
        live = {current.metadata.name, update.metadata.name, *(policy.revision_of(p) for p in mine)}
        await self._history.trim(known, live, obj.spec.revision_history_limit)
        return Result(after=after) if after is not None else DONE

    async def _step(
        self, obj: StatefulSet, mine: list[core.Pod], current: ControllerRevision, update: ControllerRevision
    ) -> list[core.Pod]:
        plan = policy.plan(obj, mine, update.metadata.name, self._clock.now())
        for pod in plan.delete:
            if plan.reason and pods.finished(pod):
                verb = "failed" if plan.reason == "RecreatingFailedPod" else "terminated"
                message = f"StatefulSet {obj.key} is recreating {verb} Pod {pod.metadata.name}"
                await self._events.warning(obj, plan.reason, message)
            await self._delete(obj, pod)
        made = []
        for number in plan.create:
            name = policy.revision_for(obj, number, current.metadata.name, update.metadata.name)
            revision = current if name == current.metadata.name else update
            made.append(await self._create(obj, number, revision))
        return [*mine, *made]

    async def _create(self, obj: StatefulSet, number: int, revision: ControllerRevision) -> core.Pod:
        manifest = policy.pod_of(obj, template_of(revision), number, revision.metadata.name)
        name = manifest.metadata.name
        try:
            for claim in policy.claims(obj, number):
                await self._ensure_claim(obj, claim, name)
            created = await self._client.create(manifest)
        except (Conflict, AlreadyExists):
            raise  # an earlier pod or claim of the name is on its way out: its end wakes us
        except StatusError as error:
            if not any(cause.reason == "NamespaceTerminating" for cause in error.causes):
                message = f"create Pod {name} in StatefulSet {obj.metadata.name} failed error: {error.message}"
                await self._events.warning(obj, "FailedCreate", message)
            raise
        await self._events.normal(
            obj, "SuccessfulCreate", f"create Pod {name} in StatefulSet {obj.metadata.name} successful"
        )
        return core.Pod(metadata=created.metadata, status=core.PodStatus(phase="Pending"))

    async def _ensure_claim(self, obj: StatefulSet, manifest: ClaimManifest, pod: str) -> None:
        meta = manifest.metadata
        try:
            found = await self._client.get(Claim, meta.name, meta.namespace)
        except NotFound:
            wanted = policy.claim_owners(obj, Claim(metadata=meta), None)
            meta.owner_references = wanted
            await self._client.create(manifest)
            message = f"create Claim {meta.name} Pod {pod} in StatefulSet {obj.metadata.name} success"
            await self._events.normal(obj, "SuccessfulCreate", message)
            return
        if found.metadata.deletion_timestamp is not None:
            raise Conflict(f"persistentvolumeclaim {meta.name!r} is being deleted", kind="persistentvolumeclaims")
        await self._own(obj, found, None)

    async def _keep_claims(self, obj: StatefulSet, mine: list[core.Pod]) -> None:
        """Owner references as the retention policy wants them, before a pod that takes its claims along goes."""
        if not obj.spec.volume_claim_templates:
            return
        wanted = policy.ordinals(obj)
        for pod in mine:
            number = policy.ordinal(obj, pod.metadata.name)
            if number is None:
                continue
            for template in obj.spec.volume_claim_templates:
                name = policy.claim_name(obj, template, number)
                try:
                    found = await self._client.get(Claim, name, obj.metadata.namespace)
                except NotFound:
                    continue
                await self._own(obj, found, None if number in wanted else pod)

    async def _own(self, obj: StatefulSet, claim: core.PersistentVolumeClaim, pod: core.Pod | None) -> None:
        owners = policy.claim_owners(obj, claim, pod)
        if owners == claim.metadata.owner_references:
            return
        meta = claim.metadata
        patch = {"metadata": {"ownerReferences": _wire.to_builtins(owners) or None}}
        await self._client.patch(Claim, meta.name, patch, meta.namespace, resource_version=meta.resource_version)

    async def _name(self, mine: list[core.Pod]) -> None:
        """An adopted pod gets the label by which a service can select it alone."""
        for pod in mine:
            meta = pod.metadata
            if meta.labels.get(policy.NAME_LABEL) != meta.name and pods.active(pod):
                patch = {"metadata": {"labels": {policy.NAME_LABEL: meta.name}}}
                await self._client.patch(core.Pod, meta.name, patch, meta.namespace)

    async def _delete(self, obj: StatefulSet, pod: core.Pod) -> None:
        meta = pod.metadata
        try:
            await self._client.delete(core.Pod, meta.name, meta.namespace, uid=meta.uid)
        except NotFound:
            return
        pod.metadata.deletion_timestamp = self._clock.now()
        message = f"delete Pod {meta.name} in StatefulSet {obj.metadata.name} successful"
        await self._events.normal(obj, "SuccessfulDelete", message)

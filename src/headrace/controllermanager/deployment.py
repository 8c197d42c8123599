"""Deployments: a ReplicaSet for each template, sized step by step (upstream: pkg/controller/deployment)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api import core
from headrace.api.errors import AlreadyExists, NotFound, StatusError
from headrace.api.meta import LabelSelector, ObjectMeta
from headrace.controllermanager import adoption, pods
from headrace.controllermanager import deployment_policy as policy
from headrace.controllermanager.types import Deployment, ReplicaSet, ReplicaSetSpec
from headrace.machinery.controller import DONE, Controller, Result, Watch, by_controller_owner

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.client.base import Client
    from headrace.machinery.clock import Clock
    from headrace.machinery.events import EventRecorder


class DeploymentController(Controller[Deployment]):
    """See module."""

    name = "deployment"
    kind = Deployment
    owns = (ReplicaSet,)

    def __init__(self, client: Client, clock: Clock, events: EventRecorder) -> None:
        self._client, self._clock, self._events = client, clock, events
        self.watches = (Watch(core.Pod, self._of_pod),)

    def _of_pod(self, pod: core.Pod) -> Iterable[str]:
        """Recreate waits for the last old pod to be gone, which no ReplicaSet's status tells."""
        for key in by_controller_owner(ReplicaSet)(pod):
            owner = self.cache(ReplicaSet).get(key)
            if owner is not None:
                yield from by_controller_owner(Deployment)(owner)

    async def reconcile(self, obj: Deployment) -> Result:
        """One step of the rollout; each change of a ReplicaSet brings the next."""
        if pods.is_empty(obj.spec.selector):
            message = "This deployment is selecting all pods. A non-empty selector is required."
            await self._events.warning(obj, "SelectingAll", message)
            obj.status.observed_generation = obj.metadata.generation
            return DONE
        owned = await adoption.claim(self._client, ReplicaSet, obj, obj.spec.selector)
        before = policy.progress(obj)
        new, old = policy.split(obj, owned)
        if obj.metadata.deletion_timestamp is None:
            self._note_pause(obj)
            new, old = await self._step(obj, new, old)
        result = self._finish(obj, new, old, before)
        if obj.metadata.deletion_timestamp is None and (obj.spec.paused or policy.complete(obj)):
            await self._clean_up(obj, old)
        return result

    async def _step(
        self, obj: Deployment, new: ReplicaSet | None, old: list[ReplicaSet]
    ) -> tuple[ReplicaSet | None, list[ReplicaSet]]:
        everything = [*old, *([new] if new else [])]
        if obj.spec.paused or policy.is_scaling(obj, everything):
            if new is not None:
                new = await self._describe(obj, new, old)
                everything = [*old, new]
            sizes = policy.proportional(obj, everything) if policy.is_scaling(obj, everything) else {}
            return await self._resize(obj, new, old, sizes)
        if obj.spec.strategy.type == "Recreate":
            sizes = {rs.metadata.name: 0 for rs in old if rs.spec.replicas}
            if sizes or await self._running(old):
                return await self._resize(obj, new, old, sizes)
        new = await self._ensure_new(obj, new, old)
        size = policy.new_size(obj, new, [*old, new])
        if size != new.spec.replicas:
            return await self._resize(obj, new, old, {new.metadata.name: size})
        sizes = policy.old_sizes(obj, new, old)
        if sizes:
            return await self._resize(obj, new, old, sizes)
        return await self._resize(obj, new, old, {new.metadata.name: size})

    async def _ensure_new(self, obj: Deployment, new: ReplicaSet | None, old: Sequence[ReplicaSet]) -> ReplicaSet:
        now = self._clock.now()
        if new is not None:
            if policy.condition(obj, "Progressing") is None:
                message = f'Found new replica set "{new.metadata.name}"'
                policy.set_condition(obj, "Progressing", "True", "FoundNewReplicaSet", message, now=now)
            return await self._describe(obj, new, old)
        digest = policy.template_hash(obj.spec.template, obj.status.collision_count)
        revision, _ = policy.next_revision(None, old)
        template = policy.labelled(obj.spec.template, digest)
        wanted = ReplicaSet(
            metadata=ObjectMeta(
                name=f"{obj.metadata.name}-{digest}",
                namespace=obj.metadata.namespace,
                labels=dict(template["metadata"]["labels"]),
                annotations={
                    **policy.copied_annotations(obj),
                    **policy.size_annotations(obj),
                    policy.REVISION: revision,
                },
                owner_references=[obj.owner_reference()],
            ),
            spec=ReplicaSetSpec(
                selector=LabelSelector(
                    match_labels={**obj.spec.selector.match_labels, policy.HASH_LABEL: digest},
                    match_expressions=obj.spec.selector.match_expressions,
                ),
                template=template,
                replicas=policy.new_size(obj, None, old),
                min_ready_seconds=obj.spec.min_ready_seconds,
            ),
        )
        size = wanted.spec.replicas
        try:
            created = await self._client.create(wanted)
        except AlreadyExists:
            # Another template, or another owner, has this name: the next attempt has another one.
            obj.status.collision_count += 1
            raise
        except StatusError as error:
            message = f'Failed to create new replica set "{wanted.metadata.name}": {error.message}'
            policy.set_condition(obj, "Progressing", "False", "ReplicaSetCreateError", message, now=now)
            raise
        message = f'Created new replica set "{created.metadata.name}"'
        policy.set_condition(obj, "Progressing", "True", "NewReplicaSetCreated", message, now=now, touch=True)
        if size:
            text = f"Scaled up replica set {created.metadata.name} from 0 to {size}"
            await self._events.normal(obj, "ScalingReplicaSet", text)
        await self._set_revision(obj, revision)
        return created

    async def _describe(self, obj: Deployment, new: ReplicaSet, old: Sequence[ReplicaSet]) -> ReplicaSet:
        """Annotations, revision and minReadySeconds of the current ReplicaSet."""
        revision, history = policy.next_revision(new, old)
        annotations = {**policy.copied_annotations(obj), policy.REVISION: revision}
        if history:
            annotations[policy.REVISION_HISTORY] = history
        if (
            not annotations.items() <= new.metadata.annotations.items()
            or new.spec.min_ready_seconds != obj.spec.min_ready_seconds
        ):
            patch = {
                "metadata": {"annotations": annotations},
                "spec": {"minReadySeconds": obj.spec.min_ready_seconds},
            }
            new = await self._client.patch(ReplicaSet, new.metadata.name, patch, new.metadata.namespace)
        await self._set_revision(obj, revision)
        return new

    async def _set_revision(self, obj: Deployment, revision: str) -> None:
        meta = obj.metadata
        if meta.annotations.get(policy.REVISION) == revision:
            return
        patch = {"metadata": {"annotations": {policy.REVISION: revision}}}
        written = await self._client.patch(
            Deployment, meta.name, patch, meta.namespace, resource_version=meta.resource_version
        )
        meta.annotations, meta.resource_version = written.metadata.annotations, written.metadata.resource_version

    async def _resize(
        self, obj: Deployment, new: ReplicaSet | None, old: list[ReplicaSet], sizes: dict[str, int]
    ) -> tuple[ReplicaSet | None, list[ReplicaSet]]:
        """Give ReplicaSets these sizes, and let each that is not empty remember the Deployment's."""
        remembered = policy.size_annotations(obj)
        resized: dict[str, ReplicaSet] = {}
        for rs in [*old, *([new] if new else [])]:
            size = sizes.get(rs.metadata.name, rs.spec.replicas)
            if rs.metadata.name not in sizes or (
                size == rs.spec.replicas and remembered.items() <= rs.metadata.annotations.items()
            ):
                resized[rs.metadata.name] = rs
                continue
            patch = {"metadata": {"annotations": remembered}, "spec": {"replicas": size}}
            meta = rs.metadata
            resized[meta.name] = await self._client.patch(
                ReplicaSet, meta.name, patch, meta.namespace, resource_version=meta.resource_version
            )
            if size != rs.spec.replicas:
                word = "up" if size > rs.spec.replicas else "down"
                text = f"Scaled {word} replica set {meta.name} from {rs.spec.replicas} to {size}"
                await self._events.normal(obj, "ScalingReplicaSet", text)
        return (resized[new.metadata.name] if new else None), [resized[rs.metadata.name] for rs in old]

    async def _running(self, old: Sequence[ReplicaSet]) -> bool:
        """Whether a pod of an old template has not ended yet."""
        owners = {rs.metadata.uid for rs in old}
        if not owners:
            return False
        listed = await self._client.list(core.Pod, old[0].metadata.namespace)
        return any(
            not pods.finished(pod) and (ref := pods.controller_of(pod)) is not None and ref.uid in owners
            for pod in listed.items
        )

    def _note_pause(self, obj: Deployment) -> None:
        found = policy.condition(obj, "Progressing")
        if found is not None and found.reason == "ProgressDeadlineExceeded":
            return
        is_paused = found is not None and found.reason == "DeploymentPaused"
        now = self._clock.now()
        if obj.spec.paused and not is_paused:
            policy.set_condition(obj, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now=now)
        elif not obj.spec.paused and is_paused:
            policy.set_condition(obj, "Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed", now=now)

    def _finish(
        self, obj: Deployment, new: ReplicaSet | None, old: list[ReplicaSet], before: tuple[int, ...]
    ) -> Result:
        now = self._clock.now()
        everything = [*old, *([new] if new else [])]
        policy.count(obj, new, everything)
        policy.set_available(obj, now)
        policy.set_replica_failure(obj, everything, now)
        if obj.spec.paused or obj.metadata.deletion_timestamp is not None:
            return DONE
        policy.set_progressing(obj, new, before, now)
        left = policy.seconds_left(obj, now)
        return Result(after=left + 1) if left is not None and left > 0 else DONE

    async def _clean_up(self, obj: Deployment, old: Sequence[ReplicaSet]) -> None:
        for rs in policy.expendable(obj, old):
            meta = rs.metadata
            try:
                await self._client.delete(ReplicaSet, meta.name, meta.namespace, uid=meta.uid)
            except NotFound:
                continue

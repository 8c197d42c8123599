"""Keeps a Deployment and a Service for each InferenceService and says in its status how the model does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api import conditions
from headrace.api.apps import Deployment
from headrace.api.core import Pod, Secret, Service, ServiceAccount
from headrace.api.errors import AlreadyExists, BadRequest, Conflict, Forbidden, Invalid, NotFound
from headrace.components.serving import render
from headrace.components.serving.policy import credentials, pods, spec
from headrace.components.serving.policy import status as words
from headrace.components.serving.types import InferenceService
from headrace.machinery.controller import DONE, Controller, Result, Terminal, Watch
from headrace.machinery.events import EventRecorder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.core import EnvVar
    from headrace.api.meta import Object
    from headrace.client.base import Client, T
    from headrace.machinery.clock import Clock


def _service_of(pod: Pod) -> Iterable[str]:
    name = pod.metadata.labels.get(render.SERVICE_LABEL)
    if name:
        yield f"{pod.metadata.namespace}/{name}"


class InferenceServiceController(Controller[InferenceService]):
    """InferenceService -> Deployment and Service."""

    name = "inferenceservice"
    kind = InferenceService
    owns = (Deployment, Service)
    watches = (Watch(Pod, _service_of),)

    def __init__(self, client: Client, clock: Clock, *, component: str = "serving") -> None:
        self._client, self._clock = client, clock
        self._events = EventRecorder(client, clock, component)

    async def reconcile(self, obj: InferenceService) -> Result:
        """See Controller."""
        if obj.metadata.deletion_timestamp is not None:
            return DONE
        was_ready = conditions.is_true(obj.status.conditions, "Ready")
        failed_before = obj.status.model_status.last_failure_info
        try:
            await self._bring_closer(obj)
        finally:
            await self._tell(obj, was_ready, failed_before.message if failed_before else "")
        return DONE

    async def _bring_closer(self, obj: InferenceService) -> None:
        now = self._clock.now()
        if spec.stopped(obj):
            await self._take_away(obj)
            words.stopped(obj, now)
            return
        plan = spec.decide(obj)
        if isinstance(plan, spec.Refusal):
            words.refused(obj, plan, now)
            return
        foreign = self._foreign(obj)
        if foreign:
            words.refused(obj, foreign, now)
            raise Terminal(foreign.message)
        await self._mention_bound(obj, plan)
        try:
            deployment = await self._deployment(obj, plan)
        except (BadRequest, Invalid, Forbidden) as error:
            words.refused(
                obj, spec.Refusal("DeploymentRefused", f"The predictor cannot be deployed: {error.message}"), now
            )
            if isinstance(error, Forbidden):
                raise  # a quota may have room again
            raise Terminal(error.message) from error
        await self._service(obj)
        seen = pods.observe(deployment, self._pods(obj), plan.replicas)
        words.running(obj, plan, seen, now)

    def _foreign(self, obj: InferenceService) -> spec.Refusal | None:
        """Objects of our children's names that are somebody else's must not be taken over."""
        key = f"{obj.metadata.namespace}/{render.predictor_name(obj)}"
        for kind in self.owns:
            found = self.cache(kind).get(key)
            if found is not None and not _owned(found, obj):
                return spec.Refusal(
                    "NameConflict",
                    f"{kind.INFO.kind} {found.metadata.name} exists and does not belong to this InferenceService: "
                    "delete it or choose another name.",
                )
        return None

    async def _deployment(self, obj: InferenceService, plan: spec.Plan) -> Deployment:
        desired = render.deployment(obj, plan, await self._credentials(obj, plan))
        existing: Deployment | None = self.cache(Deployment).get(desired.key)
        if existing is None:
            created = await self._create(desired)
            await self._events.normal(obj, "DeploymentCreated", f"Created Deployment {desired.metadata.name}.")
            return created
        patch = render.deployment_changes(existing, desired)
        if not patch:
            return existing
        name, namespace = desired.metadata.name, desired.metadata.namespace
        changed = await self._client.patch(Deployment, name, patch, namespace)
        if changed.metadata.generation != existing.metadata.generation:
            await self._events.normal(obj, "DeploymentUpdated", f"Updated Deployment {name}: new pods replace the old.")
        return changed

    async def _mention_bound(self, obj: InferenceService, plan: spec.Plan) -> None:
        most = obj.spec.predictor.max_replicas or 0
        if most > plan.replicas and obj.status.observed_generation != obj.metadata.generation:
            text = f"Autoscaling is not supported yet: {plan.replicas} of at most {most} replicas run at any load."
            await self._events.warning(obj, "AutoscalingNotSupported", text)

    async def _service(self, obj: InferenceService) -> None:
        desired = render.service(obj)
        existing: Service | None = self.cache(Service).get(desired.key)
        if existing is None:
            await self._create(desired)
            return
        patch = render.service_changes(existing, desired)
        if patch:
            await self._client.patch(Service, desired.metadata.name, patch, desired.metadata.namespace)

    async def _create(self, desired: T) -> T:
        try:
            return await self._client.create(desired)
        except AlreadyExists as error:
            # It is ours and the cache is behind, or somebody else's: the next look tells.
            raise Conflict(error.message) from error

    async def _credentials(self, obj: InferenceService, plan: spec.Plan) -> list[EnvVar]:
        if not plan.storage_uri.startswith("s3://"):
            return []
        namespace = obj.metadata.namespace
        named = obj.metadata.annotations.get(credentials.SECRET_NAME)
        names = [named] if named else await self._secrets_of(obj.spec.predictor.service_account_name, namespace)
        found = []
        for name in names:
            try:
                found.append(await self._client.get(Secret, name, namespace))
            except NotFound:
                await self._events.warning(
                    obj, "SecretNotFound", f"Secret {name} with the model's keys does not exist."
                )
        return credentials.environment(found)

    async def _secrets_of(self, account: str, namespace: str) -> list[str]:
        try:
            found = await self._client.get(ServiceAccount, account or "default", namespace)
        except NotFound:
            return []
        return [ref.name for ref in found.secrets]

    def _pods(self, obj: InferenceService) -> list[Pod]:
        label = {render.SERVICE_LABEL: obj.metadata.name}
        every: Iterable[Pod] = self.cache(Pod).all(obj.metadata.namespace)
        return [p for p in every if label.items() <= p.metadata.labels.items()]

    async def _take_away(self, obj: InferenceService) -> None:
        key = f"{obj.metadata.namespace}/{render.predictor_name(obj)}"
        for kind in self.owns:
            found = self.cache(kind).get(key)
            if found is not None and _owned(found, obj):
                await self._client.delete(kind, found.metadata.name, found.metadata.namespace, uid=found.metadata.uid)

    async def _tell(self, obj: InferenceService, was_ready: bool, told: str) -> None:
        name = obj.metadata.name
        ready = conditions.get(obj.status.conditions, "Ready")
        if ready is None:
            return
        if ready.status == "True" and not was_ready:
            await self._events.normal(obj, "InferenceServiceReady", f"InferenceService [{name}] is Ready")
        if ready.status != "True" and was_ready:
            text = f"InferenceService [{name}] is no longer Ready: {ready.message}"
            await self._events.warning(obj, "InferenceServiceNotReady", text)
        failure = obj.status.model_status.last_failure_info
        if failure is not None and failure.message != told:
            await self._events.warning(obj, ready.reason or failure.reason, failure.message)


def _owned(child: Object, owner: InferenceService) -> bool:
    return any(r.uid == owner.metadata.uid for r in child.metadata.owner_references)

"""Keeps the store's record of each Pipeline and PipelineVersion object, and forgets it when the object goes.

A record has the object's uid as its id, so that every step may be repeated. What the REST API would refuse is told in
the object's Ready condition with the same sentence. Deleting a pipeline by the REST API deletes its object as well
(see `forget`); an object whose record was deleted while nobody looked is deleted when it is next reconciled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import conditions
from headrace.api.errors import BadRequest, NotFound, StatusError
from headrace.components.pipelines.store.catalog import Taken
from headrace.components.pipelines.store.models import Pipeline, PipelineVersion, Spec
from headrace.components.pipelines.types.resources import (
    READY,
    PipelineObject,
    PipelineVersionObject,
)
from headrace.components.pipelines.types.rest import RpcError
from headrace.machinery.component import Validator
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from headrace.client.base import Client
    from headrace.components.pipelines.store.catalog import Catalog
    from headrace.machinery.clock import Clock

FINALIZER = "pipelines.kubeflow.org/record"
IMMUTABLE = "A pipeline version stays as it was created; only displayName and tags can be changed."


class Records:
    """What both controllers do to their objects."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self.client, self._clock = client, clock

    def tell(
        self, obj: PipelineObject | PipelineVersionObject, *, ready: bool, reason: str, message: str = ""
    ) -> Result:
        """Set the condition."""
        conditions.upsert(
            obj.status.conditions,
            READY,
            ready,
            reason=reason,
            message=message,
            now=self._clock.now(),
            generation=obj.metadata.generation,
        )
        if ready:
            obj.status.recorded = obj.metadata.uid
        return DONE

    async def hold(self, obj: PipelineObject | PipelineVersionObject) -> None:
        """Keep the object until its record is gone."""
        if FINALIZER not in obj.metadata.finalizers:
            await self._finalizers(obj, [*obj.metadata.finalizers, FINALIZER])

    async def let_go(self, obj: PipelineObject | PipelineVersionObject) -> None:
        """The record is gone, and so may the object."""
        if FINALIZER in obj.metadata.finalizers:
            await self._finalizers(obj, [name for name in obj.metadata.finalizers if name != FINALIZER])

    async def _finalizers(self, obj: PipelineObject | PipelineVersionObject, names: list[str]) -> None:
        # By resource version: a finalizer that somebody else has set meanwhile is not lost.
        patch = {"metadata": {"finalizers": names or None, "resourceVersion": obj.metadata.resource_version}}
        try:
            await self.client.patch(type(obj), obj.metadata.name, patch, obj.metadata.namespace)
        except NotFound:
            return

    async def remove(self, obj: PipelineObject | PipelineVersionObject) -> None:
        """Delete an object whose record somebody has deleted."""
        try:
            await self.client.delete(type(obj), obj.metadata.name, obj.metadata.namespace, uid=obj.metadata.uid)
        except StatusError:
            return


class PipelineRecords(Controller[PipelineObject]):
    """Pipeline objects."""

    name = "pipeline-records"
    kind = PipelineObject
    workers = 1

    def __init__(self, client: Client, clock: Clock, catalog: Catalog) -> None:
        self._records, self._catalog = Records(client, clock), catalog

    async def reconcile(self, obj: PipelineObject) -> Result:
        """See Controller."""
        meta, spec = obj.metadata, obj.spec
        record = await self._catalog.get_pipeline(meta.uid)
        if meta.deletion_timestamp is not None:
            if record is not None:
                await self._catalog.delete_pipeline(meta.uid, cascade=True)
            await self._records.let_go(obj)
            return DONE
        if record is None and obj.status.recorded:
            await self._records.remove(obj)
            return DONE
        await self._records.hold(obj)
        display = spec.display_name or meta.name
        if record is None:
            new = Pipeline(meta.uid, meta.namespace, meta.name, display, spec.description, tags=dict(spec.tags))
            try:
                await self._catalog.create_pipeline(new)
            except Taken as error:
                return self._records.tell(obj, ready=False, reason="NameTaken", message=str(error))
        elif (record.display_name, record.description, record.tags) != (display, spec.description, spec.tags):
            changes = {"display_name": display, "description": spec.description}
            await self._catalog.update_pipeline(meta.uid, changes, dict(spec.tags))
        return self._records.tell(obj, ready=True, reason="Recorded")


class PipelineVersionRecords(Controller[PipelineVersionObject]):
    """PipelineVersion objects. `check` raises RpcError for a spec that the REST API would refuse; `read` a URI."""

    name = "pipeline-version-records"
    kind = PipelineVersionObject
    workers = 1

    def __init__(
        self,
        client: Client,
        clock: Clock,
        catalog: Catalog,
        check: Callable[[Spec], object],
        read: Callable[[str, str], Awaitable[Spec]],
    ) -> None:
        self._records, self._catalog, self._check, self._read = Records(client, clock), catalog, check, read
        self.watches = (Watch(PipelineObject, self._of_pipeline),)

    def _of_pipeline(self, pipeline: PipelineObject) -> Iterable[str]:
        """Versions that may have waited for it."""
        for version in self.cache(PipelineVersionObject).all():
            meta = version.metadata
            if meta.namespace == pipeline.metadata.namespace and version.spec.pipeline_name == pipeline.metadata.name:
                yield f"{meta.namespace}/{meta.name}"

    async def reconcile(self, obj: PipelineVersionObject) -> Result:
        """See Controller."""
        meta = obj.metadata
        record = await self._catalog.get_version(meta.uid)
        if meta.deletion_timestamp is not None:
            if record is not None:
                await self._catalog.delete_version(meta.uid)
            await self._records.let_go(obj)
            return DONE
        if record is None and obj.status.recorded:
            await self._records.remove(obj)
            return DONE
        if record is not None:
            return await self._changed(obj, record)
        pipeline = await self._catalog.get_pipeline_named(meta.namespace, obj.spec.pipeline_name)
        if pipeline is None:
            words = f"spec.pipelineName {obj.spec.pipeline_name!r} is no Pipeline of namespace {meta.namespace!r}."
            return self._records.tell(obj, ready=False, reason="PipelineNotFound", message=words)
        try:
            version = await self._new(obj, pipeline)
            await self._records.hold(obj)
            await self._own(obj, pipeline)
            await self._catalog.create_version(version)
        except (RpcError, Taken) as error:
            reason = "NameTaken" if isinstance(error, Taken) else "InvalidPipelineSpec"
            return self._records.tell(obj, ready=False, reason=reason, message=str(error))
        return self._records.tell(obj, ready=True, reason="Recorded")

    async def _new(self, obj: PipelineVersionObject, pipeline: Pipeline) -> PipelineVersion:
        given, name = obj.spec, obj.spec.version_name or obj.metadata.name
        if given.pipeline_spec is not None:
            spec = Spec(given.pipeline_spec, given.platform_spec or None)
            self._check(spec)
        else:
            spec = await self._read(obj.metadata.namespace, given.pipeline_spec_uri)
        return PipelineVersion(
            id=obj.metadata.uid,
            pipeline_id=pipeline.id,
            name=name,
            display_name=given.display_name or name,
            description=given.description,
            package_url=given.pipeline_spec_uri,
            code_source_url=given.code_source_url,
            spec=spec,
            tags=dict(given.tags),
        )

    async def _changed(self, obj: PipelineVersionObject, record: PipelineVersion) -> Result:
        given = obj.spec
        same = (given.version_name or obj.metadata.name, given.description, given.code_source_url) == (
            record.name,
            record.description,
            record.code_source_url,
        )
        if given.pipeline_spec is not None and record.spec is not None:
            recorded = (record.spec.pipeline_spec, record.spec.platform_spec)
            same = same and recorded == (given.pipeline_spec, given.platform_spec or None)
        if not same:
            return self._records.tell(obj, ready=False, reason="Immutable", message=IMMUTABLE)
        display = given.display_name or record.name
        if (record.display_name, record.tags) != (display, given.tags):
            await self._catalog.update_version(record.id, {"display_name": display}, dict(given.tags))
        return self._records.tell(obj, ready=True, reason="Recorded")

    async def _own(self, obj: PipelineVersionObject, pipeline: Pipeline) -> None:
        """With the Pipeline object, if that is where the pipeline comes from, its versions go."""
        owners = [o for o in obj.metadata.owner_references if o.kind == PipelineObject.INFO.kind]
        known = self.cache(PipelineObject).get(f"{obj.metadata.namespace}/{pipeline.name}")
        if owners or known is None or known.metadata.uid != pipeline.id:
            return
        owner: dict[str, Any] = {
            "apiVersion": PipelineObject.INFO.api_version,
            "kind": PipelineObject.INFO.kind,
            "name": pipeline.name,
            "uid": pipeline.id,
        }
        patch = {"metadata": {"ownerReferences": [owner]}}
        await self._records.client.patch(PipelineVersionObject, obj.metadata.name, patch, obj.metadata.namespace)


def version_validator(check: Callable[[Spec], object]) -> Validator:
    """Refuses a PipelineVersion when it is applied, for what its condition would tell a moment later; what depends on
    other objects and on addresses is left to that. Source: backend/src/apiserver/webhook/pipelineversion_webhook.go.
    """

    def created(obj: dict[str, Any]) -> None:
        spec = obj.get("spec") or {}
        given = spec.get("pipelineSpec")
        if given is None:
            if not spec.get("pipelineSpecURI"):
                raise BadRequest("A PipelineVersion needs spec.pipelineSpec or spec.pipelineSpecURI.")
            return
        try:
            check(Spec(given, spec.get("platformSpec") or None))
        except RpcError as error:
            raise BadRequest(f"The pipeline spec is invalid: {error}") from error

    def changed(new: dict[str, Any], old: dict[str, Any]) -> None:
        before, after = old.get("spec") or {}, new.get("spec") or {}
        fixed = (before.keys() | after.keys()) - {"displayName", "tags"}
        if any(before.get(name) != after.get(name) for name in fixed):
            raise BadRequest(IMMUTABLE)

    return Validator(PipelineVersionObject, created, changed)


async def forget(client: Client, kind: str, namespace: str, uid: str) -> None:
    """Delete the object of a record that the REST API has deleted, if an object is where it came from."""
    try:
        for obj in (await client.list(_KINDS[kind], namespace)).items:
            if obj.metadata.uid == uid:
                await client.delete(_KINDS[kind], obj.metadata.name, namespace, uid=uid)
    except StatusError:
        return  # it goes when it is next reconciled


_KINDS: dict[str, type[Any]] = {kind.INFO.kind: kind for kind in (PipelineObject, PipelineVersionObject)}

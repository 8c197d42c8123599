"""What runs and recurring runs have in common: where they belong, and which pipeline they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.components.pipelines.api import parameters
from headrace.components.pipelines.api.packages import parse, split
from headrace.components.pipelines.api.requests import namespace_of, requester
from headrace.components.pipelines.policy.configuration import configuration
from headrace.components.pipelines.types.rest import VersionReferenceBody, invalid, not_found, unimplemented

if TYPE_CHECKING:
    from starlette.requests import Request

    from headrace.components.pipelines.api.requests import Services
    from headrace.components.pipelines.store.models import Experiment, PipelineVersion, Spec
    from headrace.components.pipelines.types.ir import PipelineSpec
    from headrace.components.pipelines.types.rest import RecurringRunBody, RunBody


class Launch:
    """Resolves what a request to run something names."""

    def __init__(self, services: Services) -> None:
        self._catalog, self._access = services.catalog, services.access

    async def experiment(self, request: Request, ident: str | None, verb: str, resource: str) -> Experiment:
        """The experiment that is named, or the namespace's default one; the requester may act in it."""
        ident = ident or request.query_params.get("experiment_id")
        if not ident:
            namespace = namespace_of(request)
            await self._access.require(requester(request), verb, resource, namespace)
            return await self._catalog.default_experiment(namespace)
        experiment = await self._catalog.get_experiment(ident)
        if experiment is None:
            raise not_found("Experiment", ident)
        await self._access.require(requester(request), verb, resource, experiment.namespace)
        return experiment

    async def source(
        self, request: Request, given: RunBody | RecurringRunBody, what: str = "A run"
    ) -> tuple[PipelineVersion | None, Spec]:
        """The version (None: a spec of its own) and the spec; the requester may read the pipeline."""
        reference = given.pipeline_version_reference
        if given.pipeline_version_id and reference is None:
            reference = VersionReferenceBody(pipeline_version_id=given.pipeline_version_id)
        if given.pipeline_spec is not None:
            if reference is not None:
                raise invalid(f"{what} takes a pipeline_spec or a pipeline_version_reference, not both.")
            return None, split(given.pipeline_spec)
        if reference is None or not (reference.pipeline_id or reference.pipeline_version_id):
            raise invalid(f"{what} needs a pipeline_spec or a pipeline_version_reference.")
        version = await self._version(reference)
        pipeline = await self._catalog.get_pipeline(version.pipeline_id)
        if pipeline is None or version.spec is None:
            raise not_found("Pipeline", version.pipeline_id)
        await self._access.require_pipelines(requester(request), "get", pipeline.namespace, pipeline.name)
        return version, version.spec

    async def _version(self, reference: VersionReferenceBody) -> PipelineVersion:
        pipeline_id, version_id = reference.pipeline_id or "", reference.pipeline_version_id or ""
        if not version_id:
            latest = await self._catalog.latest_version(pipeline_id)
            if latest is None:
                raise not_found("Pipeline", f"{pipeline_id} with a version")
            return latest
        version = await self._catalog.get_version(version_id)
        if version is None or (pipeline_id and version.pipeline_id != pipeline_id):
            raise not_found("Pipeline version", version_id)
        return version


def check(spec: Spec, values: dict[str, Any]) -> str:
    """The name of a pipeline that can run with these parameters. Raises RpcError."""
    parsed = parse(spec)
    _check_pipeline_config(parsed)
    parameters.check(parsed.root.input_definitions.parameters, values)
    return parsed.pipeline_info.name


def _check_pipeline_config(spec: PipelineSpec) -> None:
    """What a setting that is not known asks for would change what a run does: it is not left out."""
    given = {name for platform in spec.platform_spec.platforms.values() for name in platform.pipeline_config}
    try:
        found = configuration(spec)
    except ValueError as error:
        raise invalid(f"The pipeline's configuration is wrong: {error}.") from error
    unknown = sorted({*found.unknown, *(given - spec.pipeline_config.keys())})
    if unknown:
        raise unimplemented(f"The pipeline's configuration ({', '.join(unknown)}) is")

"""v1beta1, for clients of kfp 1: the same store and the same engine behind an older dialect.

Lists are scoped by `resource_reference_key`, packages are Argo Workflows, parameters are text. Authorization is that of
v2beta1: the same verbs on the same resources.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from headrace.api import _wire
from headrace.components.pipelines.api import v1_views as views
from headrace.components.pipelines.api.launch import Launch, check
from headrace.components.pipelines.api.packages import parse, read_package
from headrace.components.pipelines.api.pipelines import MAX_VERSION_NAME, read_upload
from headrace.components.pipelines.api.recurring import concurrency, trigger
from headrace.components.pipelines.api.requests import (
    answer,
    body,
    check_length,
    list_query,
    namespace_of,
    page,
    requester,
)
from headrace.components.pipelines.store.metrics import MAX_NAME
from headrace.components.pipelines.store.models import (
    DEFAULT_SERVICE_ACCOUNT,
    Metric,
    Pipeline,
    PipelineVersion,
    RecurringRun,
    Run,
    Spec,
    Status,
)
from headrace.components.pipelines.types import v1
from headrace.components.pipelines.types.rest import (
    NewVersionBody,
    RunBody,
    VersionReferenceBody,
    invalid,
    not_found,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from headrace.components.pipelines.api.experiments import Experiments
    from headrace.components.pipelines.api.pipelines import Pipelines
    from headrace.components.pipelines.api.recurring import Recurring
    from headrace.components.pipelines.api.requests import Services
    from headrace.components.pipelines.api.runs import Runs
    from headrace.components.pipelines.store.models import Experiment

MAX_TEXT = 255
_FORMATS = {"": "", "0": "", "UNSPECIFIED": "", "1": "RAW", "RAW": "RAW", "2": "PERCENTAGE", "PERCENTAGE": "PERCENTAGE"}
_MODES = {"": None, "0": None, "UNKNOWN_MODE": None, "1": True, "ENABLED": True, "2": False, "DISABLED": False}


class V1:
    """Handlers of v1beta1. What both dialects say alike is answered by the handlers of v2beta1."""

    def __init__(
        self, services: Services, experiments: Experiments, pipelines: Pipelines, runs: Runs, recurring: Recurring
    ) -> None:
        self._services, self._catalog, self._access = services, services.catalog, services.access
        self._experiments, self._pipelines, self._runs, self._recurring = experiments, pipelines, runs, recurring
        self._launch = Launch(services)

    def routes(self) -> list[Route]:
        """In the order in which they match."""
        experiments, runs, jobs = self._experiments, self._runs, self._recurring
        return [
            Route("/experiments", self.list_experiments, methods=["GET"]),
            Route("/experiments", self.create_experiment, methods=["POST"]),
            Route("/experiments/{id}:archive", experiments.archive, methods=["POST"]),
            Route("/experiments/{id}:unarchive", experiments.unarchive, methods=["POST"]),
            Route("/experiments/{id}", self.get_experiment, methods=["GET"]),
            Route("/experiments/{id}", experiments.delete, methods=["DELETE"]),
            Route("/pipelines/upload", self.upload, methods=["POST"]),
            Route("/pipelines/upload_version", self.upload_version, methods=["POST"]),
            Route("/pipelines", self.list_pipelines, methods=["GET"]),
            Route("/pipelines", self.create_pipeline, methods=["POST"]),
            Route("/pipelines/{id}", self.get_pipeline, methods=["GET"]),
            Route("/pipelines/{id}", self.delete_pipeline, methods=["DELETE"]),
            Route("/pipelines/{id}/templates", self.template, methods=["GET"]),
            Route("/namespaces/{namespace}/pipelines/{name}", self.get_named, methods=["GET"]),
            Route("/pipeline_versions", self.list_versions, methods=["GET"]),
            Route("/pipeline_versions", self.create_version, methods=["POST"]),
            Route("/pipeline_versions/{version}", self.get_version, methods=["GET"]),
            Route("/pipeline_versions/{version}", self.delete_version, methods=["DELETE"]),
            Route("/pipeline_versions/{version}/templates", self.version_template, methods=["GET"]),
            Route("/runs", self.list_runs, methods=["GET"]),
            Route("/runs", self.create_run, methods=["POST"]),
            Route("/runs/{id}:archive", runs.archive, methods=["POST"]),
            Route("/runs/{id}:unarchive", runs.unarchive, methods=["POST"]),
            Route("/runs/{id}:reportMetrics", self.report_metrics, methods=["POST"]),
            Route("/runs/{id}/retry", runs.retry, methods=["POST"]),
            Route("/runs/{id}/terminate", runs.terminate, methods=["POST"]),
            Route("/runs/{id}", self.get_run, methods=["GET"]),
            Route("/runs/{id}", runs.delete, methods=["DELETE"]),
            Route("/jobs", self.list_jobs, methods=["GET"]),
            Route("/jobs", self.create_job, methods=["POST"]),
            Route("/jobs/{id}/enable", jobs.enable, methods=["POST"]),
            Route("/jobs/{id}/disable", jobs.disable, methods=["POST"]),
            Route("/jobs/{id}", self.get_job, methods=["GET"]),
            Route("/jobs/{id}", jobs.delete, methods=["DELETE"]),
        ]

    # Experiments

    async def create_experiment(self, request: Request) -> Response:
        """POST /experiments."""
        given = await body(request, v1.ExperimentV1Body)
        namespace = namespace_of(request, v1.referenced(given.resource_references, v1.NAMESPACE))
        await self._access.require(requester(request), "create", "experiments", namespace)
        if not given.name:
            raise invalid("An experiment needs a name.")
        name = check_length("An experiment's name", given.name, MAX_TEXT)
        return answer(views.experiment(await self._catalog.create_experiment(namespace, name, given.description or "")))

    async def get_experiment(self, request: Request) -> Response:
        """GET /experiments/{id}."""
        return answer(views.experiment(await self._experiments.find(request, "get")))

    async def list_experiments(self, request: Request) -> Response:
        """GET /experiments of a namespace."""
        namespace = await self._namespace(request, "list", "experiments")
        found = await self._catalog.list_experiments(list_query(request), namespace)
        return page("experiments", [views.experiment(e) for e in found.items], found)

    # Pipelines

    async def upload(self, request: Request) -> Response:
        """POST /pipelines/upload."""
        pipeline, version = await self._pipelines.uploaded(request)
        return answer(views.pipeline(pipeline, version))

    async def upload_version(self, request: Request) -> Response:
        """POST /pipelines/upload_version."""
        params = request.query_params
        pipeline = await self._pipelines.find(request, "create", params.get("pipelineid") or "")
        filename, spec = await read_upload(request)
        name = check_length("A pipeline version's name", params.get("name") or filename, MAX_VERSION_NAME)
        version = PipelineVersion(
            id="",
            pipeline_id=pipeline.id,
            name=name,
            display_name=name,
            description=params.get("description") or "",
            spec=spec,
        )
        return answer(views.pipeline_version(await self._catalog.create_version(version)))

    async def create_pipeline(self, request: Request) -> Response:
        """POST /pipelines: from a URL."""
        given = await body(request, v1.PipelineV1Body)
        namespace = namespace_of(request, v1.referenced(given.resource_references, v1.NAMESPACE))
        await self._access.require_pipelines(requester(request), "create", namespace)
        if not given.name:
            raise invalid("A pipeline needs a name.")
        name = check_length("A pipeline's name", given.name, MAX_VERSION_NAME)
        wanted = NewVersionBody(name=name, package_url=given.url)
        version = await self._pipelines.from_url(namespace, wanted, name)
        pipeline = Pipeline(
            id="", namespace=namespace, name=name, display_name=name, description=given.description or ""
        )
        return answer(views.pipeline(await self._catalog.create_pipeline(pipeline, version), version))

    async def create_version(self, request: Request) -> Response:
        """POST /pipeline_versions: from a URL."""
        given = await body(request, v1.VersionV1Body)
        pipeline = await self._pipelines.find(request, "create", v1.referenced(given.resource_references, v1.PIPELINE))
        wanted = NewVersionBody(
            name=given.name,
            description=given.description,
            package_url=given.package_url,
            code_source_url=given.code_source_url,
        )
        version = await self._pipelines.from_url(pipeline.namespace, wanted, "")
        version.pipeline_id = pipeline.id
        return answer(views.pipeline_version(await self._catalog.create_version(version)))

    async def list_pipelines(self, request: Request) -> Response:
        """GET /pipelines of a namespace."""
        namespace = await self._namespace(request, "list", "pipelines")
        found = await self._catalog.list_pipelines(list_query(request), namespace)
        latest = await self._catalog.latest_versions([p.id for p in found.items])
        return page("pipelines", [views.pipeline(p, latest.get(p.id)) for p in found.items], found)

    async def get_pipeline(self, request: Request) -> Response:
        """GET /pipelines/{id}."""
        return await self._shown(await self._pipelines.find(request, "get"))

    async def get_named(self, request: Request) -> Response:
        """GET /namespaces/{namespace}/pipelines/{name}; `-` is the namespace of shared ones."""
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        namespace = "" if namespace == "-" else namespace
        await self._access.require_pipelines(requester(request), "get", namespace, name)
        pipeline = await self._catalog.get_pipeline_named(namespace, name)
        if pipeline is None:
            raise not_found("Pipeline", f"{name!r} in namespace {namespace!r}")
        return await self._shown(pipeline)

    async def delete_pipeline(self, request: Request) -> Response:
        """DELETE /pipelines/{id} with its versions, as v1beta1 does."""
        pipeline = await self._pipelines.find(request, "delete")
        await self._catalog.delete_pipeline(pipeline.id, cascade=True)
        await self._services.forget("Pipeline", pipeline.namespace, pipeline.id)
        return answer({})

    async def template(self, request: Request) -> Response:
        """GET /pipelines/{id}/templates: the newest version's document as text."""
        pipeline = await self._pipelines.find(request, "get")
        version = await self._catalog.latest_version(pipeline.id)
        if version is None or version.spec is None:
            raise not_found("Pipeline version", f"of pipeline {pipeline.id}")
        return answer({"template": _wire.encode(version.spec.document).decode()})

    async def _shown(self, pipeline: Pipeline) -> Response:
        return answer(views.pipeline(pipeline, await self._catalog.latest_version(pipeline.id)))

    async def list_versions(self, request: Request) -> Response:
        """GET /pipeline_versions?resource_key.id=PIPELINE."""
        pipeline = await self._pipelines.find(request, "list", request.query_params.get("resource_key.id") or "")
        found = await self._catalog.list_versions(list_query(request), pipeline.id)
        return page("versions", [views.pipeline_version(v) for v in found.items], found)

    async def get_version(self, request: Request) -> Response:
        """GET /pipeline_versions/{version}."""
        return answer(views.pipeline_version(await self._version(request, "get")))

    async def version_template(self, request: Request) -> Response:
        """GET /pipeline_versions/{version}/templates."""
        version = await self._version(request, "get")
        return answer({"template": _wire.encode(version.spec.document if version.spec else {}).decode()})

    async def delete_version(self, request: Request) -> Response:
        """DELETE /pipeline_versions/{version}."""
        version = await self._version(request, "delete")
        pipeline = await self._catalog.get_pipeline(version.pipeline_id)
        await self._catalog.delete_version(version.id)
        if pipeline is not None:
            await self._services.forget("PipelineVersion", pipeline.namespace, version.id)
        return answer({})

    async def _version(self, request: Request, verb: str) -> PipelineVersion:
        ident: str = request.path_params["version"]
        version = await self._catalog.get_version(ident)
        if version is None:
            raise not_found("Pipeline version", ident)
        await self._pipelines.find(request, verb, version.pipeline_id)
        return version

    # Runs

    async def create_run(self, request: Request) -> Response:
        """POST /runs."""
        given = await body(request, v1.RunV1Body)
        experiment = await self._experiment(request, given.resource_references, "runs")
        if not given.name:
            raise invalid("A run needs a name.")
        version, spec, values = await self._source(request, given.pipeline_spec, given.resource_references, "A run")
        run = Run(
            id=str(uuid.uuid4()),
            namespace=experiment.namespace,
            experiment_id=experiment.id,
            display_name=check_length("A run's name", given.name, MAX_TEXT),
            description=given.description or "",
            service_account=given.service_account or DEFAULT_SERVICE_ACCOUNT,
            pipeline_id=version.pipeline_id if version else "",
            pipeline_version_id=version.id if version else "",
            pipeline_name=check(spec, values),
            parameters=values,
            pipeline_root=_root(given.pipeline_spec),
        )
        made = await self._services.runs.create_run(run, spec)
        return answer({"run": views.run(made, spec), "pipeline_runtime": {}})

    async def get_run(self, request: Request) -> Response:
        """GET /runs/{id}: the run and the workflow that Argo would show of it."""
        run = await self._runs.find(request, "get")
        loaded = await self._services.runs.show_run(run.id)
        if loaded is None:
            raise not_found("Run", run.id)
        metrics = await self._services.metrics.of_runs([run.id])
        return answer(views.run_detail(loaded, metrics.get(run.id, [])))

    async def list_runs(self, request: Request) -> Response:
        """GET /runs of an experiment or a namespace."""
        namespace, ident = await self._scope(request, "runs")
        found, specs = await self._catalog.list_runs(list_query(request), namespace, ident)
        metrics = await self._services.metrics.of_runs([run.id for run in found.items])
        items = [views.run(r, specs.get(r.spec_digest), metrics.get(r.id, [])) for r in found.items]
        return page("runs", items, found)

    async def report_metrics(self, request: Request) -> Response:
        """POST /runs/{id}:reportMetrics: each metric once."""
        run = await self._runs.find(request, "reportMetrics")
        given = await body(request, v1.MetricsBody)
        metrics, results = [], []
        for one in given.metrics or []:
            name, node, value = one.name or "", one.node_id or "", one.number_value
            kind = _FORMATS.get(str(one.format or ""))
            result = {"metric_name": name, "metric_node_id": node}
            if not name or not node or value is None or kind is None or max(len(name), len(node)) > MAX_NAME:
                result |= {"status": "INVALID_ARGUMENT", "message": "A metric needs a name, a node_id and a number."}
            else:
                metrics.append((result, Metric(name, node, value, kind)))
            results.append(result)
        recorded = await self._services.metrics.report(run.id, [metric for _, metric in metrics])
        for (result, _), new in zip(metrics, recorded, strict=True):
            result["status"] = "OK" if new else "DUPLICATE_REPORTING"
        return answer({"results": results})

    # Jobs

    async def create_job(self, request: Request) -> Response:
        """POST /jobs."""
        given = await body(request, v1.JobBody)
        experiment = await self._experiment(request, given.resource_references, "jobs")
        if not given.name:
            raise invalid("A job needs a name.")
        version, spec, values = await self._source(request, given.pipeline_spec, given.resource_references, "A job")
        check(spec, values)
        mode = _MODES.get(str(given.mode or ""))
        recurring = RecurringRun(
            id="",
            namespace=experiment.namespace,
            experiment_id=experiment.id,
            display_name=check_length("A job's name", given.name, MAX_TEXT),
            description=given.description or "",
            trigger=trigger(given.trigger),
            status=Status.ENABLED if (mode if mode is not None else given.enabled) else Status.DISABLED,
            service_account=given.service_account or DEFAULT_SERVICE_ACCOUNT,
            pipeline_id=version.pipeline_id if version else "",
            pipeline_version_id=version.id if version else "",
            parameters=values,
            pipeline_root=_root(given.pipeline_spec),
            max_concurrency=concurrency(given.max_concurrency),
            no_catchup=int(given.no_catchup or False),
        )
        return answer(views.job(await self._services.recurring.create(recurring, spec), spec))

    async def get_job(self, request: Request) -> Response:
        """GET /jobs/{id}."""
        return answer(views.job(*await self._recurring.find(request, "get")))

    async def list_jobs(self, request: Request) -> Response:
        """GET /jobs of an experiment or a namespace."""
        namespace, ident = await self._scope(request, "jobs")
        found, specs = await self._services.recurring.page(list_query(request), namespace, ident)
        return page("jobs", [views.job(r, specs.get(r.spec_digest or "")) for r in found.items], found)

    # What requests name

    async def _namespace(self, request: Request, verb: str, resource: str) -> str:
        params = request.query_params
        kind = v1.resource_type(params.get("resource_reference_key.type"))
        given = params.get("resource_reference_key.id") if kind == v1.NAMESPACE else None
        namespace = namespace_of(request, given)
        await self._access.require(requester(request), verb, resource, namespace)
        return namespace

    async def _scope(self, request: Request, resource: str) -> tuple[str, str]:
        """The namespace of a list and, where it is of one experiment, that."""
        params = request.query_params
        ident = params.get("resource_reference_key.id") or ""
        if v1.resource_type(params.get("resource_reference_key.type")) != v1.EXPERIMENT or not ident:
            return await self._namespace(request, "list", resource), ""
        experiment = await self._catalog.get_experiment(ident)
        if experiment is None:
            raise not_found("Experiment", ident)
        await self._access.require(requester(request), "list", resource, experiment.namespace)
        return experiment.namespace, ident

    async def _experiment(
        self, request: Request, references: Sequence[v1.ReferenceBody] | None, resource: str
    ) -> Experiment:
        ident = v1.referenced(references, v1.EXPERIMENT)
        if ident:
            return await self._launch.experiment(request, ident, "create", resource)
        namespace = namespace_of(request, v1.referenced(references, v1.NAMESPACE))
        await self._access.require(requester(request), "create", resource, namespace)
        return await self._catalog.default_experiment(namespace)

    async def _source(
        self,
        request: Request,
        given: v1.PipelineSpecBody | None,
        references: Sequence[v1.ReferenceBody] | None,
        what: str,
    ) -> tuple[PipelineVersion | None, Spec, dict[str, Any]]:
        """The version (None: a document of its own), the document, and the values of its parameters."""
        given = given or v1.PipelineSpecBody()
        version_id = v1.referenced(references, v1.PIPELINE_VERSION)
        pipeline_id = v1.referenced(references, v1.PIPELINE) or given.pipeline_id
        version: PipelineVersion | None = None
        if version_id or (pipeline_id and not (given.workflow_manifest or given.pipeline_manifest)):
            reference = VersionReferenceBody(pipeline_id=pipeline_id, pipeline_version_id=version_id)
            version, spec = await self._launch.source(request, RunBody(pipeline_version_reference=reference), what)
        else:
            manifest = given.workflow_manifest or given.pipeline_manifest
            if not manifest:
                raise invalid(f"{what} needs a pipeline version, a pipeline or a workflow_manifest.")
            spec, _ = read_package(manifest.encode())
        values: dict[str, Any] = {p.name: p.value or "" for p in given.parameters or [] if p.name}
        if given.runtime_config is not None:
            values |= given.runtime_config.parameters or {}
        return version, spec, _typed(spec, values)


def _typed(spec: Spec, values: dict[str, Any]) -> dict[str, Any]:
    """Values as text where the pipeline takes text, else what the text is as JSON."""
    definitions = parse(spec).root.input_definitions.parameters
    found: dict[str, Any] = {}
    for name, value in values.items():
        wanted = definitions.get(name)
        if isinstance(value, str) and wanted is not None and wanted.kind != "STRING":
            try:
                found[name] = _wire.decode_any(value)
            except _wire.DecodeError as error:
                raise invalid(f"Parameter {name!r} must be {wanted.kind}, got {value[:80]!r}.") from error
        else:
            found[name] = value
    return found


def _root(given: v1.PipelineSpecBody | None) -> str:
    config = given.runtime_config if given else None
    return (config.pipeline_root if config else None) or ""

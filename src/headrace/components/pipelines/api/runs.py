"""Runs: create, get, list, archive, unarchive, delete, terminate, retry."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from headrace.components.pipelines.api import views
from headrace.components.pipelines.api.launch import Launch, check
from headrace.components.pipelines.api.requests import (
    answer,
    body,
    check_length,
    list_query,
    namespace_of,
    page,
    requester,
)
from headrace.components.pipelines.policy.rerun import rerun
from headrace.components.pipelines.policy.view import build_view
from headrace.components.pipelines.store.models import DEFAULT_SERVICE_ACCOUNT, Run, RuntimeState, StorageState
from headrace.components.pipelines.types.ir import SpecError
from headrace.components.pipelines.types.rest import (
    Code,
    RpcError,
    RunBody,
    RuntimeConfigBody,
    invalid,
    no_plugins,
    not_found,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from headrace.components.pipelines.api.requests import Services

MAX_DISPLAY_NAME = 255


class Runs:
    """Handlers of `/runs`."""

    def __init__(self, services: Services) -> None:
        self._catalog, self._runs, self._access = services.catalog, services.runs, services.access
        self._launch = Launch(services)
        self._show = services.runs.rendered(views.task_detail)

    def routes(self) -> list[Route]:
        """In the order in which they match."""
        return [
            Route("/runs/{id}:archive", self.archive, methods=["POST"]),
            Route("/runs/{id}:unarchive", self.unarchive, methods=["POST"]),
            Route("/runs/{id}:terminate", self.terminate, methods=["POST"]),
            Route("/runs/{id}:retry", self.retry, methods=["POST"]),
            Route("/runs", self.list, methods=["GET"]),
            Route("/runs", self.create, methods=["POST"]),
            Route("/runs/{id}/tasks", self.tasks, methods=["GET"]),
            Route("/runs/{id}", self.get, methods=["GET"]),
            Route("/runs/{id}", self.delete, methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        """POST /runs."""
        given = await body(request, RunBody)
        experiment = await self._launch.experiment(request, given.experiment_id, "create", "runs")
        _refuse_what_is_not_there(given)
        if not given.display_name:
            raise invalid("A run needs a display_name.")
        version, spec = await self._launch.source(request, given)
        config = given.runtime_config or RuntimeConfigBody()
        values: dict[str, Any] = config.parameters or {}
        pipeline_name = check(spec, values)
        run = Run(
            id=str(uuid.uuid4()),
            namespace=experiment.namespace,
            experiment_id=experiment.id,
            display_name=check_length("A run's display_name", given.display_name, MAX_DISPLAY_NAME),
            description=given.description or "",
            service_account=given.service_account or DEFAULT_SERVICE_ACCOUNT,
            pipeline_id=version.pipeline_id if version else "",
            pipeline_version_id=version.id if version else "",
            pipeline_name=pipeline_name,
            parameters=values,
            pipeline_root=config.pipeline_root or "",
        )
        return answer(views.run(await self._runs.create_run(run, spec), spec))

    async def get(self, request: Request) -> Response:
        """GET /runs/{id}, with its tasks."""
        # In one question: a loop over a thousand steps leaves the database and this thread little time for others.
        ident: str = request.path_params["id"]
        found = await self._show(ident)
        if found is None:
            raise not_found("Run", ident)
        run, spec, tasks = found
        await self._access.require(requester(request), "get", "runs", run.namespace)
        return answer(views.run(run, spec, views.details(tasks)))

    async def tasks(self, request: Request) -> Response:
        """GET /runs/{id}/tasks: every task with its parameters and artifacts (upstream's native model)."""
        run = await self.find(request, "get")
        loaded = await self._runs.show_run(run.id)
        if loaded is None:
            raise not_found("Run", run.id)
        items = [views.native_task(task, loaded.artifacts) for task in loaded.tasks]
        return answer({"tasks": items, "total_size": len(items)})

    async def list(self, request: Request) -> Response:
        """GET /runs: of an experiment or a namespace, without their tasks."""
        ident = request.query_params.get("experiment_id", "")
        if ident:
            experiment = await self._catalog.get_experiment(ident)
            if experiment is None:
                raise not_found("Experiment", ident)
            namespace = experiment.namespace
        else:
            namespace = namespace_of(request)
        await self._access.require(requester(request), "list", "runs", namespace)
        found, specs = await self._catalog.list_runs(list_query(request), namespace, ident)
        return page("runs", [views.run(run, specs.get(run.spec_digest)) for run in found.items], found)

    async def archive(self, request: Request) -> Response:
        """POST /runs/{id}:archive."""
        run = await self.find(request, "archive")
        await self._catalog.set_run_storage(run.id, StorageState.ARCHIVED)
        return answer({})

    async def unarchive(self, request: Request) -> Response:
        """POST /runs/{id}:unarchive. A run of an archived experiment comes back with the experiment only."""
        run = await self.find(request, "unarchive")
        experiment = await self._catalog.get_experiment(run.experiment_id)
        if experiment is not None and experiment.storage_state is StorageState.ARCHIVED:
            raise RpcError(
                Code.FAILED_PRECONDITION,
                f"Experiment {experiment.display_name!r} is archived: restore it before its runs.",
            )
        await self._catalog.set_run_storage(run.id, StorageState.AVAILABLE)
        return answer({})

    async def delete(self, request: Request) -> Response:
        """DELETE /runs/{id}."""
        run = await self.find(request, "delete")
        await self._runs.delete_run(run.id)
        return answer({})

    async def terminate(self, request: Request) -> Response:
        """POST /runs/{id}:terminate."""
        run = await self.find(request, "terminate")
        if not await self._runs.request_termination(run.id):
            current = await self._runs.get_run(run.id)
            state = current.state if current else RuntimeState.CANCELED
            raise RpcError(Code.FAILED_PRECONDITION, f"Run {run.id} is {state} already: there is nothing to terminate.")
        return answer({})

    async def retry(self, request: Request) -> Response:
        """POST /runs/{id}:retry: go on from the steps that failed or were canceled."""
        run = await self.find(request, "retry")
        loaded = await self._runs.show_run(run.id)
        if loaded is None:
            raise not_found("Run", run.id)
        state = loaded.run.state
        if state in {RuntimeState.FAILED, RuntimeState.CANCELED}:
            try:
                view = build_view(loaded)
            except SpecError as error:
                raise invalid(f"The run's pipeline cannot run, also not again: {error}") from error
            if await self._runs.retry_run(loaded.run, rerun(view.spec, view.tasks)):
                return answer({})
            current = await self._runs.get_run(run.id)
            state = current.state if current else state
        raise RpcError(
            Code.FAILED_PRECONDITION, f"Run {run.id} is {state}: only a run that is FAILED or CANCELED can be retried."
        )

    async def find(self, request: Request, verb: str) -> Run:
        """What the path names; the requester may do this with it. Raises RpcError."""
        ident: str = request.path_params["id"]
        run = await self._runs.get_run(ident)
        if run is None:
            raise not_found("Run", ident)
        await self._access.require(requester(request), verb, "runs", run.namespace)
        return run


def _refuse_what_is_not_there(given: RunBody) -> None:
    if given.plugins_output:
        raise invalid("plugins_output is set by the server.")
    if given.plugins_input:
        raise no_plugins(given.plugins_input)
    if given.recurring_run_id:
        raise invalid("recurring_run_id is set by the server on the runs that a recurring run starts.")

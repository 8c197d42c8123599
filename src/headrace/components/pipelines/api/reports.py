"""What steps report about themselves: `POST /runs/{run}/tasks/{task}:report`, called by the launcher inside pods.

Only the service account that the run's pods have may report. Reporting again changes nothing, so a launcher that got
no answer may repeat itself.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from typing import TYPE_CHECKING

from starlette.routing import Route

from headrace.components.pipelines.api.access import is_service_account
from headrace.components.pipelines.api.requests import answer, body, requester
from headrace.components.pipelines.policy import metrics
from headrace.components.pipelines.store.models import NewArtifact, Report, RuntimeState
from headrace.components.pipelines.types.rest import (
    Code,
    ReportBody,
    ReportedError,
    RpcError,
    invalid,
    not_found,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from headrace.components.pipelines.api.requests import Services
    from headrace.components.pipelines.store.models import Run, TaskRow

log = logging.getLogger(__name__)

SECONDS = 10
_REPORTABLE = (RuntimeState.SUCCEEDED, RuntimeState.FAILED, RuntimeState.CANCELED)


class Reports:
    """The handler of reports."""

    def __init__(self, services: Services) -> None:
        self._runs, self._objects, self._metrics = services.runs, services.objects, services.metrics

    def routes(self) -> list[Route]:
        """One route."""
        return [Route("/runs/{run}/tasks/{task}:report", self.report, methods=["POST"])]

    async def report(self, request: Request) -> Response:
        """POST /runs/{run}/tasks/{task}:report; `recorded` is false when this attempt was recorded before."""
        run_id, task_id = request.path_params["run"], request.path_params["task"]
        user = requester(request)
        given = await body(request, ReportBody)
        namespace = ""

        def check(run: Run | None, task: TaskRow | None) -> None:
            nonlocal namespace
            if run is None:
                raise not_found("Run", run_id)
            namespace = run.namespace
            if not is_service_account(user, run.namespace, run.service_account):
                raise RpcError(
                    Code.PERMISSION_DENIED,
                    f"User {user.name!r} may not report on run {run_id}: only its pods may, as service account"
                    f" {run.service_account!r} of namespace {run.namespace!r}.",
                )
            if task is None or task.run_id != run_id:
                raise not_found("Task", task_id)

        recorded = await self._runs.record_report(run_id, task_id, _report(given), check)
        for artifact in given.outputs.artifacts if recorded else []:
            if artifact.output in metrics.OUTPUTS:
                await self._keep_metrics(namespace, run_id, task_id, artifact.uri)
        return answer({"recorded": recorded})

    async def _keep_metrics(self, namespace: str, run_id: str, task_id: str, uri: str) -> None:
        """Of a component of kfp 1, which writes its metrics into a file. Without them the step is as good as with."""
        try:
            async with asyncio.timeout(SECONDS):
                async with self._objects.open(
                    namespace, uri, {"range": f"bytes=0-{metrics.MAX_BYTES - 1}"}
                ) as response:
                    raw = await response.read() if response.status == 206 else b""
                await self._metrics.report(run_id, metrics.parse(raw, task_id))
        except (RpcError, TimeoutError) as error:
            log.warning("the metrics of run %s in %s could not be read: %s", run_id, uri, error)


def _report(given: ReportBody) -> Report:
    if given.state not in _REPORTABLE:
        raise invalid(f"A task reports one of {', '.join(_REPORTABLE)}, not {given.state!r}.")
    error = given.error if isinstance(given.error, ReportedError) else ReportedError(message=given.error or "")
    return Report(
        attempt=given.attempt,
        state=RuntimeState(given.state),
        parameters=given.outputs.parameters,
        artifacts=[
            NewArtifact(a.output, a.name or a.output, a.type, a.uri, a.metadata, a.schema_version)
            for a in given.outputs.artifacts
        ],
        exit_code=given.exit_code,
        error_code=error.code,
        error_message=error.message,
        used={"cpu_seconds": given.used.cpu_seconds, "peak_bytes": given.used.peak_bytes} if given.used else {},
        started_at=None if given.started_at is None else dt.datetime.fromtimestamp(given.started_at, dt.UTC),
    )

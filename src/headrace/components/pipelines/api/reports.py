"""What steps report about themselves: `POST /runs/{run}/tasks/{task}:report`, called by the launcher inside pods.

Only the service account that the run's pods have may report. Reporting again changes nothing, so a launcher that got
no answer may repeat itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from headrace.components.pipelines.api.access import is_service_account
from headrace.components.pipelines.api.requests import answer, body, requester
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

_REPORTABLE = (RuntimeState.SUCCEEDED, RuntimeState.FAILED, RuntimeState.CANCELED)


class Reports:
    """The handler of reports."""

    def __init__(self, services: Services) -> None:
        self._runs = services.runs

    def routes(self) -> list[Route]:
        """One route."""
        return [Route("/runs/{run}/tasks/{task}:report", self.report, methods=["POST"])]

    async def report(self, request: Request) -> Response:
        """POST /runs/{run}/tasks/{task}:report; `recorded` is false when this attempt was recorded before."""
        run_id, task_id = request.path_params["run"], request.path_params["task"]
        user = requester(request)
        given = await body(request, ReportBody)

        def check(run: Run | None, task: TaskRow | None) -> None:
            if run is None:
                raise not_found("Run", run_id)
            if not is_service_account(user, run.namespace, run.service_account):
                raise RpcError(
                    Code.PERMISSION_DENIED,
                    f"User {user.name!r} may not report on run {run_id}: only its pods may, as service account"
                    f" {run.service_account!r} of namespace {run.namespace!r}.",
                )
            if task is None or task.run_id != run_id:
                raise not_found("Task", task_id)

        return answer({"recorded": await self._runs.record_report(run_id, task_id, _report(given), check)})


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
    )

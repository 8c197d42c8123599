"""The ASGI applications: routes of v2beta1 and v1beta1, and one place where errors become `google.rpc.Status`.

The gateway mounts them below `/apis` and `/pipeline/apis`, authenticates, and puts the user into the scope. What this
release does not have is refused by name (UNIMPLEMENTED), never ignored.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from headrace.api import _wire
from headrace.api.errors import StatusError
from headrace.components.pipelines.api.artifacts import Artifacts
from headrace.components.pipelines.api.buckets import Buckets
from headrace.components.pipelines.api.experiments import Experiments
from headrace.components.pipelines.api.native import Native
from headrace.components.pipelines.api.pipelines import Pipelines
from headrace.components.pipelines.api.questions import Questions
from headrace.components.pipelines.api.recurring import Recurring
from headrace.components.pipelines.api.reports import Reports
from headrace.components.pipelines.api.requests import answer, requester
from headrace.components.pipelines.api.runs import Runs
from headrace.components.pipelines.api.v1 import V1
from headrace.components.pipelines.store.catalog import InUse, Taken
from headrace.components.pipelines.store.listing import ListError
from headrace.components.pipelines.types.rest import Code, RpcError, unimplemented

if TYPE_CHECKING:
    from starlette.requests import Request

    from headrace.components.pipelines.api.requests import Services

log = logging.getLogger(__name__)

_ALL = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_REFUSED = {
    "/filters": "The filter service is",
    "/scheduledworkflows": "Reports of scheduled workflows are",
    "/workflows": "Reports of Argo workflows are",
}
_CODES = {
    "BadRequest": Code.INVALID_ARGUMENT,
    "Invalid": Code.INVALID_ARGUMENT,
    "Unauthorized": Code.UNAUTHENTICATED,
    "Forbidden": Code.PERMISSION_DENIED,
    "NotFound": Code.NOT_FOUND,
    "AlreadyExists": Code.ALREADY_EXISTS,
    "Conflict": Code.ABORTED,
    "TooManyRequests": Code.RESOURCE_EXHAUSTED,
    "ServiceUnavailable": Code.UNAVAILABLE,
    "Timeout": Code.DEADLINE_EXCEEDED,
}


def build_apps(services: Services) -> tuple[Starlette, Starlette]:
    """The applications of v2beta1 and of v1beta1, with paths relative to where they are mounted."""
    experiments, pipelines = Experiments(services), Pipelines(services)
    artifacts, runs, recurring = Artifacts(services), Runs(services), Recurring(services)
    questions = Questions(services)
    shared = [Route("/healthz", _healthz, methods=["GET"]), *questions.routes()]
    old = V1(services, experiments, pipelines, runs, recurring)
    v2 = [
        *shared,
        *experiments.routes(),
        *pipelines.routes(),
        *Reports(services).routes(),
        *Native(services, artifacts).routes(),
        *artifacts.routes(),
        *Buckets(services).routes(),
        *runs.routes(),
        *recurring.routes(),
        *(Route(path, _refuse(what), methods=_ALL) for path, what in _REFUSED.items()),
    ]
    return _application(v2), _application([*shared, *artifacts.of_runs(), *old.routes()])


def _application(routes: list[Route]) -> Starlette:
    handlers: dict[Any, Any] = {
        RpcError: _on_rpc_error,
        StatusError: _on_status_error,
        ListError: _on(Code.INVALID_ARGUMENT),
        Taken: _on(Code.ALREADY_EXISTS),
        InUse: _on(Code.FAILED_PRECONDITION),
        HTTPException: _on_http_exception,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    # Starlette would raise again what a handler for Exception has answered.
    app.add_middleware(_Internal)
    app.router.redirect_slashes = False
    return app


async def _healthz(request: Request) -> Response:
    """GET /healthz, for whoever is authenticated."""
    requester(request)
    return answer({"multi_user": True, "pipeline_store": "database"})


def _refuse(what: str) -> Any:
    async def handler(_request: Request) -> Response:
        raise unimplemented(what)

    return handler


def _error(error: RpcError) -> Response:
    return Response(_wire.encode(error.to_body()), error.code.http, media_type="application/json")


async def _on_rpc_error(_request: Request, error: RpcError) -> Response:
    return _error(error)


async def _on_status_error(_request: Request, error: StatusError) -> Response:
    return _error(RpcError(_CODES.get(error.reason, Code.INTERNAL), error.message))


def _on(code: Code) -> Any:
    async def handler(_request: Request, error: Exception) -> Response:
        return _error(RpcError(code, str(error)))

    return handler


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    path = request.url.path
    if error.status_code == 405:
        return _error(RpcError(Code.UNIMPLEMENTED, f"{request.method} {path} is not an operation of this API."))
    if error.status_code == 404:
        return _error(RpcError(Code.NOT_FOUND, f"{path} is not a path of this API."))
    return _error(RpcError(Code.INVALID_ARGUMENT, error.detail))


class _Internal:
    """What no handler expected: logged in full, told in one sentence."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        started = False

        async def watch(message: Any) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception:
            if started or scope["type"] != "http":
                raise
            log.exception("%s %s failed", scope.get("method"), scope.get("path"))
            failure = RpcError(Code.INTERNAL, "An internal error, described in the platform's log.")
            await _error(failure)(scope, receive, send)

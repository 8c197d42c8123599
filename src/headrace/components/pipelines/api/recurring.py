"""Recurring runs: create, get, list, enable, disable, delete."""

from __future__ import annotations

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
from headrace.components.pipelines.policy.schedule import MAX_CONCURRENCY, parse_trigger
from headrace.components.pipelines.store.models import DEFAULT_SERVICE_ACCOUNT, RecurringRun, Status
from headrace.components.pipelines.store.rows import rfc3339
from headrace.components.pipelines.types.rest import (
    RecurringRunBody,
    RuntimeConfigBody,
    TriggerBody,
    invalid,
    no_plugins,
    not_found,
)

if TYPE_CHECKING:
    import datetime as dt

    from starlette.requests import Request
    from starlette.responses import Response

    from headrace.components.pipelines.api.requests import Services
    from headrace.components.pipelines.store.models import Spec

MAX_DISPLAY_NAME = 255
_ENABLED = {"ENABLE": True, "1": True, "DISABLE": False, "2": False, "MODE_UNSPECIFIED": False, "0": False}


class Recurring:
    """Handlers of `/recurringruns`."""

    def __init__(self, services: Services) -> None:
        self._catalog, self._recurring, self._access = services.catalog, services.recurring, services.access
        self._launch = Launch(services)

    def routes(self) -> list[Route]:
        """In the order in which they match."""
        return [
            Route("/recurringruns/{id}:enable", self.enable, methods=["POST"]),
            Route("/recurringruns/{id}:disable", self.disable, methods=["POST"]),
            Route("/recurringruns", self.list, methods=["GET"]),
            Route("/recurringruns", self.create, methods=["POST"]),
            Route("/recurringruns/{id}", self.get, methods=["GET"]),
            Route("/recurringruns/{id}", self.delete, methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        """POST /recurringruns."""
        given = await body(request, RecurringRunBody)
        experiment = await self._launch.experiment(request, given.experiment_id, "create", "jobs")
        if given.plugins_input:
            raise no_plugins(given.plugins_input)
        if not given.display_name:
            raise invalid("A recurring run needs a display_name.")
        version, spec = await self._launch.source(request, given, "A recurring run")
        config = given.runtime_config or RuntimeConfigBody()
        values: dict[str, Any] = config.parameters or {}
        check(spec, values)
        reference = given.pipeline_version_reference
        latest = version is not None and reference is not None and not reference.pipeline_version_id
        recurring = RecurringRun(
            id="",
            namespace=experiment.namespace,
            experiment_id=experiment.id,
            display_name=check_length("A recurring run's display_name", given.display_name, MAX_DISPLAY_NAME),
            description=given.description or "",
            trigger=trigger(given.trigger),
            status=Status.ENABLED if _enabled(given.mode) else Status.DISABLED,
            service_account=given.service_account or DEFAULT_SERVICE_ACCOUNT,
            pipeline_id=version.pipeline_id if version else "",
            pipeline_version_id=version.id if version and not latest else "",
            parameters=values,
            pipeline_root=config.pipeline_root or "",
            max_concurrency=concurrency(given.max_concurrency),
            no_catchup=int(given.no_catchup or False),
        )
        made = await self._recurring.create(recurring, None if latest else spec)
        return answer(views.recurring_run(made, spec))

    async def get(self, request: Request) -> Response:
        """GET /recurringruns/{id}."""
        return answer(views.recurring_run(*await self.find(request, "get")))

    async def list(self, request: Request) -> Response:
        """GET /recurringruns: of an experiment or a namespace."""
        ident = request.query_params.get("experiment_id", "")
        if ident:
            experiment = await self._catalog.get_experiment(ident)
            if experiment is None:
                raise not_found("Experiment", ident)
            namespace = experiment.namespace
        else:
            namespace = namespace_of(request)
        await self._access.require(requester(request), "list", "jobs", namespace)
        found, specs = await self._recurring.page(list_query(request), namespace, ident)
        items = [views.recurring_run(r, specs.get(r.spec_digest or "")) for r in found.items]
        return page("recurringRuns", items, found)

    async def enable(self, request: Request) -> Response:
        """POST /recurringruns/{id}:enable."""
        recurring, _ = await self.find(request, "enable")
        await self._recurring.set_status(recurring.id, Status.ENABLED)
        return answer({})

    async def disable(self, request: Request) -> Response:
        """POST /recurringruns/{id}:disable."""
        recurring, _ = await self.find(request, "disable")
        await self._recurring.set_status(recurring.id, Status.DISABLED)
        return answer({})

    async def delete(self, request: Request) -> Response:
        """DELETE /recurringruns/{id}; its runs stay."""
        recurring, _ = await self.find(request, "delete")
        await self._recurring.delete(recurring.id)
        return answer({})

    async def find(self, request: Request, verb: str) -> tuple[RecurringRun, Spec | None]:
        """What the path names; the requester may do this with it. Raises RpcError."""
        ident: str = request.path_params["id"]
        found = await self._recurring.get(ident)
        if found is None:
            raise not_found("Recurring run", ident)
        await self._access.require(requester(request), verb, "jobs", found[0].namespace)
        return found


def trigger(given: TriggerBody | None) -> dict[str, Any]:
    """The trigger as it is recorded and shown."""
    cron, periodic = (given.cron_schedule, given.periodic_schedule) if given else (None, None)
    if (cron is None) == (periodic is None):
        raise invalid("A recurring run needs a trigger with a cron_schedule or a periodic_schedule.")
    if cron is not None:
        found = {"cron_schedule": {"cron": cron.cron or ""} | _bounds(cron.start_time, cron.end_time)}
    elif periodic is not None:
        interval = {"interval_second": str(periodic.interval_second or 0)}
        found = {"periodic_schedule": interval | _bounds(periodic.start_time, periodic.end_time)}
    try:
        parsed = parse_trigger(found)
    except ValueError as error:
        raise invalid(f"The trigger is not a schedule: {error}.") from error
    if parsed.start is not None and parsed.end is not None and parsed.end <= parsed.start:
        raise invalid("The trigger's end_time must be after its start_time.")
    return found


def _bounds(start: dt.datetime | None, end: dt.datetime | None) -> dict[str, str]:
    return {name: rfc3339(at) for name, at in (("start_time", start), ("end_time", end)) if at is not None}


def _enabled(mode: int | str | None) -> bool:
    found = _ENABLED.get(str(mode if mode is not None else 0))
    if found is None:
        raise invalid(f"mode must be ENABLE or DISABLE, got {mode!r}.")
    return found


def concurrency(given: int | str | None) -> int:
    """How many runs may go on at once. Raises RpcError."""
    try:
        value = int(given or 0)
    except ValueError:
        value = 0
    if not 1 <= value <= MAX_CONCURRENCY:
        raise invalid(f"max_concurrency must be at least 1 and at most {MAX_CONCURRENCY}, got {given!r}.")
    return value

"""Experiments: create, get, list, archive, unarchive, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from headrace.components.pipelines.api import views
from headrace.components.pipelines.api.requests import (
    answer,
    body,
    check_length,
    list_query,
    namespace_of,
    page,
    requester,
)
from headrace.components.pipelines.store.catalog import DEFAULT_EXPERIMENT
from headrace.components.pipelines.types.rest import Code, ExperimentBody, RpcError, invalid, not_found

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from headrace.components.pipelines.api.requests import Services
    from headrace.components.pipelines.store.models import Experiment


class Experiments:
    """Handlers of `/experiments`."""

    def __init__(self, services: Services) -> None:
        self._catalog, self._access = services.catalog, services.access

    def routes(self) -> list[Route]:
        """In the order in which they match."""
        return [
            Route("/experiments/{id}:archive", self.archive, methods=["POST"]),
            Route("/experiments/{id}:unarchive", self.unarchive, methods=["POST"]),
            Route("/experiments", self.list, methods=["GET"]),
            Route("/experiments", self.create, methods=["POST"]),
            Route("/experiments/{id}", self.get, methods=["GET"]),
            Route("/experiments/{id}", self.delete, methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        """POST /experiments."""
        given = await body(request, ExperimentBody)
        namespace = namespace_of(request, given.namespace)
        await self._access.require(requester(request), "create", "experiments", namespace)
        if not given.display_name:
            raise invalid("An experiment needs a display_name.")
        name = check_length("An experiment's display_name", given.display_name, 128)
        created = await self._catalog.create_experiment(namespace, name, given.description or "")
        return answer(views.experiment(created))

    async def get(self, request: Request) -> Response:
        """GET /experiments/{id}."""
        return answer(views.experiment(await self.find(request, "get")))

    async def list(self, request: Request) -> Response:
        """GET /experiments."""
        namespace = namespace_of(request)
        await self._access.require(requester(request), "list", "experiments", namespace)
        found = await self._catalog.list_experiments(list_query(request), namespace)
        return page("experiments", [views.experiment(e) for e in found.items], found)

    async def archive(self, request: Request) -> Response:
        """POST /experiments/{id}:archive."""
        experiment = await self.find(request, "archive")
        await self._catalog.archive_experiment(experiment.id)
        return answer({})

    async def unarchive(self, request: Request) -> Response:
        """POST /experiments/{id}:unarchive."""
        experiment = await self.find(request, "unarchive")
        await self._catalog.unarchive_experiment(experiment.id)
        return answer({})

    async def delete(self, request: Request) -> Response:
        """DELETE /experiments/{id}."""
        experiment = await self.find(request, "delete")
        if experiment.display_name == DEFAULT_EXPERIMENT:
            raise RpcError(Code.ABORTED, "The default experiment cannot be deleted; archive it instead.")
        await self._catalog.delete_experiment(experiment.id)
        return answer({})

    async def find(self, request: Request, verb: str) -> Experiment:
        """What the path names; the requester may do this with it. Raises RpcError."""
        ident: str = request.path_params["id"]
        experiment = await self._catalog.get_experiment(ident)
        if experiment is None:
            raise not_found("Experiment", ident)
        await self._access.require(
            requester(request), verb, "experiments", experiment.namespace, experiment.display_name
        )
        return experiment

"""Artifacts: the records (upstream's native model), not the bytes, which lie in the object store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from headrace.components.pipelines.api import views
from headrace.components.pipelines.api.requests import answer, list_query, namespace_of, page, requester
from headrace.components.pipelines.types.rest import not_found, unimplemented

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from headrace.components.pipelines.api.requests import Services


class Artifacts:
    """Handlers of `/artifacts`; whoever may see runs may see what they made."""

    def __init__(self, services: Services) -> None:
        self._catalog, self._runs, self._access = services.catalog, services.runs, services.access

    def routes(self) -> list[Route]:
        """In the order in which they match."""
        return [
            Route("/artifacts", self.list, methods=["GET"]),
            Route("/artifacts/{id}", self.get, methods=["GET"]),
            Route("/runs/{run}/nodes/{node}/artifacts/{artifact}:read", self.refuse_read, methods=["GET"]),
        ]

    async def list(self, request: Request) -> Response:
        """GET /artifacts?namespace=&run_id=."""
        namespace = namespace_of(request)
        await self._access.require(requester(request), "list", "runs", namespace)
        run_id = request.query_params.get("run_id", "")
        found = await self._catalog.list_artifacts(list_query(request), namespace, run_id)
        return page("artifacts", [views.artifact(a) for a in found.items], found)

    async def get(self, request: Request) -> Response:
        """GET /artifacts/{id}."""
        ident: str = request.path_params["id"]
        found = (await self._runs.artifacts([ident])).get(ident)
        if found is None:
            raise not_found("Artifact", ident)
        await self._access.require(requester(request), "get", "runs", found.namespace)
        return answer(views.artifact(found))

    async def refuse_read(self, _request: Request) -> Response:
        """GET /runs/{run}/nodes/{node}/artifacts/{artifact}:read."""
        raise unimplemented("Reading an artifact's bytes here is (its record has the uri in the object store)")

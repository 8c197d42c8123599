"""`/auth` and `/visualizations`: what upstream's own frontend asks the API server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from headrace.components.pipelines.api.requests import answer, requester
from headrace.components.pipelines.types.rest import invalid, unimplemented

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from headrace.components.pipelines.api.requests import Services

_RESOURCES = {"VIEWERS": ("kubeflow.org", "viewers"), "1": ("kubeflow.org", "viewers")}
_VERBS = {"CREATE": "create", "1": "create", "GET": "get", "2": "get", "DELETE": "delete", "3": "delete"}


class Questions:
    """Handlers of what both dialects have."""

    def __init__(self, services: Services) -> None:
        self._access = services.access

    def routes(self) -> list[Route]:
        """In the order in which they match."""
        return [
            Route("/auth", self.authorize, methods=["GET"]),
            Route("/visualizations/{namespace}", self.visualize, methods=["POST"]),
        ]

    async def authorize(self, request: Request) -> Response:
        """GET /auth?namespace=&resources=VIEWERS&verb=: empty when the requester may, else PERMISSION_DENIED."""
        params, user = request.query_params, requester(request)
        namespace = params.get("namespace", "")
        resource, verb = _RESOURCES.get(params.get("resources", "")), _VERBS.get(params.get("verb", ""))
        if not namespace:
            raise invalid("The authorization query needs a namespace.")
        if resource is None:
            raise invalid("resources must be VIEWERS.")
        if verb is None:
            raise invalid("verb must be CREATE, GET or DELETE.")
        await self._access.require(user, verb, resource[1], namespace, group=resource[0])
        return answer({})

    async def visualize(self, request: Request) -> Response:
        """POST /visualizations/{namespace}: upstream runs code of the requester for it, in a service of its own."""
        namespace: str = request.path_params["namespace"]
        await self._access.require(requester(request), "create", "visualizations", namespace)
        raise unimplemented("Visualizations made by the server (artifacts are shown by /artifacts/{id}:preview) are")

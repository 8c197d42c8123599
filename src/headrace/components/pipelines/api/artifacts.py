"""Artifacts: the records (upstream's native model), and their bytes, which lie in the object store."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.responses import StreamingResponse
from starlette.routing import Route

from headrace.components.pipelines.api import views
from headrace.components.pipelines.api.objects import CHUNK, PASSED, base64_json
from headrace.components.pipelines.api.requests import answer, list_query, namespace_of, page, requester
from headrace.components.pipelines.types.rest import invalid, not_found

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

    from headrace.components.pipelines.api.requests import Services
    from headrace.components.pipelines.store.models import Artifact, RunRow, TaskRow

_VIEWS = {"": False, "0": False, "ARTIFACT_VIEW_UNSPECIFIED": False, "BASIC": False, "DOWNLOAD": True}
_SAFE = {
    # A browser must not run what a pipeline wrote as if the platform had written it.
    "content-security-policy": "sandbox; default-src 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache, private",
}
_KEPT = ("content-length", "content-range", "content-type", "etag", "last-modified", "accept-ranges")


class Artifacts:
    """Handlers of `/artifacts`; whoever may see runs may see what they made, `readArtifact` is for the bytes."""

    def __init__(self, services: Services) -> None:
        self._catalog, self._runs, self._access = services.catalog, services.runs, services.access
        self._objects = services.objects

    def routes(self) -> list[Route]:
        """In the order in which they match."""
        return [
            Route("/artifacts", self.list, methods=["GET"]),
            Route("/artifacts/{id}:download", self.download, methods=["GET"]),
            Route("/artifacts/{id}", self.get, methods=["GET"]),
            *self.of_runs(),
        ]

    def of_runs(self) -> list[Route]:
        """What both dialects have."""
        return [Route("/runs/{run}/nodes/{node}/artifacts/{artifact}:read", self.read, methods=["GET"])]

    async def list(self, request: Request) -> Response:
        """GET /artifacts?namespace=&run_id=."""
        namespace = namespace_of(request)
        await self._access.require(requester(request), "list", "runs", namespace)
        run_id = request.query_params.get("run_id", "")
        found = await self._catalog.list_artifacts(list_query(request), namespace, run_id)
        return page("artifacts", [views.artifact(a) for a in found.items], found)

    async def get(self, request: Request) -> Response:
        """GET /artifacts/{id}; with view=DOWNLOAD also `download_url`, a link that reads the bytes for a while."""
        view = request.query_params.get("view", "")
        if view not in _VIEWS:
            raise invalid(f"view must be BASIC or DOWNLOAD, got {view!r}.")
        found = await self._find(request, "readArtifact" if _VIEWS[view] else "get")
        shown = views.artifact(found)
        if _VIEWS[view]:
            shown["download_url"] = await self._objects.link(found.namespace, found.uri)
        return answer(shown)

    async def download(self, request: Request) -> Response:
        """GET /artifacts/{id}:download: the bytes, also in ranges."""
        found = await self._find(request, "readArtifact")
        headers = {name: request.headers[name] for name in PASSED if name in request.headers}
        stack = contextlib.AsyncExitStack()
        response = await stack.enter_async_context(self._objects.open(found.namespace, found.uri, headers))

        async def body() -> AsyncIterator[bytes]:
            async with stack:
                async for chunk in response.content.iter_chunked(CHUNK):
                    yield chunk

        kept = {name: response.headers[name] for name in _KEPT if name in response.headers}
        filename = quote(found.uri.rstrip("/").rpartition("/")[2] or found.name)
        kept["content-disposition"] = f"attachment; filename*=UTF-8''{filename}"
        return StreamingResponse(body(), response.status, kept | _SAFE)

    async def read(self, request: Request) -> Response:
        """GET /runs/{run}/nodes/{node}/artifacts/{artifact}:read: `{"data": base64}`.

        A node is a task by its id, the name of one of its pods, its place in the run, or its name.
        """
        run_id, node, name = (request.path_params[part] for part in ("run", "node", "artifact"))
        run = await self._runs.get_run(run_id)
        if run is None:
            raise not_found("Run", run_id)
        await self._access.require(requester(request), "readArtifact", "runs", run.namespace)
        loaded = await self._runs.load_run(run_id)
        if loaded is None:
            raise not_found("Run", run_id)
        found = _artifact_of(loaded, _task_of(loaded, node), name)
        stack = contextlib.AsyncExitStack()
        response = await stack.enter_async_context(self._objects.open(found.namespace, found.uri, {}))

        async def body() -> AsyncIterator[bytes]:
            async with stack:
                async for chunk in base64_json(response):
                    yield chunk

        return StreamingResponse(body(), 200, _SAFE, media_type="application/json")

    async def _find(self, request: Request, verb: str) -> Artifact:
        ident: str = request.path_params["id"]
        found = (await self._runs.artifacts([ident])).get(ident)
        if found is None:
            raise not_found("Artifact", ident)
        await self._access.require(requester(request), verb, "runs", found.namespace)
        return found


def _task_of(loaded: RunRow, node: str) -> TaskRow:
    exact = [
        t
        for t in loaded.tasks
        if node in {t.id, t.path, t.path.removeprefix("root/"), t.pod_name, *t.detail.get("failed_pods", [])}
    ]
    found = exact or [t for t in loaded.tasks if t.name == node]
    if not found:
        raise not_found("Node", f"{node!r} of run {loaded.run.id}")
    if len(found) > 1:
        places = ", ".join(t.path.removeprefix("root/") for t in found[:5])
        raise invalid(f"The run has {len(found)} tasks named {node!r} ({places} ...): name one by its id.")
    return found[0]


def _artifact_of(loaded: RunRow, task: TaskRow, name: str) -> Artifact:
    """By the name of the output, else of the input, else by its id."""
    ids = task.outputs.artifacts.get(name) or task.inputs.artifacts.get(name)
    if ids is None:
        ids = [
            i for side in (task.outputs, task.inputs) for found in side.artifacts.values() for i in found if i == name
        ]
    if not ids or ids[0] not in loaded.artifacts:
        raise not_found("Artifact", f"{name!r} of task {task.display_name or task.name!r}")
    if len(ids) > 1:
        raise invalid(f"{name!r} is a list of {len(ids)} artifacts: name one by its artifact_id.")
    return loaded.artifacts[ids[0]]

"""Artifacts: the records (upstream's native model), and their bytes, which lie in the object store."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.responses import StreamingResponse
from starlette.routing import Route

from headrace.api.errors import StatusError
from headrace.components.pipelines.api import folders, views
from headrace.components.pipelines.api.objects import CHUNK, PASSED, base64_json
from headrace.components.pipelines.api.requests import answer, list_query, namespace_of, page, requester
from headrace.components.pipelines.policy import preview
from headrace.components.pipelines.policy.podstatus import MAIN
from headrace.components.pipelines.store.models import Artifact
from headrace.components.pipelines.types.rest import Code, RpcError, invalid, not_found

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

    from headrace.components.pipelines.api.requests import Services
    from headrace.components.pipelines.store.models import RunRow, TaskRow

_VIEWS = {"": False, "0": False, "ARTIFACT_VIEW_UNSPECIFIED": False, "BASIC": False, "DOWNLOAD": True}
_SAFE = {
    # A browser must not run what a pipeline wrote as if the platform had written it.
    "content-security-policy": "sandbox; default-src 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache, private",
}
_SHOWN = {
    # Its own scripts and styles, and what stands in it: no origin, so no session; no address that it could ask or tell.
    "content-security-policy": (
        "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; media-src data: blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache, private",
}
LOGS = "executor-logs"
_KEPT = ("content-length", "content-range", "content-type", "etag", "last-modified", "accept-ranges")


class Artifacts:
    """Handlers of `/artifacts`; whoever may see runs may see what they made, `readArtifact` is for the bytes."""

    def __init__(self, services: Services) -> None:
        self._catalog, self._runs, self._access = services.catalog, services.runs, services.access
        self._objects, self._logs = services.objects, services.logs

    def routes(self) -> list[Route]:
        """In the order in which they match."""
        return [
            Route("/artifacts", self.list, methods=["GET"]),
            Route("/artifacts/{id}:download", self.download, methods=["GET"]),
            Route("/artifacts/{id}:upload", self.upload, methods=["PUT"]),
            Route("/artifacts/{id}:preview", self.preview, methods=["GET"]),
            Route("/artifacts/{id}:show", self.show, methods=["GET"]),
            Route("/artifacts/{id}", self.get, methods=["GET"]),
            *self.of_runs(),
        ]

    def of_runs(self) -> list[Route]:
        """What both dialects have."""
        return [
            Route("/runs/{run}/nodes/{node}/artifacts/{artifact}:read", self.read, methods=["GET"]),
            Route("/runs/{run}/nodes/{node}/artifacts/{artifact}:stream", self.stream, methods=["GET"]),
        ]

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
        found = await self.find(request, "readArtifact" if _VIEWS[view] else "get")
        shown = views.artifact(found)
        if _VIEWS[view]:
            shown["download_url"] = await self._objects.link(found.namespace, found.uri)
        return answer(shown)

    async def download(self, request: Request) -> Response:
        """GET /artifacts/{id}:download: the bytes, also in ranges."""
        return await self._streamed(request, await self.find(request, "readArtifact"))

    async def stream(self, request: Request) -> Response:
        """GET /runs/{run}/nodes/{node}/artifacts/{artifact}:stream: the bytes, also in ranges."""
        found = await self._of_node(request)
        if not isinstance(found, Artifact):
            headers = {"content-disposition": f"attachment; filename={LOGS}.txt"} | _SAFE
            return StreamingResponse(found, 200, headers, media_type="text/plain; charset=utf-8")
        return await self._streamed(request, found)

    async def _streamed(self, request: Request, found: Artifact) -> Response:
        headers = {name: request.headers[name] for name in PASSED if name in request.headers}
        stack = contextlib.AsyncExitStack()
        try:
            response = await stack.enter_async_context(self._objects.open(found.namespace, found.uri, headers))
        except RpcError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            return await self._archived(found, error)

        async def body() -> AsyncIterator[bytes]:
            async with stack:
                async for chunk in response.content.iter_chunked(CHUNK):
                    yield chunk

        kept = {name: response.headers[name] for name in _KEPT if name in response.headers}
        filename = quote(_name(found))
        kept["content-disposition"] = f"attachment; filename*=UTF-8''{filename}"
        return StreamingResponse(body(), response.status, kept | _SAFE)

    async def _archived(self, found: Artifact, missing: RpcError) -> Response:
        """The files of a folder as one archive."""
        files = await folders.files_of(self._objects, found.namespace, found.uri, folders.MAX_FILES)
        if not files:
            raise missing
        if len(files) > folders.MAX_FILES:
            raise invalid(
                f"{found.uri} has more than {folders.MAX_FILES} files: read them one by one with an S3 client."
            )
        name = quote(f"{_name(found)}.tar")
        headers = {"content-disposition": f"attachment; filename*=UTF-8''{name}", "content-type": "application/x-tar"}
        return StreamingResponse(folders.archive(self._objects, found.namespace, files), 200, headers | _SAFE)

    async def upload(self, request: Request) -> Response:
        """PUT /artifacts/{id}:upload: the bytes of an artifact that no task made, as they come."""
        found = await self.find(request, "create")
        if found.task_id:
            raise RpcError(Code.FAILED_PRECONDITION, f"Artifact {found.id} was made by a step: it is not replaced.")
        if not found.uri.startswith(upload_folder(found)):
            raise RpcError(
                Code.FAILED_PRECONDITION, f"Artifact {found.id} lies at {found.uri}, which is not a place for uploads."
            )
        length = request.headers.get("content-length", "")
        if not length.isdigit():
            raise invalid("An upload needs a Content-Length.")
        await self._objects.write(found.namespace, found.uri, request.stream(), int(length))
        return answer(views.artifact(found))

    async def preview(self, request: Request) -> Response:
        """GET /artifacts/{id}:preview?bytes=: what a person wants to see of it, as data, within bounds."""
        found = await self.find(request, "readArtifact")
        try:
            limit = int(request.query_params.get("bytes") or preview.DEFAULT_BYTES)
        except ValueError as error:
            raise invalid("bytes must be a whole number.") from error
        if not 0 < limit <= preview.MAX_BYTES:
            raise invalid(f"bytes must be at least 1 and at most {preview.MAX_BYTES}.")
        shown = preview.of_record(found.type, found.metadata)
        if shown is None:
            try:
                head, size = await self._head(found, limit)
                shown = preview.of_bytes(_name(found), found.type, head, size)
            except RpcError as error:
                shown = await self._folder(found) if error.code is Code.NOT_FOUND else None
                if shown is None:
                    raise
        return answer({"artifact_id": found.id, "name": found.name, "type": found.type} | shown)

    async def show(self, request: Request) -> Response:
        """GET /artifacts/{id}:show: a picture or an HTML page, for a browser to show where it can do nothing else."""
        found = await self.find(request, "readArtifact")
        stack = contextlib.AsyncExitStack()
        response = await stack.enter_async_context(self._objects.open(found.namespace, found.uri, {}))
        chunks = response.content.iter_chunked(CHUNK)
        first, media = b"", ""
        try:
            first = await anext(chunks, b"")
            media = preview.shown_as(_name(found), found.type, first)
        finally:
            if not media:
                await stack.aclose()
        if not media:
            raise invalid("Only pictures and HTML pages are shown: read other artifacts with :preview or :download.")

        async def body() -> AsyncIterator[bytes]:
            async with stack:
                yield first
                async for chunk in chunks:
                    yield chunk

        kept = {name: response.headers[name] for name in ("content-length", "etag") if name in response.headers}
        return StreamingResponse(body(), 200, kept | _SHOWN | {"content-type": media})

    async def _folder(self, found: Artifact) -> dict[str, Any] | None:
        """What is in the folder that the artifact is; None when it is none."""
        files = await folders.files_of(self._objects, found.namespace, found.uri, folders.SHOWN)
        if not files:
            return None
        listed = [{"path": file.path, "uri": file.uri, "size": file.size} for file in files[: folders.SHOWN]]
        return {"kind": "folder", "files": listed, "truncated": len(files) > folders.SHOWN}

    async def _head(self, found: Artifact, limit: int) -> tuple[bytes, int]:
        """The first bytes, and how many there are."""
        headers = {"range": f"bytes=0-{limit - 1}"}
        async with self._objects.open(found.namespace, found.uri, headers) as response:
            if response.status == 416:
                return b"", 0  # an empty object has no first byte
            head = bytearray()
            async for chunk in response.content.iter_chunked(CHUNK):
                head += chunk
                if len(head) >= limit:
                    break
            total = response.headers.get("content-range", "").rpartition("/")[2]
            size = int(total) if total.isdigit() else int(response.headers.get("content-length") or len(head))
            return bytes(head[:limit]), size

    async def read(self, request: Request) -> Response:
        """GET /runs/{run}/nodes/{node}/artifacts/{artifact}:read: `{"data": base64}`.

        A node is a task by its id, the name of one of its pods, its place in the run, or its name.
        """
        found = await self._of_node(request)
        if not isinstance(found, Artifact):
            return StreamingResponse(base64_json(found), 200, _SAFE, media_type="application/json")
        stack = contextlib.AsyncExitStack()
        response = await stack.enter_async_context(self._objects.open(found.namespace, found.uri, {}))

        async def body() -> AsyncIterator[bytes]:
            async with stack:
                async for chunk in base64_json(response.content.iter_chunked(CHUNK)):
                    yield chunk

        return StreamingResponse(body(), 200, _SAFE, media_type="application/json")

    async def _of_node(self, request: Request) -> Artifact | AsyncIterator[bytes]:
        """The artifact; a step's log under the name that upstream's launcher gives the artifact that it makes of it."""
        run_id, node, name = (request.path_params[part] for part in ("run", "node", "artifact"))
        run = await self._runs.get_run(run_id)
        if run is None:
            raise not_found("Run", run_id)
        await self._access.require(requester(request), "readArtifact", "runs", run.namespace)
        loaded = await self._runs.show_run(run_id)
        if loaded is None:
            raise not_found("Run", run_id)
        task = _task_of(loaded, node)
        if _is_log(name) and name not in task.outputs.artifacts and task.pod_name:
            return await self._log(run.namespace, _pod_of(task, node, name))
        return _artifact_of(loaded, task, name)

    async def _log(self, namespace: str, pod: str) -> AsyncIterator[bytes]:
        """What a step said, also when its pod is gone. Raises RpcError when nothing of it is left."""
        kept = self._logs.kept(namespace, pod)
        chunks = self._logs.stream(namespace, pod, MAIN, uid=kept[0] if kept else "")
        try:
            first = await anext(chunks, b"")
        except StatusError as error:
            raise RpcError(Code.NOT_FOUND, f"The log of pod {pod} cannot be read: {error.message}") from error

        async def body() -> AsyncIterator[bytes]:
            yield first
            async for chunk in chunks:
                yield chunk

        return body()

    async def find(self, request: Request, verb: str) -> Artifact:
        """The artifact that the path names; the requester may do this. Raises RpcError."""
        ident: str = request.path_params["id"]
        found = (await self._runs.artifacts([ident])).get(ident)
        if found is None:
            raise not_found("Artifact", ident)
        await self._access.require(requester(request), verb, "runs", found.namespace)
        return found


def upload_folder(found: Artifact) -> str:
    """Where an artifact that is uploaded lies: nothing else does."""
    return f"minio://mlpipeline/artifacts/{found.namespace}/uploads/{found.id}/"


def _name(found: Artifact) -> str:
    """What the object is called: its suffix says what it is."""
    return found.uri.rstrip("/").rpartition("/")[2] or found.name


def _is_log(name: str) -> bool:
    """As upstream names it: with the number of the attempt, or without for the last one."""
    return name == LOGS or (name.startswith(f"{LOGS}-") and name[len(LOGS) + 1 :].isdecimal())


def _pod_of(task: TaskRow, node: str, name: str) -> str:
    """The pod whose log is meant: of the attempt that the name numbers, of the pod that the node names, or the last."""
    pods = [*task.detail.get("failed_pods", []), task.pod_name]
    if name != LOGS:
        index = int(name.rpartition("-")[2])
        if index >= len(pods):
            raise not_found("Artifact", f"{name!r} of task {task.display_name or task.name!r}")
        return str(pods[index])
    return node if node in pods else task.pod_name


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

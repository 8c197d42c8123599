"""Upstream's native model of runs as an API: tasks, artifacts, and the links between them.

Source: kubeflow/pipelines, proposals/12147-mlmd-removal/protos. Reading is for whoever may see runs. Tasks and their
artifacts are written by the engine and by what steps report, so those writes are refused; an artifact that no task
made may be recorded and uploaded.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.routing import Route

from headrace.api import _wire
from headrace.components.pipelines.api import views
from headrace.components.pipelines.api.artifacts import upload_folder
from headrace.components.pipelines.api.requests import (
    answer,
    body,
    check_length,
    namespace_of,
    requester,
)
from headrace.components.pipelines.store.lineage import LinkQuery
from headrace.components.pipelines.store.models import Artifact, Direction
from headrace.components.pipelines.types.rest import (
    Code,
    NewArtifactBody,
    RpcError,
    invalid,
    not_found,
    unimplemented,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from headrace.components.pipelines.api.artifacts import Artifacts
    from headrace.components.pipelines.api.requests import Services
    from headrace.components.pipelines.store.lineage import Link
    from headrace.components.pipelines.store.models import TaskRow

MAX_PAGE, DEFAULT_PAGE = 200, 20
MAX_IDS = 100
_KINDS = frozenset(
    {
        "Artifact",
        "Model",
        "Dataset",
        "HTML",
        "Markdown",
        "Metrics",
        "ClassificationMetrics",
        "SlicedClassificationMetrics",
    }
)
_ALIASES = {
    "Metric": "Metrics",
    "ClassificationMetric": "ClassificationMetrics",
    "SlicedClassificationMetric": "SlicedClassificationMetrics",
}
_DIRECTIONS = {"": "", "INPUT": "INPUT", "OUTPUT": "OUTPUT", "0": "INPUT", "1": "OUTPUT"}


class Native:
    """Handlers of `/tasks`, `/artifact_tasks`, and the writing side of `/artifacts`."""

    def __init__(self, services: Services, artifacts: Artifacts) -> None:
        self._runs, self._access, self._lineage = services.runs, services.access, services.lineage
        self._artifacts = artifacts

    def routes(self) -> list[Route]:
        """In the order in which they match; before those of `/artifacts`."""
        return [
            Route("/tasks:findCached", self.find_cached, methods=["GET"]),
            Route("/tasks", self.list_tasks, methods=["GET"]),
            Route("/tasks", self.refuse, methods=["POST"]),
            Route("/tasks/{task}", self.get_task, methods=["GET"]),
            Route("/tasks/{task}", self.refuse, methods=["PATCH"]),
            Route("/artifact_tasks", self.list_links, methods=["GET"]),
            Route("/artifact_tasks", self.refuse, methods=["POST"]),
            Route("/artifacts", self.create_artifact, methods=["POST"]),
            Route("/artifacts/{id}/lineage", self.lineage, methods=["GET"]),
        ]

    async def refuse(self, request: Request) -> Response:
        """POST /tasks, PATCH /tasks/{task} and POST /artifact_tasks: what drivers and launchers do upstream."""
        requester(request)
        raise unimplemented("Writing tasks and their links is what the engine does; as an operation it is")

    async def get_task(self, request: Request) -> Response:
        """GET /tasks/{task}."""
        task = await self._task(request)
        return answer(views.native_task(task, await self._artifacts_of([task])))

    async def list_tasks(self, request: Request) -> Response:
        """GET /tasks?run_id= or ?parent_id=."""
        params = request.query_params
        parent, run_id = params.get("parent_id", ""), params.get("run_id", "")
        if not parent and not run_id:
            raise invalid("Listing tasks needs the query parameter run_id or parent_id.")
        if parent:
            tasks = await self._lineage.children((await self._task(request, parent)).id)
            tasks = [task for task in tasks if not run_id or task.run_id == run_id]
            known = await self._artifacts_of(tasks)
        else:
            run = await self._runs.get_run(run_id)
            if run is None:
                raise not_found("Run", run_id)
            await self._access.require(requester(request), "get", "runs", run.namespace)
            loaded = await self._runs.show_run(run_id)
            tasks, known = (loaded.tasks, loaded.artifacts) if loaded else ([], {})
        return answer({"tasks": [views.native_task(task, known) for task in tasks], "total_size": len(tasks)})

    async def find_cached(self, request: Request) -> Response:
        """GET /tasks:findCached?pipeline_name=&cache_fingerprint=: the task whose outputs a step would get."""
        params, namespace = request.query_params, namespace_of(request)
        await self._access.require(requester(request), "get", "runs", namespace)
        name, key = params.get("pipeline_name", ""), params.get("cache_fingerprint", "")
        if not name or not key:
            raise invalid("Finding a cached task needs the query parameters pipeline_name and cache_fingerprint.")
        task = await self._runs.find_cached(namespace, name, key)
        if task is None:
            raise not_found("Cached task", f"with the fingerprint {key[:80]!r}")
        return answer({"task": views.native_task(task, await self._artifacts_of([task]))})

    async def list_links(self, request: Request) -> Response:
        """GET /artifact_tasks?artifact_ids=&task_ids=&run_ids=&type=."""
        params, namespace = request.query_params, namespace_of(request)
        await self._access.require(requester(request), "list", "runs", namespace)
        given = {name: _ids(request, name) for name in ("artifact_ids", "task_ids", "run_ids")}
        kind = _DIRECTIONS.get(params.get("type", ""))
        if kind is None:
            raise invalid(f"type must be INPUT or OUTPUT, got {params['type']!r}.")
        if params.get("filter") or params.get("sort_by"):
            raise invalid("Links have one order and are filtered by artifact_ids, task_ids, run_ids and type.")
        try:
            size = int(params.get("page_size") or DEFAULT_PAGE)
        except ValueError as error:
            raise invalid("page_size must be a whole number.") from error
        if size < 1:
            raise invalid("page_size must be positive.")
        size = min(size, MAX_PAGE)
        after = _position(params.get("page_token", ""))
        found = await self._lineage.links(LinkQuery(namespace, **given, direction=kind, after=after, limit=size + 1))
        shown: dict[str, Any] = {"artifact_tasks": [_link(link) for link in found[:size]]}
        if len(found) > size:
            last = found[size - 1]
            token = _wire.encode([last.artifact_id, last.task_id, last.direction.value, last.key])
            shown["next_page_token"] = base64.urlsafe_b64encode(token).decode()
        return answer({key: value for key, value in shown.items() if value})

    async def create_artifact(self, request: Request) -> Response:
        """POST /artifacts: record one that no task made. Without a URI it gets a place, to be uploaded to."""
        given = await body(request, NewArtifactBody)
        artifact = given.artifact
        namespace = namespace_of(request, artifact.namespace if artifact else None)
        await self._access.require(requester(request), "create", "runs", namespace)
        if artifact is None or not artifact.name:
            raise invalid("An artifact needs a name.")
        if given.run_id or given.task_id:
            raise unimplemented("Artifacts of a task are reported by its step; recording one for it is")
        kind = _ALIASES.get(artifact.type or "", artifact.type or "").removeprefix("system.")
        if kind not in _KINDS:
            raise invalid(f"An artifact's type is one of {', '.join(sorted(_KINDS))}, got {artifact.type!r}.")
        ident = str(uuid.uuid4())
        name = check_length("An artifact's name", artifact.name, 255)
        metadata = dict(artifact.metadata or {})
        metadata |= {name: artifact.number_value} if artifact.number_value is not None else {}
        metadata |= {"description": artifact.description} if artifact.description else {}
        made = Artifact(
            id=ident,
            namespace=namespace,
            type=f"system.{kind}",
            name=name,
            uri=artifact.uri or "",
            metadata=metadata,
            schema_version="0.0.1",
        )
        if not made.uri:
            made.uri = upload_folder(made) + quote(name, safe=" -_.~")
        return answer(views.artifact(await self._lineage.add(made)))

    async def lineage(self, request: Request) -> Response:
        """GET /artifacts/{id}/lineage: which task made it and from what, and which tasks used it."""
        artifact = await self._artifacts.find(request, "get")
        links = await self._lineage.links(LinkQuery(artifact.namespace, artifact_ids=[artifact.id]))
        made_from = await self._lineage.made_from(artifact.task_id) if artifact.task_id else []
        producer = [_user(link) for link in links if link.task_id == artifact.task_id and _out(link)]
        shown = {
            "artifact": views.artifact(artifact),
            "producer": producer[0] if producer else None,
            "made_from": [views.artifact(a) for a in made_from],
            "consumers": [_user(link) for link in links if not _out(link)],
            "reused_by": [_user(link) for link in links if _out(link) and link.task_id != artifact.task_id],
        }
        return answer({key: value for key, value in shown.items() if value})

    async def _task(self, request: Request, ident: str = "") -> TaskRow:
        ident = ident or request.path_params["task"]
        task = await self._runs.get_task(ident)
        run = await self._runs.get_run(task.run_id) if task else None
        if task is None or run is None:
            raise not_found("Task", ident)
        await self._access.require(requester(request), "get", "runs", run.namespace)
        return task

    async def _artifacts_of(self, tasks: list[TaskRow]) -> dict[str, Artifact]:
        ids = [
            ident
            for task in tasks
            for side in (task.inputs, task.outputs)
            for found in side.artifacts.values()
            for ident in found
        ]
        return await self._runs.artifacts(ids)


def _out(link: Link) -> bool:
    return link.direction is Direction.OUTPUT


def _user(link: Link) -> dict[str, str]:
    return {
        "run_id": link.run_id,
        "run_name": link.run_name,
        "task_id": link.task_id,
        "task_name": link.task_name,
        "key": link.key,
    }


def _link(link: Link) -> dict[str, str]:
    shown = {
        "id": link.id,
        "artifact_id": link.artifact_id,
        "run_id": link.run_id,
        "task_id": link.task_id,
        "type": link.direction.value,
        "producer_task_name": link.producer_task_name,
        "producer_key": link.producer_key,
        "artifact_key": link.key,
    }
    return {key: value for key, value in shown.items() if value}


def _ids(request: Request, name: str) -> list[str]:
    """A repeated parameter, or one with commas."""
    found = [part for value in request.query_params.getlist(name) for part in value.split(",") if part]
    if len(found) > MAX_IDS:
        raise invalid(f"{name} takes at most {MAX_IDS} ids.")
    return found


def _position(token: str) -> list[str]:
    if not token:
        return []
    try:
        found = _wire.decode(list[str], base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError) as error:
        raise RpcError(Code.INVALID_ARGUMENT, "page_token is not one that this server gave.") from error
    if len(found) != 4:
        raise invalid("page_token is not one that this server gave.")
    return found

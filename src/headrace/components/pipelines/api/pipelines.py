"""Pipelines and their versions: upload, create, get, list, change, delete."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.routing import Route

from headrace.api import _wire
from headrace.components.pipelines.api import views
from headrace.components.pipelines.api.packages import read_package
from headrace.components.pipelines.api.requests import (
    answer,
    body,
    check_length,
    limited,
    list_query,
    namespace_of,
    page,
    requester,
)
from headrace.components.pipelines.store.models import Pipeline, PipelineVersion
from headrace.components.pipelines.types.rest import (
    NewPipelineBody,
    NewVersionBody,
    PipelineBody,
    PipelineVersionBody,
    invalid,
    not_found,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from headrace.components.pipelines.api.requests import Services
    from headrace.components.pipelines.store.models import Spec

MAX_PIPELINE_NAME, MAX_VERSION_NAME, MAX_DISPLAY_NAME = 128, 127, 255
MAX_TAGS, MAX_TAG = 20, 63


class Pipelines:
    """Handlers of `/pipelines`."""

    def __init__(self, services: Services) -> None:
        self._catalog, self._access, self._packages = services.catalog, services.access, services.packages
        self._forget = services.forget

    def routes(self) -> list[Route]:
        """In the order in which they match."""
        return [
            Route("/pipelines/upload", self.upload, methods=["POST"]),
            Route("/pipelines/upload_version", self.upload_version, methods=["POST"]),
            Route("/pipelines/create", self.create_with_version, methods=["POST"]),
            Route("/pipelines/names/{name}", self.get_named, methods=["GET"]),
            Route("/pipelines", self.list, methods=["GET"]),
            Route("/pipelines", self.create, methods=["POST"]),
            Route("/pipelines/{id}", self.get, methods=["GET"]),
            Route("/pipelines/{id}", self.delete, methods=["DELETE"]),
            Route("/pipelines/{id}", self.update, methods=["PATCH"]),
            Route("/pipelines/{id}/versions", self.list_versions, methods=["GET"]),
            Route("/pipelines/{id}/versions", self.create_version, methods=["POST"]),
            Route("/pipelines/{id}/versions/{version}", self.get_version, methods=["GET"]),
            Route("/pipelines/{id}/versions/{version}", self.delete_version, methods=["DELETE"]),
            Route("/pipelines/{id}/versions/{version}", self.update_version, methods=["PATCH"]),
        ]

    async def upload(self, request: Request) -> Response:
        """POST /pipelines/upload: a pipeline with its first version."""
        return answer(views.pipeline((await self.uploaded(request))[0]))

    async def uploaded(self, request: Request) -> tuple[Pipeline, PipelineVersion]:
        """What an upload makes."""
        params, namespace = request.query_params, _namespace(request)
        await self._access.require_pipelines(requester(request), "create", namespace)
        tags = _query_tags(params.get("tags"))
        filename, spec = await read_upload(request)
        name = params.get("name") or params.get("display_name") or filename
        display_name = params.get("display_name") or name
        pipeline = _pipeline(namespace, name, display_name, params.get("description"))
        pipeline.tags = tags
        version = PipelineVersion(
            id="",
            pipeline_id="",
            name=check_length("A pipeline version's name", name, MAX_VERSION_NAME),
            display_name=display_name,
            description=params.get("description") or "",
            code_source_url=params.get("code_source_url") or "",
            spec=spec,
        )
        return await self._catalog.create_pipeline(pipeline, version), version

    async def upload_version(self, request: Request) -> Response:
        """POST /pipelines/upload_version."""
        params = request.query_params
        ident = params.get("pipelineid")
        if not ident:
            raise invalid("Uploading a version needs the query parameter pipelineid.")
        pipeline = await self.find(request, "create", ident)
        tags = _query_tags(params.get("tags"))
        filename, spec = await read_upload(request)
        name = params.get("name") or params.get("display_name") or filename
        version = PipelineVersion(
            id="",
            pipeline_id=pipeline.id,
            name=check_length("A pipeline version's name", name, MAX_VERSION_NAME),
            display_name=check_length("A display name", params.get("display_name") or name, MAX_DISPLAY_NAME),
            description=params.get("description") or "",
            code_source_url=params.get("code_source_url") or "",
            spec=spec,
            tags=tags,
        )
        return answer(views.version(await self._catalog.create_version(version)))

    async def create(self, request: Request) -> Response:
        """POST /pipelines: a pipeline without versions."""
        given = await body(request, PipelineBody)
        namespace = _namespace(request, given.namespace)
        await self._access.require_pipelines(requester(request), "create", namespace)
        name = given.name or given.display_name
        if not name:
            raise invalid("A pipeline needs a name.")
        pipeline = _pipeline(namespace, name, given.display_name or name, given.description)
        pipeline.tags = _checked_tags(given.tags or {})
        return answer(views.pipeline(await self._catalog.create_pipeline(pipeline)))

    async def update(self, request: Request) -> Response:
        """PATCH /pipelines/{id}: display_name, description and (all) tags; what is not given stays."""
        pipeline = await self.find(request, "update")
        given = await body(request, PipelineBody)
        if given.namespace and given.namespace != pipeline.namespace:
            raise invalid("A pipeline's namespace cannot be changed.")
        changes, tags = _changes(given, pipeline.name, "pipeline")
        updated = await self._catalog.update_pipeline(pipeline.id, changes, tags)
        if updated is None:
            raise not_found("Pipeline", pipeline.id)
        return answer(views.pipeline(updated))

    async def update_version(self, request: Request) -> Response:
        """PATCH /pipelines/{id}/versions/{version}: display_name, description and (all) tags."""
        await self.find(request, "update")
        version = await self._find_version(request)
        changes, tags = _changes(await body(request, PipelineVersionBody), version.name, "pipeline version")
        updated = await self._catalog.update_version(version.id, changes, tags)
        if updated is None:
            raise not_found("Pipeline version", version.id)
        return answer(views.version(updated))

    async def get(self, request: Request) -> Response:
        """GET /pipelines/{id}."""
        return answer(views.pipeline(await self.find(request, "get")))

    async def get_named(self, request: Request) -> Response:
        """GET /pipelines/names/{name}."""
        name, namespace = request.path_params["name"], _namespace(request)
        await self._access.require_pipelines(requester(request), "get", namespace, name)
        pipeline = await self._catalog.get_pipeline_named(namespace, name)
        if pipeline is None:
            raise not_found("Pipeline", f"{name!r} in namespace {namespace!r}")
        return answer(views.pipeline(pipeline))

    async def list(self, request: Request) -> Response:
        """GET /pipelines."""
        namespace = _namespace(request)
        await self._access.require_pipelines(requester(request), "list", namespace)
        found = await self._catalog.list_pipelines(list_query(request), namespace)
        return page("pipelines", [views.pipeline(p) for p in found.items], found)

    async def delete(self, request: Request) -> Response:
        """DELETE /pipelines/{id}."""
        pipeline = await self.find(request, "delete")
        cascade = request.query_params.get("cascade", "").lower() in {"true", "1"}
        await self._catalog.delete_pipeline(pipeline.id, cascade=cascade)
        await self._forget("Pipeline", pipeline.namespace, pipeline.id)
        return answer({})

    async def list_versions(self, request: Request) -> Response:
        """GET /pipelines/{id}/versions."""
        pipeline = await self.find(request, "list")
        found = await self._catalog.list_versions(list_query(request), pipeline.id)
        return page("pipeline_versions", [views.version(v) for v in found.items], found)

    async def get_version(self, request: Request) -> Response:
        """GET /pipelines/{id}/versions/{version}."""
        await self.find(request, "get")
        return answer(views.version(await self._find_version(request)))

    async def delete_version(self, request: Request) -> Response:
        """DELETE /pipelines/{id}/versions/{version}."""
        pipeline = await self.find(request, "delete")
        version = await self._find_version(request)
        await self._catalog.delete_version(version.id)
        await self._forget("PipelineVersion", pipeline.namespace, version.id)
        return answer({})

    async def create_with_version(self, request: Request) -> Response:
        """POST /pipelines/create: a pipeline whose first version is read from a URL."""
        given = await body(request, NewPipelineBody)
        wanted, first = given.pipeline or PipelineBody(), given.pipeline_version or NewVersionBody()
        namespace = _namespace(request, wanted.namespace)
        await self._access.require_pipelines(requester(request), "create", namespace)
        name = wanted.name or wanted.display_name
        if not name:
            raise invalid("A pipeline needs a name.")
        pipeline = _pipeline(namespace, name, wanted.display_name or name, wanted.description)
        pipeline.tags = _checked_tags(wanted.tags or {})
        version = await self.from_url(namespace, first, name)
        return answer(views.pipeline(await self._catalog.create_pipeline(pipeline, version)))

    async def create_version(self, request: Request) -> Response:
        """POST /pipelines/{id}/versions: a version that is read from a URL."""
        pipeline = await self.find(request, "create")
        version = await self.from_url(pipeline.namespace, await body(request, NewVersionBody), "")
        version.pipeline_id = pipeline.id
        return answer(views.version(await self._catalog.create_version(version)))

    async def from_url(self, namespace: str, given: NewVersionBody, default: str) -> PipelineVersion:
        """A version of the package that a URL names. Raises RpcError."""
        url = (given.package_url.pipeline_url if given.package_url else None) or ""
        if not url:
            raise invalid("A pipeline version needs a package_url with a pipeline_url; or upload it as a file.")
        raw = await self._packages.read(namespace, url)
        spec, parsed = await asyncio.to_thread(read_package, raw)
        name = given.name or given.display_name or default or parsed.pipeline_info.name
        return PipelineVersion(
            id="",
            pipeline_id="",
            name=check_length("A pipeline version's name", name, MAX_VERSION_NAME),
            display_name=check_length("A display name", given.display_name or name, MAX_DISPLAY_NAME),
            description=given.description or "",
            package_url=url,
            code_source_url=given.code_source_url or "",
            spec=spec,
            tags=_checked_tags(given.tags or {}),
        )

    async def find(self, request: Request, verb: str, ident: str = "") -> Pipeline:
        """The pipeline that is named, else the path's; the requester may do this with it. Raises RpcError."""
        ident = ident or request.path_params.get("id", "")
        pipeline = await self._catalog.get_pipeline(ident)
        if pipeline is None:
            raise not_found("Pipeline", ident)
        await self._access.require_pipelines(requester(request), verb, pipeline.namespace, pipeline.name)
        return pipeline

    async def _find_version(self, request: Request) -> PipelineVersion:
        ident: str = request.path_params["version"]
        version = await self._catalog.get_version(ident)
        if version is None or version.pipeline_id != request.path_params["id"]:
            raise not_found("Pipeline version", ident)
        return version


def _namespace(request: Request, given: str | None = None) -> str:
    """As for everything else; but named and empty means the pipelines that all namespaces share."""
    if given == "" or (given is None and request.query_params.get("namespace") == ""):
        return ""
    return namespace_of(request, given)


def _pipeline(namespace: str, name: str, display_name: str, description: str | None) -> Pipeline:
    return Pipeline(
        id="",
        namespace=namespace,
        name=check_length("A pipeline's name", name, MAX_PIPELINE_NAME),
        display_name=check_length("A display name", display_name, MAX_DISPLAY_NAME),
        description=description or "",
    )


def _changes(
    given: PipelineBody | PipelineVersionBody, name: str, what: str
) -> tuple[dict[str, str], dict[str, str] | None]:
    """Columns that a PATCH sets, and the tags when it sets them (an empty object clears them)."""
    if given.name and given.name != name:
        raise invalid(f"A {what}'s name cannot be changed; its display_name can.")
    changes: dict[str, str] = {}
    if given.display_name:
        changes["display_name"] = check_length("A display name", given.display_name, MAX_DISPLAY_NAME)
    if given.description is not None:
        changes["description"] = given.description
    return changes, None if given.tags is None else _checked_tags(given.tags)


def _query_tags(text: str | None) -> dict[str, str]:
    """Tags as uploads have them: a JSON object in the query."""
    if not text:
        return {}
    try:
        tags = _wire.decode(dict[str, str], text)
    except _wire.DecodeError as error:
        raise invalid(f"The query parameter tags must be a JSON object of strings: {error}.") from error
    return _checked_tags(tags)


def _checked_tags(tags: dict[str, str]) -> dict[str, str]:
    """The tags. Raises RpcError when they exceed upstream's bounds."""
    if len(tags) > MAX_TAGS:
        raise invalid(f"There are {len(tags)} tags; at most {MAX_TAGS} are allowed.")
    for key, value in tags.items():
        if not key or "." in key:
            raise invalid(f"A tag's key must not be empty or contain a dot, got {key!r}.")
        check_length("A tag's key", key, MAX_TAG)
        check_length(f"The value of tag {key!r}", value, MAX_TAG)
    return tags


async def read_upload(request: Request) -> tuple[str, Spec]:
    """The file's name and the pipeline in it."""
    try:
        async with limited(request).form(max_files=1) as form:
            file = form.get("uploadfile")
            if not isinstance(file, UploadFile):
                raise invalid("Upload the pipeline as the multipart field uploadfile.")
            raw = await file.read()
            filename = file.filename or ""
    except MultiPartException as error:
        raise invalid(f"The upload is not multipart/form-data as expected: {error.message}") from error
    # Parsing a large file takes a while; the loop has other things to do.
    spec, parsed = await asyncio.to_thread(read_package, raw)
    return filename or parsed.pipeline_info.name, spec

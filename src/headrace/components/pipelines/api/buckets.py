"""Buckets through this API: what lies in the object store, with the keys of one's own namespace.

Beyond upstream. Whoever may read artifacts of a namespace sees and reads what its keys open, whoever may start runs
there may store, whoever may delete runs there may delete: so nobody reaches through this API what a pod of that
namespace could not reach.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from starlette.responses import StreamingResponse
from starlette.routing import Route

from headrace.components.pipelines.api.objects import CHUNK, MAX_DELETED, PASSED, read_listing
from headrace.components.pipelines.api.requests import answer, namespace_of, requester
from headrace.components.pipelines.policy import preview
from headrace.components.pipelines.types.rest import Code, RpcError, invalid
from headrace.machinery.settings import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from xml.etree.ElementTree import Element

    from starlette.requests import Request
    from starlette.responses import Response

    from headrace.components.pipelines.api.requests import Services

PROFILE_BUCKET = "mlpipeline"
PROFILE_PREFIXES = ("artifacts/{ns}/", "private-artifacts/{ns}/", "v2/artifacts/{ns}/")
"""What the keys of a profile open (the object store's rule)."""
PAGE = 200
MAX_FOLDER = 20_000
"""Objects that deleting a folder takes at once."""
_SAFE = {
    # A browser must not run what a pipeline wrote as if the platform had written it.
    "content-security-policy": "sandbox; default-src 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache, private",
}
_KEPT = ("content-length", "content-range", "content-type", "etag", "last-modified", "accept-ranges")


class Buckets:
    """Handlers of `/objects`."""

    def __init__(self, services: Services) -> None:
        self._access, self._objects = services.access, services.objects

    def routes(self) -> list[Route]:
        """In the order in which they match."""
        return [
            Route("/objects", self.list, methods=["GET"]),
            Route("/objects", self.delete, methods=["DELETE"]),
            Route("/objects:download", self.download, methods=["GET"]),
            Route("/objects:preview", self.preview, methods=["GET"]),
            Route("/objects:upload", self.upload, methods=["PUT"]),
        ]

    async def list(self, request: Request) -> Response:
        """GET /objects?namespace=&bucket=&prefix=&after=: without a bucket, where one may begin to look."""
        namespace = await self._authorized(request, "readArtifact")
        params = request.query_params
        bucket, prefix = params.get("bucket", ""), params.get("prefix", "")
        if not bucket and namespace == SYSTEM_NAMESPACE:
            root = _document(await self._objects.ask(namespace, "/", {}))
            names = [_text(found, "Name") for found in root.iter() if _local(found) == "Bucket"]
            return answer({"places": [{"bucket": name, "prefix": ""} for name in names]})
        if not bucket:
            places = [{"bucket": PROFILE_BUCKET, "prefix": p.format(ns=namespace)} for p in PROFILE_PREFIXES]
            return answer({"places": places})
        if "/" in bucket:
            raise invalid("A bucket's name has no slash.")
        query = {
            "list-type": "2",
            "prefix": prefix,
            "delimiter": "/",
            "max-keys": str(PAGE),
            "encoding-type": "url",
        }
        if params.get("after"):
            query["continuation-token"] = params["after"]
        root = _document(await self._objects.ask(namespace, f"/{quote(bucket, safe='-_.~')}", query))
        found: dict[str, Any] = {"objects": [], "prefixes": [], "next_page_token": _text(root, "NextContinuationToken")}
        for child in root:
            if _local(child) == "Contents":
                key = unquote(_text(child, "Key"))
                size, modified = int(_text(child, "Size") or 0), _text(child, "LastModified")
                found["objects"].append({"key": key, "size": size, "modified": modified})
            elif _local(child) == "CommonPrefixes":
                found["prefixes"].append(unquote(_text(child, "Prefix")))
        return answer({key: value for key, value in found.items() if value})

    async def download(self, request: Request) -> Response:
        """GET /objects:download?namespace=&uri=: the bytes, also in ranges."""
        namespace, uri = await self._authorized(request, "readArtifact"), _uri(request)
        headers = {name: request.headers[name] for name in PASSED if name in request.headers}
        stack = contextlib.AsyncExitStack()
        response = await stack.enter_async_context(self._objects.open(namespace, uri, headers))

        async def body() -> AsyncIterator[bytes]:
            async with stack:
                async for chunk in response.content.iter_chunked(CHUNK):
                    yield chunk

        kept = {name: response.headers[name] for name in _KEPT if name in response.headers}
        kept["content-disposition"] = f"attachment; filename*=UTF-8''{quote(_name(uri))}"
        return StreamingResponse(body(), response.status, kept | _SAFE)

    async def preview(self, request: Request) -> Response:
        """GET /objects:preview?namespace=&uri=: the beginning, as data."""
        namespace, uri = await self._authorized(request, "readArtifact"), _uri(request)
        limit = preview.DEFAULT_BYTES
        async with self._objects.open(namespace, uri, {"range": f"bytes=0-{limit - 1}"}) as response:
            if response.status == 416:
                return answer(preview.of_bytes(_name(uri), "", b"", 0))  # an empty object has no first byte
            head = bytearray()
            async for chunk in response.content.iter_chunked(CHUNK):
                head += chunk
                if len(head) >= limit:
                    break
            total = response.headers.get("content-range", "").rpartition("/")[2]
            size = int(total) if total.isdigit() else len(head)
        return answer(preview.of_bytes(_name(uri), "", bytes(head[:limit]), size))

    async def upload(self, request: Request) -> Response:
        """PUT /objects:upload?namespace=&uri=: the bytes as they come."""
        namespace, uri = await self._authorized(request, "create"), _uri(request)
        length = request.headers.get("content-length", "")
        if not length.isdigit():
            raise invalid("An upload needs a Content-Length.")
        await self._objects.write(namespace, uri, request.stream(), int(length))
        return answer({"uri": uri})

    async def delete(self, request: Request) -> Response:
        """DELETE /objects?namespace=&uri=: an object; with a slash at its end a folder and all in it, MAX_FOLDER
        objects at a time (`more` says that some are left).
        """
        namespace, uri = await self._authorized(request, "delete"), _uri(request)
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme not in {"minio", "s3"} or not bucket or not key:
            raise invalid(f"{uri!r} names no object and no folder of the object store, as minio://bucket/key does.")
        if not key.endswith("/"):
            await self._objects.delete(namespace, bucket, [key])
            return answer({"deleted": 1})
        gone, more = 0, True
        while more and gone < MAX_FOLDER:
            query = {"list-type": "2", "prefix": key, "max-keys": str(MAX_DELETED), "encoding-type": "url"}
            found = read_listing(await self._objects.ask(namespace, f"/{quote(bucket, safe='-_.~')}", query))
            keys = [unquote(name) for name, _size in found.objects]
            if not keys and not gone:
                raise RpcError(Code.NOT_FOUND, f"There is nothing at {uri} in the object store.")
            if keys:
                await self._objects.delete(namespace, bucket, keys)
            gone, more = gone + len(keys), bool(found.next_token)
        return answer({"deleted": gone, "more": more})

    async def _authorized(self, request: Request, verb: str) -> str:
        """The namespace whose keys are used. Raises RpcError."""
        namespace = namespace_of(request)
        await self._access.require(requester(request), verb, "runs", namespace)
        return namespace


def _uri(request: Request) -> str:
    uri = request.query_params.get("uri", "")
    if not uri:
        raise invalid("Name the object by the query parameter uri, as in minio://bucket/key.")
    return uri


def _name(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2]


def _document(raw: bytes) -> Element:
    """What the store answered."""
    import xml.etree.ElementTree as ET  # noqa: PLC0415 - few requests need it

    try:
        return ET.fromstring(raw)  # noqa: S314 - written by this platform's own store
    except ET.ParseError as error:
        raise RpcError(Code.UNAVAILABLE, "The object store's answer could not be read.") from error


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(element: Element, name: str) -> str:
    return next((child.text or "" for child in element if _local(child) == name), "")

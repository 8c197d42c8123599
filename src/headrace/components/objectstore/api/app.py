"""The object store as an ASGI application: parse, authenticate, authorize, dispatch, answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.components.objectstore import policy, render
from headrace.components.objectstore.api import buckets, multipart, objects, signature
from headrace.components.objectstore.api.request import (
    Answer,
    Request,
    locate,
    parse_headers,
    parse_path,
    parse_query,
    xml,
)
from headrace.components.objectstore.policy import Action
from headrace.components.objectstore.store.content import refusal
from headrace.components.objectstore.types import NotModified, Principal, S3Error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from headrace.components.objectstore.store.objects import ObjectStore
    from headrace.machinery.clock import Clock

log = logging.getLogger(__name__)

HEALTH_PATHS = frozenset({"/minio/health/live", "/minio/health/ready", "/minio/health/cluster"})


class _Operation(NamedTuple):
    handler: Callable[[ObjectStore, Request], Awaitable[Answer]]
    action: Action | None
    """None: the handler judges each key by itself."""


_SERVICE = {("GET", ""): _Operation(buckets.list_buckets, Action.LIST_BUCKETS)}
_BUCKET = {
    ("GET", ""): _Operation(buckets.list_objects, Action.LIST),
    ("HEAD", ""): _Operation(buckets.head, Action.SEE_BUCKET),
    ("PUT", ""): _Operation(buckets.create, Action.MANAGE_BUCKET),
    ("DELETE", ""): _Operation(buckets.delete, Action.MANAGE_BUCKET),
    ("GET", "location"): _Operation(buckets.location, Action.SEE_BUCKET),
    ("GET", "versioning"): _Operation(buckets.versioning, Action.SEE_BUCKET),
    ("GET", "uploads"): _Operation(multipart.list_uploads, Action.LIST),
    ("POST", "delete"): _Operation(buckets.delete_objects, None),
}
_OBJECT = {
    ("GET", ""): _Operation(objects.get, Action.READ),
    ("HEAD", ""): _Operation(objects.get, Action.READ),
    ("PUT", ""): _Operation(objects.put, Action.WRITE),
    ("PUT", "copy"): _Operation(objects.copy, Action.WRITE),
    ("DELETE", ""): _Operation(objects.delete, Action.WRITE),
    ("GET", "tagging"): _Operation(objects.get_tags, Action.READ),
    ("PUT", "tagging"): _Operation(objects.put_tags, Action.WRITE),
    ("DELETE", "tagging"): _Operation(objects.delete_tags, Action.WRITE),
    ("POST", "uploads"): _Operation(multipart.create, Action.WRITE),
    ("PUT", "uploadId"): _Operation(multipart.put_part, Action.WRITE),
    ("PUT", "uploadId copy"): _Operation(multipart.copy_part, Action.WRITE),
    ("GET", "uploadId"): _Operation(multipart.list_parts, Action.READ),
    ("POST", "uploadId"): _Operation(multipart.complete, Action.WRITE),
    ("DELETE", "uploadId"): _Operation(multipart.abort, Action.WRITE),
}

_SUBRESOURCES = {
    "abac": "Abac",
    "accelerate": "AccelerateConfiguration",
    "acl": "Acl",
    "analytics": "AnalyticsConfiguration",
    "annotation": "Annotation",
    "attributes": "Attributes",
    "cors": "Cors",
    "delete": "Objects",
    "encryption": "Encryption",
    "intelligent-tiering": "IntelligentTieringConfiguration",
    "inventory": "InventoryConfiguration",
    "legal-hold": "LegalHold",
    "lifecycle": "LifecycleConfiguration",
    "location": "Location",
    "logging": "Logging",
    "metadataConfiguration": "MetadataConfiguration",
    "metadataTable": "MetadataTableConfiguration",
    "metrics": "MetricsConfiguration",
    "notification": "NotificationConfiguration",
    "object-lock": "LockConfiguration",
    "ownershipControls": "OwnershipControls",
    "policy": "Policy",
    "policyStatus": "PolicyStatus",
    "publicAccessBlock": "PublicAccessBlock",
    "renameObject": "Rename",
    "replication": "Replication",
    "requestPayment": "RequestPayment",
    "restore": "Restore",
    "retention": "Retention",
    "select": "SelectContent",
    "session": "Session",
    "tagging": "Tagging",
    "torrent": "Torrent",
    "uploadId": "MultipartUpload",
    "uploads": "MultipartUploads",
    "versioning": "Versioning",
    "versions": "Versions",
    "website": "Website",
}
_VERBS = {"GET": "Get", "HEAD": "Head", "PUT": "Put", "POST": "Post", "DELETE": "Delete", "OPTIONS": "Options"}


class App:
    """The ASGI application. `find` says whose an access key is."""

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        find: Callable[[str], Awaitable[Principal | None]],
        domains: tuple[str, ...],
    ) -> None:
        self._store, self._clock, self._find, self._domains = store, clock, find, domains

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        request_id = secrets.token_hex(8).upper()
        answer = await self._answer(scope, receive, request_id)
        await _send(answer, scope["method"], request_id, receive, send)

    async def _answer(
        self, scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Any]], request_id: str
    ) -> Answer:
        resource = scope["path"]
        try:
            path = resource = parse_path(scope["raw_path"])
            if path in HEALTH_PATHS and scope["method"] in {"GET", "HEAD"}:
                return Answer()
            headers = parse_headers(scope["headers"])
            bucket, key, virtual = locate(path, headers.get("host", ""), self._domains)
            request = Request(
                scope["method"],
                path,
                parse_query(scope["query_string"]),
                headers,
                bucket,
                key,
                virtual,
                request_id,
                self._clock.precise(),
                receive,
            )
            await self._authenticate(request)
            return await self._dispatch(request)
        except S3Error as error:
            return xml(render.error(error, resource, request_id), error.status, error.headers)
        except NotModified as found:
            return Answer(found.status, found.headers)
        except (OSError, sqlite3.Error) as error:
            refused = refusal(error)
            if refused is not None:
                return xml(render.error(refused, resource, request_id), refused.status)
            log.exception("request %s for %s failed", request_id, resource)
        except Exception:
            log.exception("request %s for %s failed: a fault of the object store", request_id, resource)
        failure = S3Error("InternalError")
        return xml(render.error(failure, resource, request_id), failure.status)

    async def _authenticate(self, request: Request) -> None:
        signable = signature.Signable(
            request.method,
            request.path,
            request.query,
            request.headers,
            request.bucket if request.virtual_host else "",
        )
        claim = signature.read_claim(signable, request.now)
        principal = await self._find(claim.access_key)
        if principal is None:
            raise S3Error("InvalidAccessKeyId")
        request.chunk_key = signature.verify(signable, claim, principal.secret_key)
        request.payload, request.principal = claim.payload, principal

    async def _dispatch(self, request: Request) -> Answer:
        operation = _operation(request)
        target = request.key
        if operation.action is Action.LIST:
            target = request.arguments.get("prefix", "")
        if request.principal is None or (
            operation.action is not None
            and not policy.allowed(request.principal, operation.action, request.bucket, target)
        ):
            raise S3Error("AccessDenied")
        return await operation.handler(self._store, request)


def _operation(request: Request) -> _Operation:
    table = _OBJECT if request.key else _BUCKET if request.bucket else _SERVICE
    sub = next((name for name in request.arguments if name in _SUBRESOURCES), "")
    if request.arguments.get("versionId", "null") not in {"", "null"}:
        raise S3Error("NotImplemented", "versionId: versioning is not implemented.")
    name = sub
    if request.method == "PUT" and "x-amz-copy-source" in request.headers and sub in {"", "uploadId"}:
        name = f"{sub} copy".strip()
    found = table.get((request.method, name))
    if found is not None:
        return found
    if sub:
        raise S3Error("NotImplemented", f"{_name(request, sub)} is not implemented.")
    if request.method == "POST" and request.bucket and not request.key:
        raise S3Error("NotImplemented", "PostObject (an upload by HTML form) is not implemented.")
    raise S3Error("MethodNotAllowed")


def _name(request: Request, sub: str) -> str:
    """The operation in AWS's words, such as PutBucketPolicy."""
    verb = _VERBS.get(request.method, request.method.title())
    if sub in {"versions", "uploads"} and request.method == "GET":
        return f"ListObject{_SUBRESOURCES[sub]}"
    if sub in {"select", "restore", "renameObject"}:
        return {"select": "SelectObjectContent", "restore": "RestoreObject", "renameObject": "RenameObject"}[sub]
    if sub == "object-lock":
        return f"{verb}ObjectLockConfiguration"
    return f"{verb}{'Object' if request.key else 'Bucket'}{_SUBRESOURCES[sub]}"


async def _send(
    answer: Answer,
    method: str,
    request_id: str,
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    headers = {"x-amz-request-id": request_id, "server": "Headrace", **answer.headers}
    if answer.stream is None and "content-length" not in headers and answer.status not in {204, 304}:
        headers["content-length"] = str(len(answer.body))
    try:
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(k.encode("latin-1"), v.encode("latin-1", "replace")) for k, v in headers.items()],
            }
        )
        if answer.stream is None or method == "HEAD":
            await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})
            return
        # The watcher ends the reading of a large object when its client has gone.
        gone = asyncio.ensure_future(_gone(receive))
        try:
            async with contextlib.aclosing(answer.stream) as stream:
                async for data in stream:
                    if gone.done():
                        return
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
    finally:
        if answer.done is not None:
            answer.done()


async def _gone(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _lifespan(receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return

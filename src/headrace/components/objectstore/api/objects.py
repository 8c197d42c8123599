"""Operations on objects: get, head, put, copy, delete, tags."""

from __future__ import annotations

import urllib.parse
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.components.objectstore import policy, render
from headrace.components.objectstore.api import checksums, documents
from headrace.components.objectstore.api.body import Body
from headrace.components.objectstore.api.request import (
    Answer,
    Request,
    check_tags,
    http_date,
    parse_tags,
    stored_headers,
    xml,
)
from headrace.components.objectstore.policy import Action
from headrace.components.objectstore.types import ObjectRecord, S3Error

if TYPE_CHECKING:
    from headrace.components.objectstore.store.objects import ObjectStore
    from headrace.components.objectstore.types import Segment

_OVERRIDES = ("cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires")
_ACLS = frozenset({"private", "bucket-owner-full-control", "bucket-owner-read"})
_REFUSED = (
    ("x-amz-server-side-encryption", "server-side encryption"),
    ("x-amz-object-lock-", "object lock"),
    ("x-amz-website-redirect-location", "website redirects"),
    ("x-amz-grant-", "access control lists"),
    ("x-amz-write-offset-bytes", "appending"),
)
MAX_DOCUMENT = 1 << 16


def refuse_unknown(headers: dict[str, str]) -> None:
    """Headers that ask for what does not exist here are refused, not ignored. Raises NotImplemented."""
    for prefix, feature in _REFUSED:
        found = next((name for name in headers if name.startswith(prefix)), None)
        if found:
            raise S3Error("NotImplemented", f"{found}: {feature} is not implemented.")
    if headers.get("x-amz-acl", "private") not in _ACLS:
        raise S3Error("NotImplemented", f"x-amz-acl: {headers['x-amz-acl']} is not implemented: objects are private.")
    if headers.get("x-amz-storage-class", "STANDARD") != "STANDARD":
        raise S3Error("InvalidStorageClass")


async def get(store: ObjectStore, request: Request) -> Answer:
    """GET /bucket/key, whole, a range or a part; and HEAD, whose body is never sent."""
    record = store.get(request.bucket, request.key)
    headers = _headers(record)
    not_modified: dict[str, str] = {
        name: headers[name] for name in ("etag", "last-modified", "cache-control") if name in headers
    }
    policy.check_read(record, request.preconditions(), not_modified)
    for name in _OVERRIDES:
        if f"response-{name}" in request.arguments:
            headers[name] = request.arguments[f"response-{name}"]
    span = _span(record, request, headers)
    if span is None and request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and record.checksum:
        headers[checksums.header(record.checksum.algorithm)] = record.checksum.value
        headers["x-amz-checksum-type"] = record.checksum.type
    start, length = span or (0, record.size)
    status = 200
    if span is not None:
        status = 206
        headers["content-range"] = f"bytes {start}-{start + length - 1}/{record.size}"
    headers["content-length"] = str(length)
    if request.method == "HEAD" or not length:
        return Answer(status, headers)
    release = store.content.pin(record.segments)
    return Answer(status, headers, stream=store.content.read(record.segments, start, length), done=release)


def _span(record: ObjectRecord, request: Request, headers: dict[str, str]) -> tuple[int, int] | None:
    text = request.headers.get("range", "")
    if "partNumber" in request.arguments:
        if text:
            raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter.")
        number = request.integer("partNumber", 1, 1, 10_000)
        sizes = record.part_sizes or (record.size,)
        if number > len(sizes):
            raise S3Error("InvalidRange", "The requested partnumber is not satisfiable.")
        if record.part_sizes:
            headers["x-amz-mp-parts-count"] = str(len(sizes))
        return (sum(sizes[: number - 1]), sizes[number - 1]) if record.size else None
    if not text or not _range_applies(record, request.headers.get("if-range", "")):
        return None
    return policy.byte_range(text, record.size)


def _range_applies(record: ObjectRecord, if_range: str) -> bool:
    return not if_range or policy.etag_in(record.etag, if_range) or if_range == http_date(record.modified)


def _headers(record: ObjectRecord) -> dict[str, str]:
    headers = {
        "etag": f'"{record.etag}"',
        "last-modified": http_date(record.modified),
        "accept-ranges": "bytes",
        **record.headers,
    }
    if record.tags:
        headers["x-amz-tagging-count"] = str(len(record.tags))
    return headers


async def put(store: ObjectStore, request: Request) -> Answer:
    """PUT /bucket/key."""
    refuse_unknown(request.headers)
    headers, tags = stored_headers(request.headers), parse_tags(request.headers.get("x-amz-tagging", ""))
    body = Body(request)
    store.require_bucket(request.bucket)
    segments = await receive(store, body)
    record = ObjectRecord(
        bucket=request.bucket,
        key=request.key,
        size=body.length,
        etag=body.digests.etag,
        modified=request.now,
        headers=headers,
        tags=tags,
        checksum=body.digests.checksum,
        segments=segments,
    )
    try:
        await store.put(record, request.preconditions())
    except S3Error:
        store.content.remove(s.blob for s in segments)
        raise
    answer = {"etag": f'"{record.etag}"'}
    if record.checksum:
        answer[checksums.header(record.checksum.algorithm)] = record.checksum.value
        answer["x-amz-checksum-type"] = record.checksum.type
    return Answer(headers=answer)


async def receive(store: ObjectStore, body: Body) -> tuple[Segment, ...]:
    """The body on disk, verified; nothing is left of it when it is wrong or breaks off."""
    writer = store.content.writer(body.digests)
    try:
        async for piece in body:
            await writer.feed(piece)
        return await writer.finish(body.verify)
    except BaseException:
        await writer.discard()
        raise


def copy_source(request: Request) -> tuple[str, str]:
    """(bucket, key) of x-amz-copy-source, authorized. Raises InvalidArgument, AccessDenied."""
    raw, _, version = request.headers["x-amz-copy-source"].partition("?versionId=")
    if version not in {"", "null"}:
        raise S3Error("NotImplemented", "Copying a version: versioning is not implemented.")
    bucket, _, key = urllib.parse.unquote(raw).removeprefix("/").partition("/")
    if not bucket or not key:
        raise S3Error("InvalidArgument", "Copy Source must mention the source bucket and key: sourcebucket/sourcekey.")
    if request.principal is None or not policy.allowed(request.principal, Action.READ, bucket, key):
        raise S3Error("AccessDenied")
    return bucket, key


async def copy(store: ObjectStore, request: Request) -> Answer:
    """PUT /bucket/key with x-amz-copy-source: the copy shares the source's bytes."""
    refuse_unknown(request.headers)
    headers = request.headers
    source = copy_source(request)
    directives = [headers.get(f"x-amz-{name}-directive", "COPY").upper() for name in ("metadata", "tagging")]
    if any(d not in {"COPY", "REPLACE"} for d in directives):
        raise S3Error("InvalidArgument", "A directive must be COPY or REPLACE.")
    new_headers, new_tags = (d == "REPLACE" for d in directives)
    if source == (request.bucket, request.key) and not new_headers:
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata.",
        )
    own_headers, own_tags = stored_headers(headers), parse_tags(headers.get("x-amz-tagging", ""))
    conditions = request.preconditions("x-amz-copy-source-")

    def make(found: ObjectRecord) -> ObjectRecord:
        policy.check_copy_source(found, conditions)
        return replace(
            found,
            bucket=request.bucket,
            key=request.key,
            modified=request.now,
            headers=own_headers if new_headers else found.headers,
            tags=own_tags if new_tags else found.tags,
        )

    made = await store.copy(source, make, request.preconditions())
    checksum = {f"Checksum{made.checksum.algorithm}": made.checksum.value} if made.checksum else {}
    return xml(render.copied("CopyObjectResult", made.etag, made.modified, checksum))


async def delete(store: ObjectStore, request: Request) -> Answer:
    """DELETE /bucket/key."""
    await store.delete(request.bucket, request.key, request.preconditions())
    return Answer(204)


async def get_tags(store: ObjectStore, request: Request) -> Answer:
    """GET /bucket/key?tagging."""
    return xml(render.tagging(store.get(request.bucket, request.key).tags))


async def put_tags(store: ObjectStore, request: Request) -> Answer:
    """PUT /bucket/key?tagging."""
    tags = check_tags(documents.tagging(await Body(request).small(MAX_DOCUMENT)))
    await store.set_tags(request.bucket, request.key, tags)
    return Answer()


async def delete_tags(store: ObjectStore, request: Request) -> Answer:
    """DELETE /bucket/key?tagging."""
    await store.set_tags(request.bucket, request.key, {})
    return Answer(204)

"""Operations on buckets: create, head, delete, location, listings, deletion of many objects."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from headrace.components.objectstore import policy, render
from headrace.components.objectstore.api import documents
from headrace.components.objectstore.api.body import Body
from headrace.components.objectstore.api.request import Answer, Request, xml
from headrace.components.objectstore.policy import Action
from headrace.components.objectstore.types import Preconditions, S3Error

if TYPE_CHECKING:
    from headrace.components.objectstore.store.objects import ObjectStore

MAX_DOCUMENT = 4 << 20


async def list_buckets(store: ObjectStore, _request: Request) -> Answer:
    """GET /."""
    return xml(render.buckets(store.buckets()))


async def create(store: ObjectStore, request: Request) -> Answer:
    """PUT /bucket. A LocationConstraint is accepted: there is one location."""
    policy.check_bucket_name(request.bucket)
    if request.headers.get("x-amz-bucket-object-lock-enabled", "").lower() == "true":
        raise S3Error("NotImplemented", "CreateBucket with object lock is not implemented.")
    if request.headers.get("content-length", "0") != "0":
        await Body(request).small(MAX_DOCUMENT)
    if not await store.create_bucket(request.bucket, request.now):
        raise S3Error("BucketAlreadyOwnedByYou")
    return Answer(headers={"location": f"/{request.bucket}"})


async def head(store: ObjectStore, request: Request) -> Answer:
    """HEAD /bucket."""
    store.require_bucket(request.bucket)
    return Answer(headers={"x-amz-bucket-region": "us-east-1"})


async def delete(store: ObjectStore, request: Request) -> Answer:
    """DELETE /bucket."""
    await store.delete_bucket(request.bucket)
    return Answer(204)


async def location(store: ObjectStore, request: Request) -> Answer:
    """GET /bucket?location."""
    store.require_bucket(request.bucket)
    return xml(render.location())


async def versioning(store: ObjectStore, request: Request) -> Answer:
    """GET /bucket?versioning: never enabled, which is true."""
    store.require_bucket(request.bucket)
    return xml(render.versioning())


async def list_objects(store: ObjectStore, request: Request) -> Answer:
    """GET /bucket, version 1 and 2."""
    arguments = request.arguments
    encoding = arguments.get("encoding-type", "")
    if encoding and encoding != "url":
        raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request: encoding-type must be url.")
    encode = encoding == "url"
    prefix, delimiter = arguments.get("prefix", ""), arguments.get("delimiter", "")
    limit = request.integer("max-keys", 1000, 0, 1000)
    if arguments.get("list-type") == "2":
        token, start_after = arguments.get("continuation-token", ""), arguments.get("start-after", "")
        if "continuation-token" in arguments and not token:
            raise S3Error("InvalidArgument", "The continuation token provided is incorrect.")
        after = _from_token(token) if token else start_after
        page = store.list_objects(request.bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        fields: dict[str, str | int] = {
            "Prefix": render.encoded(prefix, encode=encode),
            "MaxKeys": limit,
            "KeyCount": len(page.keys) + len(page.prefixes),
        }
        if start_after:
            fields["StartAfter"] = render.encoded(start_after, encode=encode)
        if token:
            fields["ContinuationToken"] = token
        if page.truncated:
            fields["NextContinuationToken"] = _to_token(page.next_marker)
        owner = arguments.get("fetch-owner") == "true"
    else:
        marker = arguments.get("marker", "")
        page = store.list_objects(request.bucket, prefix=prefix, delimiter=delimiter, after=marker, limit=limit)
        fields = {
            "Prefix": render.encoded(prefix, encode=encode),
            "Marker": render.encoded(marker, encode=encode),
            "MaxKeys": limit,
        }
        if page.truncated and delimiter:
            fields["NextMarker"] = render.encoded(page.next_marker, encode=encode)
        owner = True
    if delimiter:
        fields["Delimiter"] = render.encoded(delimiter, encode=encode)
    return xml(render.listing(request.bucket, page, fields, encode=encode, owner=owner))


async def delete_objects(store: ObjectStore, request: Request) -> Answer:
    """POST /bucket?delete. Each key is judged by itself."""
    store.require_bucket(request.bucket)
    wanted, quiet = documents.delete(await Body(request).small(MAX_DOCUMENT))
    gone: list[str] = []
    failed: list[tuple[str, S3Error]] = []
    for key, etag in wanted:
        try:
            if request.principal is None or not policy.allowed(request.principal, Action.WRITE, request.bucket, key):
                raise S3Error("AccessDenied")  # noqa: TRY301 - one place that collects failures
            await store.delete(request.bucket, key, Preconditions(if_match=etag))
            gone.append(key)
        except S3Error as error:
            failed.append((key, error))
    return xml(render.deleted([] if quiet else gone, failed))


def _to_token(marker: str) -> str:
    return base64.urlsafe_b64encode(marker.encode()).decode()


def _from_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect.") from None

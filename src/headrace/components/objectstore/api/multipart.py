"""Multipart uploads: create, upload and copy parts, list, complete, abort."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.components.objectstore import policy, render
from headrace.components.objectstore.api import checksums, documents
from headrace.components.objectstore.api.body import Body
from headrace.components.objectstore.api.objects import copy_source, receive, refuse_unknown
from headrace.components.objectstore.api.request import Answer, Request, parse_tags, stored_headers, xml
from headrace.components.objectstore.store.content import cut
from headrace.components.objectstore.types import ObjectRecord, PartRecord, S3Error, UploadRecord

if TYPE_CHECKING:
    from headrace.components.objectstore.api.documents import ChosenPart
    from headrace.components.objectstore.store.objects import ObjectStore

MIN_PART = 5 << 20
MAX_PARTS = 10_000
MAX_DOCUMENT = 4 << 20


async def create(store: ObjectStore, request: Request) -> Answer:
    """POST /bucket/key?uploads."""
    refuse_unknown(request.headers)
    algorithm, _ = checksums.requested(request.headers)
    kind = checksums.multipart_type(algorithm, request.headers.get("x-amz-checksum-type", "")) if algorithm else None
    upload = await store.create_upload(
        UploadRecord(
            id="",
            bucket=request.bucket,
            key=request.key,
            initiated=request.now,
            headers=stored_headers(request.headers),
            tags=parse_tags(request.headers.get("x-amz-tagging", "")),
            algorithm=algorithm,
            checksum_type=kind or "COMPOSITE",
        )
    )
    answer = {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": upload.checksum_type} if algorithm else {}
    return xml(render.initiated(upload), headers=answer)


async def put_part(store: ObjectStore, request: Request) -> Answer:
    """PUT /bucket/key?partNumber&uploadId."""
    number = _part_number(request)
    upload = _upload(store, request)
    body = Body(request, algorithm=upload.algorithm)
    if upload.algorithm and body.digests.algorithm != upload.algorithm:
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {upload.algorithm.lower()}, "
            f"actual checksum Type: {body.digests.algorithm.lower()}.",
        )
    segments = await receive(store, body)
    checksum = body.digests.checksum
    part = PartRecord(number, body.length, body.digests.etag, request.now, checksum.value if checksum else "", segments)
    try:
        await store.put_part(upload, part)
    except S3Error:
        store.content.remove(s.blob for s in segments)
        raise
    answer = {"etag": f'"{part.etag}"'}
    if checksum:
        answer[checksums.header(checksum.algorithm)] = checksum.value
    return Answer(headers=answer)


async def copy_part(store: ObjectStore, request: Request) -> Answer:
    """PUT /bucket/key?partNumber&uploadId with x-amz-copy-source: bytes are read for the ETag, and shared."""
    number = _part_number(request)
    upload = _upload(store, request)
    source = store.get(*copy_source(request))
    policy.check_copy_source(source, request.preconditions("x-amz-copy-source-"))
    start, length = 0, source.size
    text = request.headers.get("x-amz-copy-source-range", "")
    if text:
        span = policy.byte_range(text, source.size)
        if span is None or text.endswith("-") or text.startswith("bytes=-"):
            raise S3Error("InvalidArgument", "x-amz-copy-source-range must be of the form bytes=first-last.")
        if int(text.rpartition("-")[2]) >= source.size:
            raise S3Error("InvalidRange", "The requested range is not satisfiable.")
        start, length = span
    digests = checksums.Digests(upload.algorithm)
    release = store.content.pin(source.segments)
    try:
        async for data in store.content.read(source.segments, start, length):
            digests.update(data)
        checksum = digests.checksum
        part = PartRecord(
            number,
            length,
            digests.etag,
            request.now,
            checksum.value if checksum else "",
            tuple(cut(source.segments, start, length)),
        )
        await store.put_part(upload, part, copied=True)
    finally:
        release()
    shown = {f"Checksum{checksum.algorithm}": checksum.value} if checksum else {}
    return xml(render.copied("CopyPartResult", part.etag, part.modified, shown))


async def list_parts(store: ObjectStore, request: Request) -> Answer:
    """GET /bucket/key?uploadId."""
    upload = _upload(store, request)
    after = request.integer("part-number-marker", 0, 0, MAX_PARTS)
    limit = request.integer("max-parts", 1000, 0, 1000)
    found = store.parts(upload.id, after=after, limit=limit + 1)
    return xml(render.parts(upload, found[:limit], after=after, limit=limit, truncated=len(found) > limit))


async def list_uploads(store: ObjectStore, request: Request) -> Answer:
    """GET /bucket?uploads."""
    arguments = request.arguments
    if arguments.get("delimiter"):
        raise S3Error("NotImplemented", "ListMultipartUploads with a delimiter is not implemented: give a prefix.")
    encode = arguments.get("encoding-type") == "url"
    limit = request.integer("max-uploads", 1000, 0, 1000)
    prefix, key, upload = (arguments.get(n, "") for n in ("prefix", "key-marker", "upload-id-marker"))
    # Without an upload id the marker stands behind all uploads of its key.
    after = (key, upload or ("\x7f" if key else ""))
    found = store.uploads(request.bucket, prefix=prefix, after=after, limit=limit + 1)
    page, truncated = found[:limit], len(found) > limit
    fields: dict[str, str | int] = {
        "KeyMarker": render.encoded(key, encode=encode),
        "UploadIdMarker": upload,
        "Prefix": render.encoded(prefix, encode=encode),
        "MaxUploads": limit,
    }
    if truncated and page:
        fields["NextKeyMarker"] = render.encoded(page[-1].key, encode=encode)
        fields["NextUploadIdMarker"] = page[-1].id
    return xml(render.uploads(request.bucket, page, fields, truncated=truncated, encode=encode))


async def complete(store: ObjectStore, request: Request) -> Answer:
    """POST /bucket/key?uploadId."""
    upload = _upload(store, request)
    chosen = documents.complete(await _document(request))
    wanted = request.headers.get("x-amz-mp-object-size", "")

    def make(present: UploadRecord, parts: list[PartRecord]) -> ObjectRecord:
        record = assemble(present, parts, chosen, request)
        if wanted and wanted != str(record.size):
            raise S3Error("InvalidRequest", "The x-amz-mp-object-size header does not match the size of the parts.")
        return record

    record = await store.complete_upload(upload, make, request.preconditions())
    return xml(render.completed(record, f"http://{request.headers.get('host', '')}/{record.bucket}/{record.key}"))


def assemble(upload: UploadRecord, parts: list[PartRecord], chosen: list[ChosenPart], request: Request) -> ObjectRecord:
    """The object that the chosen parts make. Raises InvalidPart, InvalidPartOrder, EntityTooSmall, BadDigest."""
    present = {part.number: part for part in parts}
    if any(a.number >= b.number for a, b in itertools.pairwise(chosen)):
        raise S3Error("InvalidPartOrder")
    taken: list[PartRecord] = []
    for choice in chosen:
        part = present.get(choice.number)
        if part is None or part.etag != choice.etag or (choice.checksum and choice.checksum != part.checksum):
            raise S3Error("InvalidPart")
        taken.append(part)
    if any(part.size < MIN_PART for part in taken[:-1]):
        raise S3Error("EntityTooSmall")
    digest = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in taken), usedforsecurity=False)
    checksum = checksums.whole(upload.algorithm, upload.checksum_type, [(p.checksum, p.size) for p in taken])
    if checksum is not None:
        given = request.headers.get(checksums.header(checksum.algorithm), "")
        if given and given != checksum.value:
            raise S3Error("BadDigest", f"The {checksum.algorithm} that you specified is not that of the parts.")
    return ObjectRecord(
        bucket=upload.bucket,
        key=upload.key,
        size=sum(part.size for part in taken),
        etag=f"{digest.hexdigest()}-{len(taken)}",
        modified=request.now,
        headers=upload.headers,
        tags=upload.tags,
        checksum=checksum,
        segments=tuple(segment for part in taken for segment in part.segments),
        part_sizes=tuple(part.size for part in taken),
    )


async def abort(store: ObjectStore, request: Request) -> Answer:
    """DELETE /bucket/key?uploadId."""
    await store.abort_upload(_upload(store, request))
    return Answer(204)


def _upload(store: ObjectStore, request: Request) -> UploadRecord:
    return store.upload(request.bucket, request.key, request.arguments["uploadId"])


def _part_number(request: Request) -> int:
    number = request.integer("partNumber", 0, 1, MAX_PARTS + 1)
    if not 1 <= number <= MAX_PARTS:
        raise S3Error("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive.")
    return number


async def _document(request: Request) -> bytes:
    # The checksum headers of a completion are those of the object, not of this document.
    headers = {k: v for k, v in request.headers.items() if not k.startswith("x-amz-checksum-")}
    plain = replace(request, headers=headers)
    return await Body(plain).small(MAX_DOCUMENT)

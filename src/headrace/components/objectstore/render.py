"""The XML documents of the S3 dialect, as pure functions."""

from __future__ import annotations

import re
import urllib.parse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

    from headrace.components.objectstore.types import (
        Bucket,
        ListedKey,
        Listing,
        ObjectRecord,
        PartRecord,
        S3Error,
        UploadRecord,
    )

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_OWNER = "<ID>headrace</ID><DisplayName>headrace</DisplayName>"
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
_SPECIAL = re.compile(r'[&<>"\x00-\x1f\x7f]')


def document(name: str, content: str) -> bytes:
    """A root element in S3's namespace."""
    return f"{_HEAD}<{name}{_NAMESPACE}>{content}</{name}>".encode()


def element(name: str, value: object) -> str:
    """`<Name>value</Name>`, escaped."""
    return f"<{name}>{escape(str(value))}</{name}>"


def escape(text: str) -> str:
    """Text for XML; control characters, which keys may hold, become references."""
    return _SPECIAL.sub(lambda m: _ESCAPES.get(m[0]) or f"&#x{ord(m[0]):x};", text)


def timestamp(moment: dt.datetime) -> str:
    """`2026-11-22T04:00:00.123Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def error(failure: S3Error, resource: str, request_id: str) -> bytes:
    """The Error document."""
    content = (
        element("Code", failure.code)
        + element("Message", failure.message)
        + element("Resource", resource)
        + element("RequestId", request_id)
    )
    return f"{_HEAD}<Error>{content}</Error>".encode()


def buckets(found: Iterable[Bucket]) -> bytes:
    """ListBuckets."""
    items = "".join(
        f"<Bucket>{element('Name', b.name)}{element('CreationDate', timestamp(b.created))}</Bucket>" for b in found
    )
    return document("ListAllMyBucketsResult", f"<Owner>{_OWNER}</Owner><Buckets>{items}</Buckets>")


def listing(bucket: str, page: Listing, fields: Mapping[str, str | int], *, encode: bool, owner: bool) -> bytes:
    """ListObjects, either version; `fields` are the elements in which they differ, already encoded by the caller."""
    head = element("Name", bucket) + "".join(element(name, value) for name, value in fields.items())
    head += element("IsTruncated", str(page.truncated).lower())
    if encode:
        head += element("EncodingType", "url")
    keys = "".join(_contents(k, encode=encode, owner=owner) for k in page.keys)
    prefixes = "".join(
        f"<CommonPrefixes>{element('Prefix', encoded(p, encode=encode))}</CommonPrefixes>" for p in page.prefixes
    )
    return document("ListBucketResult", head + keys + prefixes)


def encoded(text: str, *, encode: bool) -> str:
    """A key as encoding-type=url wants it, or as it is."""
    return urllib.parse.quote(text, safe="/-_.~*") if encode else text


def _contents(key: ListedKey, *, encode: bool, owner: bool) -> str:
    content = (
        element("Key", encoded(key.key, encode=encode))
        + element("LastModified", timestamp(key.modified))
        + element("ETag", f'"{key.etag}"')
        + element("Size", key.size)
        + "<StorageClass>STANDARD</StorageClass>"
    )
    if key.algorithm:
        content += element("ChecksumAlgorithm", key.algorithm) + element("ChecksumType", key.checksum_type)
    if owner:
        content += f"<Owner>{_OWNER}</Owner>"
    return f"<Contents>{content}</Contents>"


def copied(name: str, etag: str, modified: dt.datetime, checksum: Mapping[str, str]) -> bytes:
    """CopyObjectResult and CopyPartResult."""
    content = element("LastModified", timestamp(modified)) + element("ETag", f'"{etag}"')
    return document(name, content + "".join(element(k, v) for k, v in checksum.items()))


def deleted(gone: Iterable[str], failed: Iterable[tuple[str, S3Error]]) -> bytes:
    """DeleteResult."""
    content = "".join(f"<Deleted>{element('Key', key)}</Deleted>" for key in gone)
    content += "".join(
        f"<Error>{element('Key', key)}{element('Code', e.code)}{element('Message', e.message)}</Error>"
        for key, e in failed
    )
    return document("DeleteResult", content)


def initiated(upload: UploadRecord) -> bytes:
    """CreateMultipartUpload."""
    return document(
        "InitiateMultipartUploadResult",
        element("Bucket", upload.bucket) + element("Key", upload.key) + element("UploadId", upload.id),
    )


def completed(record: ObjectRecord, location: str) -> bytes:
    """CompleteMultipartUpload."""
    content = (
        element("Location", location)
        + element("Bucket", record.bucket)
        + element("Key", record.key)
        + element("ETag", f'"{record.etag}"')
    )
    if record.checksum:
        content += element(f"Checksum{record.checksum.algorithm}", record.checksum.value)
        content += element("ChecksumType", record.checksum.type)
    return document("CompleteMultipartUploadResult", content)


def parts(upload: UploadRecord, found: list[PartRecord], *, after: int, limit: int, truncated: bool) -> bytes:
    """ListParts."""
    content = (
        element("Bucket", upload.bucket)
        + element("Key", upload.key)
        + element("UploadId", upload.id)
        + f"<Initiator>{_OWNER}</Initiator><Owner>{_OWNER}</Owner><StorageClass>STANDARD</StorageClass>"
        + element("PartNumberMarker", after)
        + (element("NextPartNumberMarker", found[-1].number) if found else "")
        + element("MaxParts", limit)
        + element("IsTruncated", str(truncated).lower())
    )
    if upload.algorithm:
        content += element("ChecksumAlgorithm", upload.algorithm) + element("ChecksumType", upload.checksum_type)
    for part in found:
        item = (
            element("PartNumber", part.number)
            + element("LastModified", timestamp(part.modified))
            + element("ETag", f'"{part.etag}"')
            + element("Size", part.size)
        )
        if part.checksum and upload.algorithm:
            item += element(f"Checksum{upload.algorithm}", part.checksum)
        content += f"<Part>{item}</Part>"
    return document("ListPartsResult", content)


def uploads(
    bucket: str, found: list[UploadRecord], fields: Mapping[str, str | int], *, truncated: bool, encode: bool
) -> bytes:
    """ListMultipartUploads."""
    content = element("Bucket", bucket) + "".join(element(name, value) for name, value in fields.items())
    content += element("IsTruncated", str(truncated).lower())
    if encode:
        content += element("EncodingType", "url")
    for upload in found:
        content += (
            "<Upload>"
            + element("Key", encoded(upload.key, encode=encode))
            + element("UploadId", upload.id)
            + f"<Initiator>{_OWNER}</Initiator><Owner>{_OWNER}</Owner><StorageClass>STANDARD</StorageClass>"
            + element("Initiated", timestamp(upload.initiated))
            + "</Upload>"
        )
    return document("ListMultipartUploadsResult", content)


def tagging(tags: Mapping[str, str]) -> bytes:
    """GetObjectTagging."""
    items = "".join(f"<Tag>{element('Key', k)}{element('Value', v)}</Tag>" for k, v in tags.items())
    return document("Tagging", f"<TagSet>{items}</TagSet>")


def location() -> bytes:
    """GetBucketLocation: us-east-1 is the empty word."""
    return document("LocationConstraint", "")


def versioning() -> bytes:
    """GetBucketVersioning of a bucket that never had versioning."""
    return document("VersioningConfiguration", "")

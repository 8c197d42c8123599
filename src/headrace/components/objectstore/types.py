"""Values and errors of the object store, as the API and the index exchange them.

Invariant: an `S3Error` is the only exception that reaches a client with its own code; anything else is
`InternalError`, whose details stay in the log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import datetime as dt

ChecksumType = Literal["FULL_OBJECT", "COMPOSITE"]

_STATUS: dict[str, tuple[int, str]] = {
    "AccessDenied": (403, "Access Denied."),
    "AuthorizationHeaderMalformed": (400, "The authorization header that you provided is not valid."),
    "AuthorizationQueryParametersError": (400, "The authorization query parameters that you provided are not valid."),
    "BadDigest": (400, "The Content-MD5 or checksum value that you specified did not match what we received."),
    "BucketAlreadyOwnedByYou": (409, "Your previous request to create the named bucket succeeded and you own it."),
    "BucketNotEmpty": (409, "The bucket that you tried to delete is not empty: delete its objects first."),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed object size."),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size of a part, 5 MiB."),
    "IncompleteBody": (400, "You did not provide the number of bytes specified by the Content-Length header."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (403, "The access key ID that you provided does not exist in our records."),
    "InvalidArgument": (400, "Invalid argument."),
    "InvalidBucketName": (400, "The specified bucket is not valid."),
    "InvalidDigest": (400, "The Content-MD5 that you specified is not valid."),
    "InvalidPart": (
        400,
        "One of the specified parts could not be found, or its entity tag is not the one that was specified.",
    ),
    "InvalidPartOrder": (400, "The list of parts was not in ascending order."),
    "InvalidRange": (416, "The requested range is not satisfiable."),
    "InvalidRequest": (400, "Invalid request."),
    "InvalidStorageClass": (400, "The storage class that you specified is not valid: only STANDARD exists here."),
    "InvalidTag": (400, "The tag provided was not a valid tag."),
    "InvalidURI": (400, "The specified URI could not be parsed: keys must be percent-encoded UTF-8."),
    "KeyTooLongError": (400, "Your key is too long: at most 1024 bytes of UTF-8."),
    "MalformedXML": (400, "The XML that you provided was not well formed or did not validate."),
    "MetadataTooLarge": (400, "Your metadata headers exceed the maximum allowed metadata size, 2 KB."),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "MissingSecurityHeader": (400, "Your request was missing a required header: x-amz-content-sha256."),
    "NoSuchBucket": (404, "The specified bucket does not exist."),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (404, "The specified multipart upload does not exist: it may have been aborted or completed."),
    "NotImplemented": (501, "A header or query that you provided implies functionality that is not implemented."),
    "OperationAborted": (409, "A conflicting operation changed the source meanwhile. Please try again."),
    "PreconditionFailed": (412, "At least one of the preconditions that you specified did not hold."),
    "RequestTimeTooSkewed": (403, "The difference between the request time and the server's time is too large."),
    "RequestTimeout": (400, "Your socket connection to the server was not read from within the timeout period."),
    "SignatureDoesNotMatch": (
        403,
        "The request signature that we calculated does not match yours: check your secret access key.",
    ),
    "StorageFull": (507, "The disk that holds the object store is full: free some space and try again."),
    "StorageUnwritable": (507, "The disk that holds the object store cannot be written to: make it so and try again."),
    "XAmzContentSHA256Mismatch": (
        400,
        "The provided x-amz-content-sha256 header does not match what was computed.",
    ),
}


class S3Error(Exception):
    """An answer of the S3 dialect; `code` is the identity."""

    def __init__(self, code: str, message: str = "", headers: dict[str, str] | None = None) -> None:
        self.status, default = _STATUS[code]
        super().__init__(f"{code}: {message or default}")
        self.code = code
        self.message = message or default
        self.headers = headers or {}


class NotModified(Exception):
    """A conditional read found nothing new: 304 without a body."""

    status = HTTPStatus.NOT_MODIFIED

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__("not modified")
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a key pair belongs to: the administrator, or one profile's namespace."""

    access_key: str
    secret_key: str = field(repr=False)
    namespace: str = ""
    """Empty for the administrator, who reaches everything."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of bytes in one content file."""

    blob: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Checksum:
    """An additional checksum (CRC32, SHA256 …); `value` is base64, with `-N` behind it when composite."""

    algorithm: str
    value: str
    type: ChecksumType = "FULL_OBJECT"


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """An object as the index knows it."""

    bucket: str
    key: str
    size: int
    etag: str
    """Without quotes."""
    modified: dt.datetime
    headers: dict[str, str] = field(default_factory=dict)
    """Content headers and x-amz-meta-*, lower case, as they are sent back."""
    tags: dict[str, str] = field(default_factory=dict)
    checksum: Checksum | None = None
    segments: tuple[Segment, ...] = ()
    part_sizes: tuple[int, ...] = ()
    """Sizes of the parts of a multipart upload; empty for a simple PUT."""


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """A multipart upload in progress."""

    id: str
    bucket: str
    key: str
    initiated: dt.datetime
    headers: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    algorithm: str = ""
    checksum_type: ChecksumType = "COMPOSITE"


@dataclass(frozen=True, slots=True)
class PartRecord:
    """One uploaded part."""

    number: int
    size: int
    etag: str
    modified: dt.datetime
    checksum: str = ""
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class Preconditions:
    """If-Match, If-None-Match and the two dates; empty means not asked for."""

    if_match: str = ""
    if_none_match: str = ""
    if_modified_since: dt.datetime | None = None
    if_unmodified_since: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class ListedKey:
    """One line of a listing."""

    key: str
    size: int
    etag: str
    modified: dt.datetime
    algorithm: str = ""
    checksum_type: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of keys and common prefixes; `next_marker` is where the next page begins (exclusive)."""

    keys: list[ListedKey]
    prefixes: list[str]
    next_marker: str = ""
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket."""

    name: str
    created: dt.datetime

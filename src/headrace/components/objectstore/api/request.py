"""An HTTP request as the operations see it, and the answer they give."""

from __future__ import annotations

import datetime as dt
import email.utils
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.components.objectstore.types import Preconditions, Principal, S3Error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from headrace.components.objectstore.api.signature import ChunkKey

MAX_KEY = 1024
STORED_HEADERS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
)
DEFAULT_TYPE = "binary/octet-stream"
MAX_METADATA = 2048


@dataclass(slots=True)
class Request:
    """A parsed request. `principal`, `payload` and `chunk_key` are set once it is authenticated."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    bucket: str
    key: str
    virtual_host: bool
    id: str
    now: dt.datetime
    receive: Callable[[], Awaitable[Any]]
    principal: Principal | None = None
    payload: str = ""
    chunk_key: ChunkKey | None = None
    arguments: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.arguments = dict(self.query)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A number from the query. Raises InvalidArgument."""
        text = self.arguments.get(name)
        if not text:
            return default
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise S3Error("InvalidArgument", f"Argument {name} must be an integer of at least {low}.")
        return min(value, high)

    def preconditions(self, prefix: str = "") -> Preconditions:
        """The conditional headers; `prefix` is `x-amz-copy-source-` for a copy's source."""
        headers = self.headers
        return Preconditions(
            headers.get(f"{prefix}if-match", ""),
            headers.get(f"{prefix}if-none-match", ""),
            _date(headers.get(f"{prefix}if-modified-since", "")),
            _date(headers.get(f"{prefix}if-unmodified-since", "")),
        )


@dataclass(slots=True)
class Answer:
    """What is sent back; a streamed body announces its length, and `done` is called when it has ended."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: AsyncGenerator[bytes] | None = None
    done: Callable[[], None] | None = None


def xml(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """An XML answer."""
    return Answer(status, {"content-type": "application/xml", **(headers or {})}, body)


def parse_query(raw: bytes) -> list[tuple[str, str]]:
    """Decoded pairs in the order sent. Raises InvalidURI."""
    try:
        return [
            (
                urllib.parse.unquote_plus(name, errors="strict"),
                urllib.parse.unquote_plus(value, errors="strict"),
            )
            for name, _, value in (item.partition("=") for item in raw.decode("latin-1").split("&") if item)
        ]
    except UnicodeDecodeError:
        raise S3Error("InvalidURI") from None


def parse_path(raw: bytes) -> str:
    """The decoded path. Raises InvalidURI."""
    try:
        return urllib.parse.unquote(raw.decode("latin-1").partition("?")[0], errors="strict")
    except UnicodeDecodeError:
        raise S3Error("InvalidURI") from None


def parse_headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Lower-case names; repeated headers joined by commas."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def locate(path: str, host: str, domains: tuple[str, ...]) -> tuple[str, str, bool]:
    """(bucket, key, whether the bucket is in the Host header). Raises InvalidURI, KeyTooLongError.

    `domains` are the names under which the store itself is known; what stands before one is a bucket.
    """
    name = host.partition(":")[0].lower()
    bucket = next((name[: -len(d) - 1] for d in domains if name.endswith(f".{d}")), "")
    if name in domains:
        bucket = ""
    if bucket:
        key = path.removeprefix("/")
    else:
        in_path, _, key = path.removeprefix("/").partition("/")
        return in_path, _checked(key), False
    return bucket, _checked(key), True


def _checked(key: str) -> str:
    if len(key.encode()) > MAX_KEY:
        raise S3Error("KeyTooLongError")
    return key


def stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What of a write's headers is kept with the object and sent back. Raises MetadataTooLarge."""
    kept = {name: headers[name] for name in STORED_HEADERS if headers.get(name)}
    encodings = [e.strip() for e in kept.pop("content-encoding", "").split(",")]
    encodings = [e for e in encodings if e and e.lower() != "aws-chunked"]
    if encodings:
        kept["content-encoding"] = ",".join(encodings)
    kept.setdefault("content-type", DEFAULT_TYPE)
    metadata = {name: value for name, value in headers.items() if name.startswith("x-amz-meta-")}
    if sum(len(n) - len("x-amz-meta-") + len(v) for n, v in metadata.items()) > MAX_METADATA:
        raise S3Error("MetadataTooLarge")
    return kept | metadata


def parse_tags(text: str) -> dict[str, str]:
    """The x-amz-tagging header. Raises InvalidTag."""
    tags = urllib.parse.parse_qsl(text, keep_blank_values=True)
    return check_tags(tags)


def check_tags(tags: list[tuple[str, str]]) -> dict[str, str]:
    """S3's limits: 10 tags, keys of 128, values of 256 characters, no key twice. Raises InvalidTag."""
    found = dict(tags)
    if len(found) != len(tags):
        raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key.")
    if len(found) > 10:
        raise S3Error("InvalidTag", "Object tags cannot be greater than 10.")
    if any(not key or len(key) > 128 or len(value) > 256 for key, value in tags):
        raise S3Error("InvalidTag", "A tag key has 1 to 128 characters, a tag value at most 256.")
    return found


def http_date(moment: dt.datetime) -> str:
    """`Sun, 22 Nov 2026 04:00:00 GMT`."""
    return email.utils.format_datetime(moment.astimezone(dt.UTC), usegmt=True)


def _date(text: str) -> dt.datetime | None:
    if not text:
        return None
    try:
        found = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None  # RFC 9110: a date that does not parse is ignored
    return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found

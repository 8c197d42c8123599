"""Requests and responses over raw ASGI: just enough of HTTP for the Kubernetes API, with nothing in between.

Invariants: a body is read at most once and never beyond `MAX_BODY`; a `Response` has its whole body and is sent in
one piece; whatever streams is an object of its own with `send`.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import select
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

from headrace.api import _wire, _yaml
from headrace.api.errors import BadRequest, RequestEntityTooLarge, StatusError, UnsupportedMediaType
from headrace.apiserver.http import protobuf
from headrace.apiserver.http.heads import Head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from headrace.api.identity import User
    from headrace.apiserver.http.heads import Header

MAX_BODY = 3 * 1024 * 1024
MAX_YAML_VALUES = 1_000_000
JSON = b"application/json"
YAML = b"application/yaml"
TEXT = b"text/plain; charset=utf-8"


class Connection:
    """What is known of a connection for as long as it lasts: the user that its client certificate names, and whether
    the client has hung up (which is not heard of while nothing is read from it).
    """

    __slots__ = ("_socket", "sent", "user")

    def __init__(self, user: User | None = None, socket: Any = None) -> None:
        self.user, self._socket = user, socket
        self.sent = b""
        """The bytes of the request that is being answered, where they came alone and in one piece."""

    def hung_up(self) -> bool:
        """Whether nothing more will come than what has been received already."""
        if self._socket is None or self._socket.fileno() < 0:
            return self._socket is not None
        poll = select.poll()
        poll.register(self._socket.fileno(), getattr(select, "POLLRDHUP", 0))
        return bool(poll.poll(0))


NO_CONNECTION = Connection()


class Request:
    """One request, parsed as far as anybody asks."""

    __slots__ = ("_body", "_passed_on", "_query", "_receive", "connection", "head", "method", "path", "scope")

    def __init__(self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        state: dict[str, Any] = scope.get("state") or {}
        self.connection: Connection = state.get("connection") or NO_CONNECTION
        """What the server's protocol knows of the peer."""
        self.head: Head = state.get("head") or Head(scope["headers"])
        self._receive = receive
        self._query: dict[str, str] | None = None
        self._body: bytes | None = state.get("body")
        self._passed_on: asyncio.Event | None = None

    @property
    def headers(self) -> dict[bytes, bytes]:
        """By name, in lower case."""
        return self.head.values

    def header(self, name: bytes) -> str:
        """A header's value, "" when absent."""
        return self.head.text(name)

    @property
    def query(self) -> dict[str, str]:
        """Query parameters; of repeated ones the first counts, as in Go's url.Values.Get."""
        if self._query is None:
            parsed: dict[str, str] = {}
            raw = self.scope.get("query_string") or b""
            if raw:
                for key, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True):
                    parsed.setdefault(key, value)
            self._query = parsed
        return self._query

    def flag(self, name: str) -> bool:
        """A boolean parameter. Raises BadRequest."""
        value = self.query.get(name, "").lower()
        if value in {"", "0", "false", "f"}:
            return False
        if value in {"1", "true", "t"}:
            return True
        raise BadRequest(f'invalid value "{value}" of query parameter {name}: must be true or false')

    def integer(self, name: str) -> int | None:
        """A number. Raises BadRequest."""
        value = self.query.get(name, "")
        if not value:
            return None
        try:
            return int(value)
        except ValueError as error:
            raise BadRequest(f'invalid value "{value}" of query parameter {name}: must be a number') from error

    async def body(self) -> bytes:
        """The whole body. Raises RequestEntityTooLarge."""
        if self._body is None:
            declared = self.headers.get(b"content-length", b"0")
            if declared.isdigit() and int(declared) > MAX_BODY:
                raise _too_large()
            parts: list[bytes] = []
            size = 0
            while True:
                message = await self._receive()
                if message["type"] != "http.request":
                    raise BadRequest("the client went away before its request was complete")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MAX_BODY:
                    raise _too_large()
                if not message.get("more_body"):
                    break
            self._body = b"".join(parts)
        return self._body

    async def decoded(self) -> Any:
        """The body as plain JSON values, from JSON or YAML. Raises BadRequest, UnsupportedMediaType."""
        return decode(await self.body(), self.header(b"content-type"))

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, without a limit: for bodies that are only passed on."""
        self._passed_on = asyncio.Event()
        try:
            while True:
                message = await self._receive()
                if message["type"] != "http.request":
                    raise BadRequest("the client went away before its request was complete")
                if message.get("body"):
                    yield message["body"]
                if not message.get("more_body"):
                    return
        finally:
            self._passed_on.set()

    async def gone(self) -> None:
        """Return when the client has gone away."""
        if self._passed_on is not None:
            await self._passed_on.wait()  # whoever passes the body on must get all of it
        while (await self._receive())["type"] not in {"http.disconnect", "websocket.disconnect"}:
            continue


def _too_large() -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"Request entity too large: limit is {MAX_BODY} bytes")


def media_type(content_type: str) -> str:
    """The type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def decode(body: bytes, content_type: str) -> Any:
    """Plain JSON values out of a body. Raises BadRequest, UnsupportedMediaType."""
    kind = media_type(content_type)
    if kind in {"", "application/json"} or kind.endswith("+json"):
        try:
            return _wire.decode_any(body)
        except _wire.DecodeError as error:
            raise BadRequest(f"the body is not JSON: {error}") from error
        except RecursionError as error:
            raise BadRequest("the body is nested too deeply") from error
    if kind in {"application/yaml", "text/yaml", "application/x-yaml"} or kind.endswith("+yaml"):
        return decode_yaml(body)
    if kind == protobuf.MEDIA:
        return protobuf.decode(body)
    raise UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: application/json, "
        f"application/yaml, {protobuf.MEDIA} (got {kind})"
    )


def decode_yaml(body: bytes) -> Any:
    """Plain JSON values out of one YAML document. Raises BadRequest."""
    try:
        found = _yaml.documents(body)
        if len(found) > 1:
            raise BadRequest(f"the body has {len(found)} YAML documents: send one at a time")
        loaded = found[0] if found else None
        if _expanded(loaded, {}) > MAX_YAML_VALUES:
            raise BadRequest(f"the body has aliases that expand to more than {MAX_YAML_VALUES} values")
        return _wire.decode_any(_wire.encode(loaded))  # refuses what JSON cannot say
    except (_yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not YAML that JSON can express: {error}") from error


def _expanded(value: Any, known: dict[int, int]) -> int:
    """How many values there are when every alias is written out; a value that contains itself counts as endless."""
    if not isinstance(value, dict | list):
        return 1
    found = known.get(id(value))
    if found is None:
        known[id(value)] = MAX_YAML_VALUES + 1
        inner = value.values() if isinstance(value, dict) else value
        found = known[id(value)] = 1 + sum(_expanded(v, known) for v in inner)
    return found


class Sendable(Protocol):
    """Anything that can answer a request."""

    status: int

    async def send(self, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Send it."""
        ...


@dataclass(slots=True)
class Response:
    """A whole response."""

    body: bytes = b""
    status: int = 200
    media: bytes = JSON
    headers: tuple[Header, ...] = ()

    async def send(self, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Head and body."""
        head: list[Header] = [
            (b"content-type", self.media),
            (b"content-length", b"%d" % len(self.body)),
            (b"cache-control", b"no-cache, private"),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": head})
        await send({"type": "http.response.body", "body": self.body})


def json(value: object, status: int = 200, headers: tuple[Header, ...] = ()) -> Response:
    """A JSON response of plain values."""
    return Response(_wire.encode(value), status, JSON, headers)


def text(value: str, status: int = 200) -> Response:
    """A plain text response."""
    return Response(value.encode(), status, TEXT)


def failure(error: StatusError) -> Response:
    """The error as a `Status`."""
    headers: tuple[Header, ...] = ()
    if error.retry_after is not None:
        headers = ((b"retry-after", b"%d" % error.retry_after),)
    if error.code == 401:
        headers = (*headers, (b"www-authenticate", b'Bearer realm="headrace"'))
    status = error.to_status()
    return json(status, status["code"], headers)


def success(details: dict[str, Any], status: int = 200, headers: tuple[Header, ...] = ()) -> Response:
    """A `Status` that says that something was done."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {k: v for k, v in details.items() if v},
    }
    return json(body, status, headers)


def warning_headers(warnings: Iterable[str]) -> tuple[Header, ...]:
    """Warnings for people, one header each (RFC 7234, code 299)."""
    return tuple((b"warning", f'299 - "{_quoted(w)}"'.encode("ascii", "replace")) for w in warnings)


def _quoted(warning: str) -> str:
    flat = "".join(c if c.isprintable() else " " for c in warning)
    return flat.replace("\\", "\\\\").replace('"', '\\"')


@functools.lru_cache(maxsize=256)
def etag(body: bytes) -> bytes:
    """A strong validator for documents that clients keep."""
    return b'"' + hashlib.sha256(body).hexdigest().encode() + b'"'


def cacheable(request: Request, body: bytes, media: bytes = JSON, extra: tuple[Header, ...] = ()) -> Response:
    """A document that a client may keep: 304 when it has it already."""
    tag = etag(body)
    headers: tuple[Header, ...] = ((b"etag", tag), (b"vary", b"Accept"), *extra)
    if request.headers.get(b"if-none-match") == tag:
        return Response(b"", 304, media, headers)
    return Response(body, 200, media, headers)

"""The pages' way into the REST API: the same code, the same rights and the same sentences as a client gets.

A call is a request to the API's application in this process, in the name of the person who looks at the page. What it
refuses is a PageError with the API's own words.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from headrace.api import _wire
from headrace.machinery.pages import PageError
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.api.identity import User
    from headrace.machinery.pages import Upload

WRONG, DENIED, MISSING = 400, 403, 404


class Calls:
    """`app` is the ASGI application of v2beta1."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def get(self, user: User, path: str, **query: str) -> dict[str, Any]:
        """What GET answers. Raises PageError."""
        return await self._json(user, "GET", path, query)

    async def post(self, user: User, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        """What POST answers. Raises PageError."""
        raw = b"" if body is None else _wire.encode(body)
        return await self._json(user, "POST", path, query, raw, "application/json")

    async def delete(self, user: User, path: str, **query: str) -> dict[str, Any]:
        """What DELETE answers. Raises PageError."""
        return await self._json(user, "DELETE", path, query)

    async def patch(self, user: User, path: str, body: Any) -> dict[str, Any]:
        """What PATCH answers. Raises PageError."""
        return await self._json(user, "PATCH", path, {}, _wire.encode(body), "application/json")

    async def put(self, user: User, path: str, content: bytes, **query: str) -> dict[str, Any]:
        """PUT of bytes. Raises PageError."""
        return await self._json(user, "PUT", path, query, content, "application/octet-stream")

    async def upload(self, user: User, path: str, file: Upload, **query: str) -> dict[str, Any]:
        """A file, as clients upload pipelines. Raises PageError."""
        boundary = secrets.token_hex(16)
        head = (
            f'--{boundary}\r\ncontent-disposition: form-data; name="uploadfile"; filename="{quote(file.name)}"\r\n'
            "content-type: application/octet-stream\r\n\r\n"
        )
        raw = head.encode() + file.content + f"\r\n--{boundary}--\r\n".encode()
        return await self._json(user, "POST", path, query, raw, f"multipart/form-data; boundary={boundary}")

    async def _json(  # noqa: PLR0917 - the parts of one request
        self, user: User, method: str, path: str, query: Mapping[str, str], body: bytes = b"", kind: str = ""
    ) -> dict[str, Any]:
        status, raw = await self._ask(user, method, path, query, body, kind)
        found: dict[str, Any] = _wire.decode(dict[str, Any], raw) if raw else {}
        if status < 300:
            return found
        titles = {WRONG: _("That does not fit"), DENIED: _("Not yours to do"), MISSING: _("It is not there")}
        title = titles.get(status, _("That did not work"))
        raise PageError(status, title, found.get("message") or f"{method} {path}: {status}")

    async def _ask(  # noqa: PLR0917 - the parts of one request
        self, user: User, method: str, path: str, query: Mapping[str, str], body: bytes, kind: str
    ) -> tuple[int, bytes]:
        headers = [(b"content-length", str(len(body)).encode())]
        if kind:
            headers.append((b"content-type", kind.encode()))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "client": None,
            "method": method,
            "path": path,
            "raw_path": quote(path).encode(),
            "root_path": "",
            "query_string": urlencode(query).encode(),
            "headers": headers,
            "state": {"user": user},
        }
        sent = False
        status, parts = 500, []

        async def receive() -> Any:
            nonlocal sent
            if sent:
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                parts.append(message.get("body", b""))

        await self._app(scope, receive, send)
        return status, b"".join(parts)


def segment(ident: str) -> str:
    """An id from an address, fit for a path: what could leave its place is refused."""
    if not ident or "/" in ident or ":" in ident:
        raise PageError(MISSING, _("It is not there"), _("{id} is not an id of this platform.", id=repr(ident[:80])))
    return ident

"""What the small JSON APIs behind the gateway read of a request: who asks, and a body within a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.errors import BadRequest

if TYPE_CHECKING:
    from starlette.requests import Request

    from headrace.api.identity import User

MAX_BODY = 65536
"""Bytes. What these APIs take is small; files go elsewhere."""


def sender(request: Request) -> User:
    """Who asks, as the gateway has found out."""
    user: User = request.scope["state"]["user"]
    return user


async def read_body(request: Request) -> bytes:
    """The whole body. Raises BadRequest when it is larger than MAX_BODY."""
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY:
            raise BadRequest(f"the body is larger than {MAX_BODY} bytes")
    return raw


def json_object(raw: bytes) -> dict[str, Any]:
    """A body that is a JSON object. Raises BadRequest."""
    try:
        found = _wire.decode_any(raw)
    except _wire.DecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadRequest("the body must be a JSON object")
    return found

"""WebSockets into mounted apps: only from this site's own pages, only as long as the credential is valid.

A browser sends its cookies with a WebSocket that any site's page opens, and no rule of CORS stops it. Invariants: a
WebSocket with an Origin other than the host that is asked is refused; one without an Origin must bear a token; when
the session or token has ended, the connection ends within CHECK_SECONDS.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from headrace.api.errors import StatusError
from headrace.gateway import pages
from headrace.gateway.senders import Refusal
from headrace.machinery.sameorigin import foreign_site

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from headrace.machinery.people import Sender

UNSUPPORTED = "WebSocket connections are not passed on yet."
CHECK_SECONDS = 30.0
POLICY = 1008


def foreign(scope: dict[str, Any]) -> str:
    """Why the handshake is refused before anybody asks who sends it; empty when it is not."""
    names = {name for name, _value in scope["headers"]}
    if foreign_site(scope) or foreign_site({"headers": [h for h in scope["headers"] if h[0] != b"sec-fetch-site"]}):
        return "Another site's page asked for this WebSocket, so it is not opened."
    if b"origin" not in names and b"authorization" not in names:
        return "A WebSocket without an Origin needs a bearer token."
    return ""


async def refuse(scope: dict[str, Any], receive: Any, send: Any, status: int, words: str) -> None:
    """Answer the handshake as if there had been no question of a WebSocket, where the server can."""
    await receive()
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": POLICY, "reason": words[:120]})
        return

    async def respond(message: dict[str, Any]) -> None:
        await send({**message, "type": message["type"].replace("http.response", "websocket.http.response")})

    if status == 401:
        await pages.unauthorized(respond, words)
    else:
        await pages.error(respond, status, words)


async def watched(
    app: Coroutine[Any, Any, None], identify: Callable[[], Awaitable[Sender | Refusal]], send: Any
) -> None:
    """Run the app, until it is done or its sender is not let in any more."""
    task = asyncio.ensure_future(app)
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=CHECK_SECONDS)
            if done:
                break
            with contextlib.suppress(StatusError):  # who it is cannot be known at the moment: ask again later
                if isinstance(await identify(), Refusal):
                    break
        if task.done():
            task.result()
            return
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    with contextlib.suppress(OSError, RuntimeError):  # the browser may have gone
        await send({"type": "websocket.close", "code": POLICY, "reason": "The session has ended."})

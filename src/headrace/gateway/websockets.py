"""WebSockets, into mounted apps and on to pods: only from this site's own pages, only while the credential is valid.

A browser sends its cookies with a WebSocket that any site's page opens, and no rule of CORS stops it. Invariants: a
WebSocket with an Origin other than the host that is asked is refused; one without an Origin must bear a token; when
the session or token has ended, the connection ends within CHECK_SECONDS; a pod gets the headers that it would get of
any request, and its bytes pass as they are (`machinery.tunnel`) once it has answered the handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from headrace.api.errors import StatusError
from headrace.gateway.proxy import request_headers
from headrace.gateway.senders import Refusal
from headrace.gateway.upstream import HOP_BY_HOP, TimedOut, Unreachable, UpstreamError
from headrace.machinery.sameorigin import foreign_site

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from headrace.gateway.carry import Passage
    from headrace.gateway.upstream import Address, Pool
    from headrace.machinery.people import Sender
    from headrace.machinery.tunnel import Upstream

NONE_HERE = "No WebSocket is served at this address."
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


def answering(send: Any) -> Any:
    """`send`, by which a handshake can also be answered as if there had been no question of a WebSocket."""

    async def respond(message: dict[str, Any]) -> None:
        kind = message["type"]
        await send({**message, "type": f"websocket.{kind}"} if kind.startswith("http.response") else message)

    return respond


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


async def pass_on(pool: Pool, passage: Passage, addresses: Sequence[Address]) -> None:
    """Until either side has ended; a pod that refuses is heard. Raises UpstreamError before anything was answered."""
    from headrace.machinery.tunnel import TUNNEL  # noqa: PLC0415 - with the first WebSocket

    scope, send, sandboxed = passage.scope, passage.send, passage.sandboxed
    headers = request_headers(scope, passage.user)
    for name, value in ((b"protocol", ", ".join(scope["subprotocols"])), (b"extensions", scope["extensions"][TUNNEL])):
        if value:
            headers.append((b"sec-websocket-" + name, value.encode("latin-1")))
    address, upstream = await _asked(pool, addresses, passage.target, headers, passage.timeout)
    answer = upstream.answer.result()
    dropped = HOP_BY_HOP | ({b"set-cookie"} if sandboxed else frozenset())
    kept = [header for header in answer.headers if header[0] not in dropped]
    if answer.status == 101:
        address.active += 1
        try:
            await send({"type": TUNNEL, "upstream": upstream, "headers": kept})
        finally:
            address.active -= 1
            upstream.close()
        return
    upstream.close()
    kept = [header for header in kept if header[0] != b"content-length"]
    kept.append((b"content-length", b"%d" % len(answer.body)))
    if sandboxed:
        kept += [(b"content-security-policy", b"sandbox"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": answer.status, "headers": kept})
    await send({"type": "http.response.body", "body": answer.body})


async def _asked(
    pool: Pool, addresses: Sequence[Address], target: bytes, headers: list[tuple[bytes, bytes]], timeout: float
) -> tuple[Address, Upstream]:
    """Who answered the handshake. Raises UpstreamError."""
    from headrace.machinery.tunnel import HandshakeFailed, Upstream  # noqa: PLC0415 - with the first WebSocket

    failure = Unreachable("No pod could be reached.")
    for address in sorted(addresses, key=lambda each: each.active):
        try:
            sock = await pool.dial(address)
        except Unreachable as error:
            failure = error
            continue
        try:
            return address, await Upstream.ask(sock, target, headers, timeout)
        except TimeoutError as error:
            raise TimedOut(f"The server did not answer the handshake within {timeout:g} seconds.") from error
        except (OSError, HandshakeFailed) as error:
            raise UpstreamError(str(error)) from error
    raise failure

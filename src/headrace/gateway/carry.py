"""A request that may, on its way to pods: HTTP as an exchange, a WebSocket as a tunnel; what is said when it fails."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.gateway import pages, websockets
from headrace.gateway.proxy import Exchange, forward
from headrace.gateway.upstream import TimedOut, Unreachable, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.api.identity import User
    from headrace.gateway.upstream import Address, Pool
    from headrace.machinery.virtualservice import Retries

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Passage:
    """An authorized request, and how the pod is asked."""

    scope: dict[str, Any]
    receive: Any
    send: Any
    user: User
    target: bytes
    timeout: float
    whose: str
    """What the pods are, in words."""
    sandboxed: bool = False
    """The answer may run no script on this site, and sets no cookie."""
    retries: Retries | None = None


class _Again(UpstreamError):
    """The answer is one of those after which there is another attempt."""


class _Request:
    """What the client sends, which can be told again as long as it is one message."""

    def __init__(self, receive: Any) -> None:
        self._receive = receive
        self._first: dict[str, Any] | None = None
        self._told = False

    async def __call__(self) -> dict[str, Any]:
        """ASGI's receive."""
        if self._told:
            message: dict[str, Any] = await self._receive()
            return message
        if self._first is None:
            self._first = await self._receive()
        self._told = True
        return self._first

    @property
    def whole(self) -> bool:
        """Whether there is nothing more of it."""
        return self._first is not None and not self._first.get("more_body")

    def again(self) -> None:
        """Tell it from the beginning."""
        self._told = False


async def carry(pool: Pool, passage: Passage, addresses: Sequence[Address]) -> None:
    """Pass it on and answer."""
    if passage.scope["type"] == "websocket":
        try:
            await websockets.pass_on(pool, passage, addresses)
        except UpstreamError as failure:
            await _say(passage, failure)
    elif passage.retries is not None:
        await _carry_again(pool, passage, passage.retries, addresses)
    else:
        exchange = Exchange(pool, passage.scope, passage.receive, passage.send, sandboxed=passage.sandboxed)
        error = await _try(exchange, passage, addresses, passage.timeout)
        if error is not None:
            await _say(passage, error)


async def _carry_again(pool: Pool, passage: Passage, retries: Retries, addresses: Sequence[Address]) -> None:
    """As often as the route says; the last answer counts. The timeout is for all attempts together."""
    clock, request, left = asyncio.get_running_loop().time, _Request(passage.receive), retries.attempts
    ends = clock() + passage.timeout
    while True:

        async def send(message: dict[str, Any], more: int = left) -> None:
            if more and message.get("status") in retries.statuses and request.whole:
                raise _Again(f"It answered {message['status']}.")
            await passage.send(message)

        exchange = Exchange(pool, passage.scope, request, send, sandboxed=passage.sandboxed)
        patience = max(ends - clock(), 0.001)
        error = await _try(exchange, passage, addresses, min(retries.each or patience, patience))
        if error is None:
            return
        late = isinstance(error, TimedOut) and 504 not in retries.statuses
        if late or not left or not request.whole or clock() >= ends:
            await _say(passage, error)
            return
        left -= 1
        request.again()


async def _try(
    exchange: Exchange, passage: Passage, addresses: Sequence[Address], timeout: float
) -> UpstreamError | None:
    """What went wrong before anything was answered."""
    try:
        await forward(exchange, addresses, passage.target, passage.user, timeout)
    except UpstreamError as error:
        if not exchange.started:
            return error
        log.warning("%s: the answer broke off: %s", passage.whose, error)
    return None


async def _say(passage: Passage, error: UpstreamError) -> None:
    status = 504 if isinstance(error, TimedOut) else 503 if isinstance(error, Unreachable) else 502
    await pages.error(passage.send, status, f"{passage.whose}: {error}")

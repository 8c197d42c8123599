"""A request that may, on its way to pods: HTTP as an exchange, a WebSocket as a tunnel; what is said when it fails."""

from __future__ import annotations

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


async def carry(pool: Pool, passage: Passage, addresses: Sequence[Address]) -> None:
    """Pass it on and answer."""
    exchange = None
    try:
        if passage.scope["type"] == "websocket":
            await websockets.pass_on(pool, passage, addresses)
            return
        exchange = Exchange(pool, passage.scope, passage.receive, passage.send, sandboxed=passage.sandboxed)
        await forward(exchange, addresses, passage.target, passage.user, passage.timeout)
    except UpstreamError as error:
        if exchange is not None and exchange.started:
            log.warning("%s: the answer broke off: %s", passage.whose, error)
            return
        status = 504 if isinstance(error, TimedOut) else 503 if isinstance(error, Unreachable) else 502
        await pages.error(passage.send, status, f"{passage.whose}: {error}")

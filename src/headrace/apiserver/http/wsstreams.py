"""Watches and logs over a WebSocket, for clients that cannot read an endless answer: pages in browsers.

A watch sends one message of text an event. Logs come in the protocols of upstream's wsstream.Reader: bytes
(`binary.k8s.io`, or none), or base64 in messages of text (`base64.binary.k8s.io`), after an empty message that says
that the stream is open. What the client sends is not read, but its going away is.

A page can set no header, so its token may come among the subprotocols, beside the one that is spoken.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from headrace.api.errors import BadRequest, Unauthorized
from headrace.apiserver.http.streams import LogStream, WatchStream

if TYPE_CHECKING:
    from headrace.apiserver.http.messages import Sendable
    from headrace.apiserver.http.websocket import WebSocket

BEARER = "base64url.bearer.authorization.k8s.io."
BINARY, BASE64 = "binary.k8s.io", "base64.binary.k8s.io"


def bearer(socket: WebSocket) -> str:
    """The token among the subprotocols, which is taken out of them; empty when there is none. Raises Unauthorized."""
    tokens = [name.removeprefix(BEARER) for name in socket.offered if name.startswith(BEARER)]
    if not tokens:
        return ""
    socket.offered = tuple(name for name in socket.offered if not name.startswith(BEARER))
    try:
        if len(tokens) != 1 or not socket.offered:  # there must be one to answer with
            raise Unauthorized("Unauthorized")
        return base64.urlsafe_b64decode(tokens[0] + "=" * (-len(tokens[0]) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Unauthorized("Unauthorized") from error


async def stream(socket: WebSocket, answer: Sendable) -> bool:
    """Send a watch or logs by messages; False for an answer that is neither. Raises BadRequest before it begins."""
    if isinstance(answer, WatchStream):
        protocol, logs = next(iter(socket.offered), ""), False
    elif isinstance(answer, LogStream):
        try:
            protocol, logs = _chosen(socket), True
        except BadRequest:
            await answer.close()
            raise
    else:
        return False

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await socket.accept(protocol)
            if logs:
                await (socket.send_text("") if protocol == BASE64 else socket.send(b""))
        elif not message["body"]:
            return
        elif not logs:
            await socket.send_text(message["body"].decode())
        elif protocol == BASE64:
            await socket.send_text(base64.b64encode(message["body"]).decode())
        else:
            await socket.send(message["body"])

    await answer.send(send)
    await socket.close()
    return True


def _chosen(socket: WebSocket) -> str:
    if not socket.offered:
        return ""
    for name in socket.offered:
        if name in {BINARY, BASE64}:
            return name
    raise BadRequest(
        f"no subprotocol in common: the client offers {', '.join(socket.offered)}, here are {BINARY} and {BASE64}"
    )

"""Whole answers in one piece: head and body in a single write, so a single TLS record and a single system call.

uvicorn writes the head when it hears of it and the body after that, each message checked on its way. For the answers
that most requests get, complete and of a known length, none of that can find anything; they go straight to the
connection, which is left as uvicorn itself would leave it. Everything else takes the usual way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

if TYPE_CHECKING:
    from headrace.apiserver.http.messages import Request, Response

MAX_BODY = 1 << 18
"""Beyond this, joining head and body costs more than a second write."""
_REASONS = {200: b"OK", 201: b"Created"}
_HEAD = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\ncache-control: no-cache, private\r\n\r\n%b"


def sent(request: Request, answer: Response, send: Any) -> bool:
    """Whether the answer has gone out; if not, nothing has happened."""
    reason = _REASONS.get(answer.status)
    if reason is None or answer.headers or request.method == "HEAD" or len(answer.body) > MAX_BODY:
        return False
    cycle = getattr(send, "__self__", None)  # where `send` is wrapped, somebody wants to see the messages
    if (
        type(cycle) is not RequestResponseCycle
        or not cycle.keep_alive
        or cycle.disconnected
        or cycle.response_started
        or cycle.waiting_for_100_continue
        or cycle.default_headers
        or cycle.access_log
        or cycle.flow.write_paused
    ):
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.message_event.set()
    cycle.transport.write(_HEAD % (answer.status, reason, answer.media, len(answer.body), answer.body))
    cycle.on_response()
    return True

"""Reads that a client sends again, byte for byte, answered without being parsed again.

Clients that poll one object over a kept connection send the same bytes each time. Once such a request has been
answered the usual way, its bytes lead straight to what it asks for. Nothing else is remembered: who asks, whether
they may and what the object is now are found out anew for every request, and whatever is not a plain success is
left to the usual way, which has the words for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.api.errors import StatusError
from headrace.api.identity import UNAUTHENTICATED

if TYPE_CHECKING:
    from headrace.api.meta import KindInfo
    from headrace.apiserver.authn.requests import Requests
    from headrace.apiserver.http.health import Metrics
    from headrace.apiserver.http.messages import Connection, Request
    from headrace.apiserver.http.targets import Target
    from headrace.apiserver.registry import Registry

REMEMBERED = 2048
MAX_BYTES = 4096
_END = b"\r\n\r\n"
_ELSEWHERE = frozenset({b"connection", b"content-length", b"expect", b"transfer-encoding", b"upgrade"})
"""Headers with which a request is more than its bytes."""
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"cache-control: no-cache, private\r\n\r\n%b"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request asks for."""

    authorization: str
    info: KindInfo
    name: str
    namespace: str


def is_whole(data: bytes) -> bool:
    """Whether these bytes, at the beginning of a message, are one request for an object's path without a body."""
    return (
        len(data) <= MAX_BYTES
        and data.startswith(b"GET /api")
        and data.endswith(_END)
        and data.index(_END) == len(data) - len(_END)
        and b" HTTP/1.1\r\n" in data
    )


class Repeats:
    """The requests that are known, and their answers."""

    def __init__(self, registry: Registry, who: Requests, metrics: Metrics) -> None:
        self._registry, self._who, self._metrics = registry, who, metrics
        self._plans: dict[bytes, Plan] = {}
        registry.kinds.on_change(self._plans.clear)
        registry.services.on_change(self._plans.clear)

    def learn(self, request: Request, info: KindInfo, target: Target) -> None:
        """A request for one object as it is has just been answered the usual way."""
        sent = request.connection.sent
        if not sent or request.method != "GET" or target.subresource or request.scope.get("query_string"):
            return
        if request.head.impersonates or not request.headers.keys().isdisjoint(_ELSEWHERE):
            return
        if len(self._plans) >= REMEMBERED:
            self._plans.clear()
        self._plans[sent] = Plan(request.head.authorization, info, target.name, target.namespace)

    def answer(self, sent: bytes, connection: Connection) -> bytes | None:
        """The whole answer; None when the request is not known, or not plainly granted."""
        plan = self._plans.get(sent)
        if plan is None:
            return None
        try:
            user = self._who.known(plan.authorization, connection.user)
            if UNAUTHENTICATED in user.groups:
                return None
            body = self._registry.read(user, plan.info, plan.name, plan.namespace)
        except StatusError:
            return None
        self._metrics.count("GET", 200)
        return _HEAD % (len(body), body)

"""Which endpoint a client had: sessionAffinity ClientIP."""

from __future__ import annotations

MAX_REMEMBERED = 10_000


class Affinity:
    """Remembers an endpoint's address by service and client, until it has not been used for so many seconds."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], tuple[str, float]] = {}

    def get(self, service: str, client: str, now: float) -> str:
        """The address; empty when the client is new or has been away for too long."""
        ip, until = self._held.get((service, client), ("", 0.0))
        return ip if now < until else ""

    def put(self, service: str, client: str, ip: str, now: float, seconds: float) -> None:
        """The client is with this endpoint now."""
        self._held.pop((service, client), None)
        if len(self._held) >= MAX_REMEMBERED:
            del self._held[next(iter(self._held))]  # whoever has been away longest
        self._held[service, client] = (ip, now + seconds)

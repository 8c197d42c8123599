"""Who sends a token, and whether they may: answers of the API server, kept for a few seconds.

Only positive answers are kept, never beyond the token's own end, and tokens only as their hashes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from headrace.api import _wire

if TYPE_CHECKING:
    from headrace.api.identity import User
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

TOKEN_SECONDS = 10.0
ACCESS_SECONDS = 5.0
ENTRIES = 4096
AUDIENCES: tuple[tuple[str, ...], ...] = ((), ("pipelines.kubeflow.org",))
"""A token for the API server itself, or one that was projected into a pod for the pipelines API."""

V = TypeVar("V")


class _Recent(Generic[V]):
    """A bounded table whose entries end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: OrderedDict[Any, tuple[V, float]] = OrderedDict()

    def get(self, key: Any) -> V | None:
        found = self._entries.get(key)
        if found is None:
            return None
        if found[1] <= self._clock.monotonic():
            del self._entries[key]
            return None
        return found[0]

    def put(self, key: Any, value: V, seconds: float) -> None:
        if seconds <= 0:
            return
        now = self._clock.monotonic()
        self._entries[key] = (value, now + seconds)
        self._entries.move_to_end(key)
        # Most have the same time, so that the oldest ends first; a step's token is seldom asked for again.
        while len(self._entries) > ENTRIES or next(iter(self._entries.values()))[1] <= now:
            self._entries.popitem(last=False)


class Access:
    """Authentication and authorization of requests."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._users: _Recent[User] = _Recent(clock)
        self._granted: _Recent[bool] = _Recent(clock)

    def known(self, token: bytes) -> User | None:
        """The owner of a token that was reviewed a moment ago."""
        return self._users.get(hashlib.sha256(token).digest())

    async def review(self, token: bytes) -> User | None:
        """The owner of a token, or None. Raises StatusError when that cannot be known."""
        try:
            text = token.decode("ascii")
        except UnicodeDecodeError:
            return None
        for audiences in AUDIENCES:
            user = await self._client.review_token(text, audiences)
            if user is not None:
                left = expiry(text) - self._clock.precise().timestamp()
                self._users.put(hashlib.sha256(token).digest(), user, min(TOKEN_SECONDS, left))
                return user
        return None

    async def may(
        self, user: User, verb: str, *, group: str, resource: str, namespace: str, name: str, subresource: str = ""
    ) -> bool:
        """Whether the user may. Raises StatusError when that cannot be known."""
        key = (user.name, user.uid, user.groups, verb, group, resource, subresource, namespace, name)
        if self._granted.get(key):
            return True
        allowed = await self._client.review_access(
            user, verb, group=group, resource=resource, subresource=subresource, namespace=namespace, name=name
        )
        if allowed:
            self._granted.put(key, True, ACCESS_SECONDS)
        return allowed


def expiry(token: str) -> float:
    """`exp` of a token whose signature was checked; 0 when there is none, so that it is not kept."""
    try:
        payload = token.split(".")[1]
        claims = _wire.decode_any(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error, _wire.DecodeError):
        return 0.0

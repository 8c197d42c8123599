"""Sessions, personal access tokens and refresh tokens: made, found, listed, ended.

What the holder sends is random and is not kept; what is kept is in Secrets (see `render`), so that a session that is
ended here is ended everywhere at once, and survives a restart until then.
"""

from __future__ import annotations

import datetime as dt
import secrets
from typing import TYPE_CHECKING, Any

from headrace.api.core import Secret
from headrace.api.errors import NotFound
from headrace.components.identity import render
from headrace.components.identity.types import NAMESPACE

if TYPE_CHECKING:
    from headrace.client.base import Client
    from headrace.components.identity.render import Facts
    from headrace.components.identity.types import Person
    from headrace.machinery.clock import Clock

PREFIXES = {render.SESSION: "", render.TOKEN: "hrp_", render.REFRESH: "hrr_"}
"""Personal access tokens can be told by sight, and by programs that look for leaked ones."""
MAX_SECRET = 128


class Credentials:
    """See the module."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock

    async def make(
        self, kind: str, person: Person, seconds: float, *, detail: str = "", scopes: frozenset[str] = frozenset()
    ) -> str:
        """What the holder sends from now on."""
        secret = fresh(kind)
        await self.keep(kind, secret, self.facts(person, seconds, detail=detail, scopes=sorted(scopes)))
        return secret

    def facts(self, person: Person, seconds: float, **more: Any) -> Facts:
        """What is known of a credential that begins now."""
        now = self._clock.now()
        return render.Facts(person=person, created=now, expires=now + dt.timedelta(seconds=seconds), **more)

    async def keep(self, kind: str, secret: str, facts: Facts) -> None:
        """Remember a credential that `fresh` has made."""
        await self._client.create(render.credential(kind, secret, facts))

    async def find(self, kind: str, secret: str) -> Facts | None:
        """What is known of a credential that has not ended."""
        if not secret or len(secret) > MAX_SECRET or not secret.isascii():
            return None
        try:
            found = await self._client.get(Secret, render.credential_name(kind, secret), NAMESPACE)
        except NotFound:
            return None
        facts = render.facts_of(found)
        if facts is None or found.metadata.deletion_timestamp or render.expired(facts, self._clock.precise()):
            return None
        return facts

    async def of(self, email: str, kind: str) -> list[tuple[str, Facts]]:
        """A person's credentials, the newest first, by the names with which `end_named` ends them."""
        labels = f"{render.LABEL}={kind},{render.OWNER}={render.owner_label(email)}"
        now = self._clock.precise()
        found = [
            (secret.metadata.name, facts)
            for secret in (await self._client.list(Secret, NAMESPACE, labels=labels)).items
            if (facts := render.facts_of(secret)) is not None and not render.expired(facts, now)
        ]
        return sorted(found, key=lambda each: each[1].created, reverse=True)

    async def end(self, kind: str, secret: str) -> None:
        """End a credential; one that has ended already stays so."""
        await self._delete(render.credential_name(kind, secret))

    async def end_named(self, email: str, name: str) -> bool:
        """End one of a person's credentials; whether there was one."""
        for kind in render.KINDS:
            if any(found == name for found, _ in await self.of(email, kind)):
                await self._delete(name)
                return True
        return False

    async def end_all(self, email: str, *, tokens: bool) -> None:
        """End a person's sessions and refresh tokens: after a new password, and with `tokens`, everything."""
        for kind in render.KINDS if tokens else (render.SESSION, render.REFRESH):
            for name, _ in await self.of(email, kind):
                await self._delete(name)

    async def _delete(self, name: str) -> None:
        try:
            await self._client.delete(Secret, name, NAMESPACE)
        except NotFound:
            return


def fresh(kind: str) -> str:
    """A new secret for a holder: 256 random bits behind the kind's prefix."""
    return PREFIXES[kind] + secrets.token_urlsafe(32)

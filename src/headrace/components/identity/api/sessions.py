"""What the gateway asks (`machinery.people.People`): whose session, whose token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.identity import AUTHENTICATED, User
from headrace.components.identity import render
from headrace.components.identity.api.credentials import PREFIXES
from headrace.components.identity.policy import DEFAULT_PASSWORD
from headrace.machinery.people import Sender
from headrace.machinery.settings import DEFAULT_USER

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.components.identity.api.credentials import Credentials
    from headrace.components.identity.api.directory import Directory
    from headrace.components.identity.api.issuer import Issuer
    from headrace.components.identity.types import Person

MAX_ID_TOKEN = 16384
SESSION_SECONDS = 24 * 3600
"""As upstream's login proxy: a day."""


class KnownPeople:
    """Implements People. The issuer (and with it the OAuth library) is loaded when the first ID token comes."""

    def __init__(self, credentials: Credentials, directory: Directory, issuer: Callable[[], Issuer]) -> None:
        self._credentials, self._directory, self._issuer = credentials, directory, issuer

    async def by_session(self, cookie: str) -> Sender | None:
        """See People."""
        return await self._by_credential(render.SESSION, cookie)

    async def by_token(self, token: str) -> Sender | None:
        """See People."""
        if token.startswith(PREFIXES[render.TOKEN]):
            return await self._by_credential(render.TOKEN, token)
        user = await self.by_id_token(token, "")
        return Sender(user, "id-token") if user is not None else None

    async def by_id_token(self, token: str, audience: str) -> User | None:
        """See People."""
        if token.count(".") != 2 or len(token) > MAX_ID_TOKEN:
            return None
        person = await self._issuer().person_of(token, audience)
        return user_of(person) if person is not None else None

    async def exposed(self) -> str:
        """See People."""
        if await self._directory.verify(DEFAULT_USER, DEFAULT_PASSWORD) is None:
            return ""
        return (
            f"{DEFAULT_USER} still has the password that everybody knows. Start on this machine only, change it with "
            f"`headrace user passwd {DEFAULT_USER}` (or remove the user), then start again"
        )

    async def _by_credential(self, kind: str, secret: str) -> Sender | None:
        facts = await self._credentials.find(kind, secret)
        if facts is None:
            return None
        local = facts.person.connector == "local"
        person = await self._directory.find(facts.person.email) if local else facts.person
        if person is None:
            return None
        name = kind if kind == render.SESSION else f"{kind} {facts.detail}"
        return Sender(user_of(person), name, frozenset(facts.scopes))


def user_of(person: Person) -> User:
    """The person as Kubernetes knows users: `kubeflow-userid` is the e-mail address."""
    return User(person.email, person.user_id, (*person.groups, AUTHENTICATED))

"""What people do with their accounts, and administrators with everybody's; the API and the pages both call it.

Everybody manages what is theirs. People and the whole audit log are for who may manage the objects in which people are
kept (`passwords.dex.coreos.com` in namespace `auth`): the API server's RBAC decides, as for everything else. Each
method asks for itself, and writes what it did into the audit log.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headrace.api.core import ConfigMap, Namespace
from headrace.api.errors import BadRequest, Forbidden, NotFound, ServiceUnavailable
from headrace.components.identity import policy, render
from headrace.components.identity.types import GROUP, NAMESPACE, Password

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.identity import User
    from headrace.client.base import Client
    from headrace.components.identity.api.credentials import Credentials
    from headrace.components.identity.api.directory import Directory
    from headrace.components.identity.render import Facts
    from headrace.components.identity.types import Person
    from headrace.machinery.audit import Auditor, Entry
    from headrace.machinery.settings import Settings

MAX_DAYS = 366
CA_CONFIG_MAP = "kube-root-ca.crt"
"""In every namespace: the authority that signed the API server's certificate."""
OWNER_ANNOTATION = "owner"
"""On a profile's namespace: whose it is."""


class Accounts:
    """See the module."""

    def __init__(
        self, settings: Settings, client: Client, directory: Directory, credentials: Credentials, auditor: Auditor
    ) -> None:
        self._settings, self._client, self._auditor = settings, client, auditor
        self._directory, self._credentials = directory, credentials

    async def may(self, user: User, verb: str) -> bool:
        """Whether the user may do this with people."""
        plural = Password.INFO.plural
        return await self._client.review_access(user, verb, group=GROUP, resource=plural, namespace=NAMESPACE)

    async def require(self, user: User, verb: str) -> None:
        """Raises Forbidden."""
        if not await self.may(user, verb):
            raise Forbidden(
                f"{user.name} may not {verb} passwords.{GROUP} in namespace {NAMESPACE}: managing people is for "
                "administrators"
            )

    async def local(self, user: User) -> Person | None:
        """The user as a person with a password here."""
        return await self._directory.find(user.name)

    async def own_password(self, user: User, old: str, new: str) -> None:
        """A new password ends every session. Raises Forbidden, Refused."""
        if await self._directory.verify(user.name, old) is None:
            self._auditor.record(user.name, "password not changed", "wrong old password")
            raise Forbidden("the old password is wrong")
        await self._directory.change(user.name, password=new)
        await self._credentials.end_all(user.name, tokens=False)
        self._auditor.record(user.name, "password changed", user.name)

    async def own(self, user: User, kind: str) -> list[tuple[str, Facts]]:
        """One's own sessions or tokens; the secrets are not kept."""
        return await self._credentials.of(user.name, kind)

    async def make_token(self, user: User, name: str, scopes: list[str], days: int) -> tuple[str, list[str]]:
        """The secret, which is told once, and the scopes. Raises BadRequest, Refused, Forbidden."""
        person = await self._person(user)
        if not name or len(name) > 60:
            raise BadRequest("name: a token needs a name of up to 60 letters, by which you will know it")
        if not 1 <= days <= MAX_DAYS:
            raise BadRequest(f"days: a whole number from 1 to {MAX_DAYS}")
        checked = policy.checked_scopes(scopes)
        secret = await self._credentials.make(render.TOKEN, person, days * 86400, detail=name, scopes=checked)
        self._auditor.record(user.name, "token created", name, detail=" ".join(sorted(checked)))
        return secret, sorted(checked)

    async def end(self, user: User, name: str) -> None:
        """End one of one's own sessions or tokens. Raises NotFound."""
        if not await self._credentials.end_named(user.name, name):
            raise NotFound(f"you have no session or token {name!r}")
        self._auditor.record(user.name, "credential ended", name)

    async def cluster(self, user: User) -> dict[str, str]:
        """How this person's kubectl reaches the API server: address, authority, and a namespace of one's own."""
        try:
            found = await self._client.get(ConfigMap, CA_CONFIG_MAP, NAMESPACE)
        except NotFound as error:
            raise ServiceUnavailable(
                "the cluster's certificate is not published yet: try again", retry_after=1
            ) from error
        own = [
            namespace.metadata.name
            for namespace in (await self._client.list(Namespace)).items
            if namespace.metadata.annotations.get(OWNER_ANNOTATION) == user.name
        ]
        settings = self._settings
        return {
            "name": settings.context,
            "server": f"https://{settings.host}:{settings.ports.api}",
            "ca": found.data.get("ca.crt", ""),
            "user": user.name,
            "namespace": min(own, default=""),
        }

    async def audit(self, user: User, rows: int, *, of: str = "") -> list[Entry]:
        """The newest entries of one person, or of all for administrators; others see their own whatever they ask."""
        chosen = of if await self.may(user, "list") else user.name
        return await asyncio.to_thread(self._auditor.recent, rows, user=chosen)

    def heard(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when there is an entry, whoever may see it; the result ends that."""
        return self._auditor.subscribe(lambda _entry: callback())

    async def people(self, user: User) -> list[tuple[Person, bool]]:
        """Everybody with a password, and whether they can be changed here. Raises Forbidden."""
        await self.require(user, "list")
        return await self._directory.people()

    async def add(self, user: User, email: str, password: str, *, username: str, groups: list[str]) -> Person:
        """Raises Forbidden, AlreadyExists, Refused."""
        await self.require(user, "create")
        person = await self._directory.add(email, password, username=username, groups=groups)
        self._auditor.record(user.name, "user created", person.email)
        return person

    async def change(
        self,
        user: User,
        email: str,
        *,
        password: str | None = None,
        username: str | None = None,
        groups: list[str] | None = None,
    ) -> None:
        """A new password ends the person's sessions. Raises Forbidden, NotFound, Refused."""
        await self.require(user, "patch")
        await self._directory.change(email, password=password, groups=groups, username=username)
        if password is not None:
            await self._credentials.end_all(email, tokens=False)
        given = {"groups": groups, "password": password, "username": username}
        what = " ".join(key for key, value in given.items() if value is not None)
        self._auditor.record(user.name, "user changed", email, detail=what)

    async def remove(self, user: User, email: str) -> None:
        """A person, with every session and token. Raises Forbidden, NotFound."""
        await self.require(user, "delete")
        await self._directory.remove(email)
        await self._credentials.end_all(email, tokens=True)
        self._auditor.record(user.name, "user deleted", email)

    async def _person(self, user: User) -> Person:
        found = await self._directory.find(user.name)
        if found is None:
            sessions = await self._credentials.of(user.name, render.SESSION)
            if sessions:
                return sessions[0][1].person
            raise Forbidden(f"{user.name} is not a person who logs in: service accounts have tokens of their own")
        return found

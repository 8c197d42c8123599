"""People who log in with a password: those in Password objects, and those in Dex's configuration.

Invariants: a wrong password and an unknown address cost the same and say the same; hashes are checked in a thread,
because they are slow on purpose; who is deleted is nobody from that moment on.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import uuid
from typing import TYPE_CHECKING, Any

import yaml

from headrace.api import _wire
from headrace.api.core import ConfigMap, Secret
from headrace.api.errors import AlreadyExists, NotFound
from headrace.api.meta import ObjectMeta
from headrace.components.identity import policy
from headrace.components.identity.types import NAMESPACE, DexConfig, Password, Person, StaticPassword

if TYPE_CHECKING:
    from headrace.client.base import Client

log = logging.getLogger(__name__)

CONFIG_MAP, CONFIG_KEY = "dex", "config.yaml"
ENVIRONMENT_SECRET = "dex-oidc-client"  # noqa: S105 - the Secret's name in Kubeflow's distribution
MEMORY_KIB, ROUNDS, LANES = 19 * 1024, 2, 1
"""argon2id as OWASP recommends where memory is dear: about 25 ms."""


class Directory:
    """Finds, checks and changes people."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._config: tuple[str, DexConfig] = ("", DexConfig())
        self._nobody = ""

    async def config(self) -> DexConfig:
        """Dex's configuration as it is now; what cannot be read counts as none, with a line in the log."""
        try:
            found = await self._client.get(ConfigMap, CONFIG_MAP, NAMESPACE)
        except NotFound:
            return DexConfig()
        version = found.metadata.resource_version
        if version != self._config[0]:
            self._config = version, _parsed(found.data.get(CONFIG_KEY, ""))
        return self._config[1]

    async def environment(self, name: str) -> str:
        """What Dex would find in an environment variable: from Secret `dex-oidc-client`; nothing when it has none."""
        try:
            found = await self._client.get(Secret, ENVIRONMENT_SECRET, NAMESPACE)
        except NotFound:
            return ""
        try:
            return base64.b64decode(found.data.get(name, ""), validate=True).decode().strip()
        except (binascii.Error, UnicodeDecodeError):
            return ""

    async def find(self, email: str) -> Person | None:
        """A person with a password."""
        found = await self._entry(email.lower())
        return found[0] if found else None

    async def verify(self, email: str, password: str) -> Person | None:
        """The person, when this is the password."""
        found = await self._entry(email.strip().lower())
        if not self._nobody:
            self._nobody = await asyncio.to_thread(hash_password, uuid.uuid4().hex)
        digest = found[1] if found else self._nobody
        right = len(password) <= policy.MAX_PASSWORD and await asyncio.to_thread(check_password, digest, password)
        return found[0] if found and right else None

    async def add(self, email: str, password: str, *, username: str = "", groups: list[str] | None = None) -> Person:
        """A new person. Raises Refused, AlreadyExists."""
        email = policy.checked_email(email)
        checked = policy.checked_password(password, email)
        return await self._create(email, checked, username, policy.checked_groups(groups or []))

    async def add_default(self, email: str) -> None:
        """Kubeflow's documented first user."""
        try:
            await self._create(email, policy.DEFAULT_PASSWORD, "user", [])
        except AlreadyExists:
            return

    async def _create(self, email: str, password: str, username: str, groups: list[str]) -> Person:
        digest = await asyncio.to_thread(hash_password, password)
        body = Password(
            metadata=ObjectMeta(name=policy.object_name(email), namespace=NAMESPACE),
            email=email,
            hash=base64.b64encode(digest.encode()).decode(),
            username=username or email.partition("@")[0],
            user_id=str(uuid.uuid4()),
            groups=groups,
        )
        try:
            return _person(await self._client.create(body))
        except AlreadyExists as error:
            raise AlreadyExists(f"there is a user {email} already", kind="passwords", name=email) from error

    async def change(
        self, email: str, *, password: str | None = None, groups: list[str] | None = None, username: str | None = None
    ) -> None:
        """Another password, name or other groups. Raises NotFound, Refused."""
        patch: dict[str, Any] = {}
        if password is not None:
            digest = await asyncio.to_thread(hash_password, policy.checked_password(password, email))
            patch["hash"] = base64.b64encode(digest.encode()).decode()
        if groups is not None:
            patch["groups"] = policy.checked_groups(groups)
        if username is not None:
            patch["username"] = username
        await self._client.patch(Password, policy.object_name(email), patch, NAMESPACE)

    async def remove(self, email: str) -> None:
        """Delete a person. Raises NotFound."""
        await self._client.delete(Password, policy.object_name(email), NAMESPACE)

    async def people(self) -> list[tuple[Person, bool]]:
        """Everybody with a password, by address; whether the person can be changed here."""
        found = {p.email.lower(): (_person(p), True) for p in (await self._client.list(Password, NAMESPACE)).items}
        for static in (await self.config()).static_passwords:
            found.setdefault(static.email.lower(), (_static_person(static), False))
        return [found[email] for email in sorted(found)]

    async def _entry(self, email: str) -> tuple[Person, str] | None:
        """A person and the hash of the password."""
        if not policy.EMAIL.fullmatch(email) or len(email) > policy.MAX_EMAIL:
            return None
        try:
            stored = await self._client.get(Password, policy.object_name(email), NAMESPACE)
        except NotFound:
            static = next((p for p in (await self.config()).static_passwords if p.email.lower() == email), None)
            if static is None:
                return None
            digest = static.hash or (await self.environment(static.hash_from_env) if static.hash_from_env else "")
            return _static_person(static), digest
        try:
            return _person(stored), base64.b64decode(stored.hash, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return _person(stored), ""


def hash_password(password: str) -> str:
    """argon2id with a salt."""
    import argon2  # noqa: PLC0415 - with the first login

    return argon2.PasswordHasher(time_cost=ROUNDS, memory_cost=MEMORY_KIB, parallelism=LANES).hash(password)


def check_password(digest: str, password: str) -> bool:
    """Whether the hash (argon2, or bcrypt as Dex writes it) is of the password."""
    if digest.startswith("$argon2"):
        import argon2  # noqa: PLC0415 - with the first login

        try:
            return argon2.PasswordHasher().verify(digest, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
    if digest.startswith("$2"):
        import bcrypt  # noqa: PLC0415 - only where Dex's hashes are used

        try:
            return bcrypt.checkpw(password.encode()[:72], digest.encode())
        except ValueError:
            return False
    return False


def _person(stored: Password) -> Person:
    groups = policy.safe_groups(stored.groups)
    return Person(stored.email.lower(), stored.user_id or stored.metadata.uid, stored.username, groups)


def _static_person(static: StaticPassword) -> Person:
    email = static.email.lower()
    return Person(email, static.user_id or email, static.username or email, policy.safe_groups(static.groups))


def _parsed(text: str) -> DexConfig:
    try:
        found = yaml.safe_load(text) or {}
        return _wire.convert(DexConfig, found)
    except (yaml.YAMLError, _wire.ValidationError) as error:
        log.warning("ConfigMap %s/%s, key %s, is not used: %s", NAMESPACE, CONFIG_MAP, CONFIG_KEY, error)
        return DexConfig()

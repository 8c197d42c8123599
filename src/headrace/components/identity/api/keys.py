"""The issuer's signing keys: RSA, in Secret `dex-signing-keys`, a new one each month, the old ones published until
every token that they signed has ended.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from headrace.api.core import Secret
from headrace.api.errors import AlreadyExists, Conflict, NotFound
from headrace.api.meta import ObjectMeta
from headrace.components.identity.types import NAMESPACE

if TYPE_CHECKING:
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

SECRET = "dex-signing-keys"  # noqa: S105 - a Secret's name
ALGORITHM = "RS256"
ROTATE = dt.timedelta(days=30)
PUBLISH = dt.timedelta(days=32)
"""From a key's creation: it signs for 30 days, and its last token ends a day later."""
_STAMP = "%Y%m%dT%H%M%S"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key by its id, which begins with when it was made."""

    id: str
    pem: bytes

    @property
    def created(self) -> dt.datetime:
        """When it was made."""
        return dt.datetime.strptime(self.id.partition("-")[0], _STAMP).replace(tzinfo=dt.UTC)


class Keys:
    """Signs and checks the issuer's tokens."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._version = ""
        self._keys: list[SigningKey] = []
        self._public: dict[str, Any] = {}

    async def current(self) -> SigningKey:
        """The key that signs now; a new one when the last has served its time."""
        await self._read()
        now = self._clock.now()
        if not self._keys or now - self._keys[-1].created >= ROTATE:
            await self._add(now)
            await self._read()
        return self._keys[-1]

    async def verify(self, token: str, issuer: str) -> dict[str, Any] | None:
        """The claims of a token that one of the keys signed for this issuer and that has not ended."""
        try:
            key_id = str(jwt.get_unverified_header(token).get("kid", ""))
        except jwt.InvalidTokenError:
            return None
        if key_id not in self._public:
            await self._read()
        public = self._public.get(key_id)
        if public is None:
            return None
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                public,
                algorithms=[ALGORITHM],
                issuer=issuer,
                options={
                    "verify_aud": False,
                    "verify_exp": False,
                    "verify_iat": False,
                    "require": ["exp", "aud", "sub"],
                },
            )
        except jwt.InvalidTokenError:
            return None
        return claims if claims["exp"] > self._clock.precise().timestamp() else None

    async def published(self) -> dict[str, Any]:
        """The JSON Web Key Set."""
        await self.current()
        found = []
        for key in self._keys:
            numbers = self._public[key.id].public_numbers()
            found.append(
                {
                    "use": "sig",
                    "kty": "RSA",
                    "kid": key.id,
                    "alg": ALGORITHM,
                    "n": _number(numbers.n),
                    "e": _number(numbers.e),
                }
            )
        return {"keys": found}

    async def _read(self) -> None:
        try:
            stored = await self._client.get(Secret, SECRET, NAMESPACE)
        except NotFound:
            self._version, self._keys, self._public = "", [], {}
            return
        oldest = self._clock.now() - PUBLISH
        self._keys = [key for key in self._keys if key.created > oldest]
        if stored.metadata.resource_version == self._version:
            return
        keys = [SigningKey(name, base64.b64decode(pem)) for name, pem in sorted(stored.data.items())]
        self._keys = [key for key in keys if key.created > oldest]
        self._public = {key.id: _private(key.pem).public_key() for key in self._keys}
        self._version = stored.metadata.resource_version

    async def _add(self, now: dt.datetime) -> None:
        """Another key; when somebody else was faster, theirs."""
        pem = await asyncio.to_thread(_generate)
        name = f"{now.strftime(_STAMP)}-{hashlib.sha256(pem).hexdigest()[:8]}"
        encoded = base64.b64encode(pem).decode()
        if not self._version:
            body = Secret(metadata=ObjectMeta(name=SECRET, namespace=NAMESPACE), data={name: encoded})
            try:
                await self._client.create(body)
            except AlreadyExists:
                return
            return
        stored = await self._client.get(Secret, SECRET, NAMESPACE)
        kept = {key.id for key in self._keys}
        data: dict[str, str | None] = {old: None for old in stored.data if old not in kept}
        data[name] = encoded
        try:
            await self._client.patch(Secret, SECRET, {"data": data}, NAMESPACE, resource_version=self._version)
        except Conflict:
            return


def _generate() -> bytes:
    return rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _private(pem: bytes) -> rsa.RSAPrivateKey:
    loaded = serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(loaded, rsa.RSAPrivateKey):
        raise TypeError(f"Secret {NAMESPACE}/{SECRET} holds a key that is not RSA: delete it to have a new one")
    return loaded


def _number(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")

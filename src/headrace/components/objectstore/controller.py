"""Key pairs of profiles: the labelled Secrets, kept in memory and renewed as they change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.core import Secret
from headrace.components.objectstore import policy
from headrace.machinery.controller import DONE, Controller, Result

if TYPE_CHECKING:
    from headrace.client.base import Client
    from headrace.components.objectstore.types import Principal
    from headrace.machinery.clock import Clock

REFRESH_SECONDS = 1.0
"""An unknown key asks the API server at most this often."""


class Keyring:
    """Whose an access key is. Secrets that the controller has not yet seen are looked up when first used."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._secrets: dict[str, Secret] = {}
        self._principals = policy.principals(())
        self._next_refresh = 0.0

    def set(self, key: str, secret: Secret | None) -> None:
        """A secret changed, or is gone."""
        if secret is not None and policy.principal_of(secret) is not None:
            self._secrets[key] = secret
        elif self._secrets.pop(key, None) is None:
            return
        self._principals = policy.principals(self._secrets.values())

    async def find(self, access_key: str) -> Principal | None:
        """The owner of an access key."""
        found = self._principals.get(access_key)
        if found is None and self._clock.monotonic() >= self._next_refresh:
            self._next_refresh = self._clock.monotonic() + REFRESH_SECONDS
            listed = await self._client.list(Secret, labels=f"{policy.ACCESS_LABEL}=true")
            for secret in listed.items:
                self.set(secret.key, secret)
            found = self._principals.get(access_key)
        return found


class KeyringController(Controller[Secret]):
    """Feeds the keyring."""

    name = "objectstore-keyring"
    kind = Secret
    workers = 1

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def reconcile(self, obj: Secret) -> Result:
        """Take the key pair over, or forget one that lost its label."""
        self._keyring.set(obj.key, obj)
        return DONE

    async def gone(self, key: str) -> None:
        """Keys of a deleted secret open nothing any more."""
        self._keyring.set(key, None)

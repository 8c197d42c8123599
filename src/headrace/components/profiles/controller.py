"""Gives every profile namespace its own object-store keys, once: keys in use are never replaced."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from headrace.api import _wire
from headrace.api.core import Namespace, Secret
from headrace.api.errors import AlreadyExists
from headrace.components.profiles import render
from headrace.machinery.controller import DONE, Controller, Result, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.client.base import Client


def _namespace_of(secret: Secret) -> Iterable[str]:
    if secret.metadata.name == render.KEYS_SECRET:
        yield secret.metadata.namespace


class KeysController(Controller[Namespace]):
    """Namespace of a profile -> Secret `mlpipeline-minio-artifact`; one that is deleted comes back with new keys."""

    name = "profile-objectstore-keys"
    kind = Namespace
    watches = (Watch(Secret, _namespace_of),)
    workers = 1

    def __init__(self, client: Client) -> None:
        self._client = client

    async def reconcile(self, obj: Namespace) -> Result:
        """See Controller."""
        name = obj.metadata.name
        wanted = obj.metadata.labels.get(render.PIPELINES_ENABLED) == "true"
        leaving = obj.metadata.deletion_timestamp is not None or obj.status.phase == "Terminating"
        if not wanted or leaving or self.cache(Secret).get(f"{name}/{render.KEYS_SECRET}") is not None:
            return DONE
        body = render.keys_secret(name, f"{name[:20]}-{secrets.token_hex(6)}", secrets.token_urlsafe(32))
        try:
            await self._client.create(_wire.convert(Secret, body))
        except AlreadyExists:
            # The cache is behind; what is there stays.
            return DONE
        return DONE

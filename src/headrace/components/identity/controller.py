"""Credentials that have ended are deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.core import Secret
from headrace.api.errors import NotFound
from headrace.components.identity import render
from headrace.components.identity.types import NAMESPACE
from headrace.machinery.controller import DONE, Controller, Result

if TYPE_CHECKING:
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock


class CredentialController(Controller[Secret]):
    """Secret of a credential -> nothing, once it has expired."""

    name = "identity-credentials"
    kind = Secret
    workers = 1

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock

    async def reconcile(self, obj: Secret) -> Result:
        """See Controller."""
        if obj.metadata.namespace != NAMESPACE or render.LABEL not in obj.metadata.labels:
            return DONE
        facts = render.facts_of(obj)
        if facts is None:
            return DONE
        left = (facts.expires - self._clock.precise()).total_seconds()
        if left > 0:
            return Result(after=left)
        try:
            await self._client.delete(Secret, obj.metadata.name, NAMESPACE, uid=obj.metadata.uid)
        except NotFound:
            return DONE
        return DONE

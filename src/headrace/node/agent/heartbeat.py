"""The node's lease: one small write every ten seconds says that the agent lives."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from headrace.api.coordination import Lease, LeaseSpec
from headrace.api.core import Namespace
from headrace.api.errors import AlreadyExists, NotFound, StatusError
from headrace.api.meta import ObjectMeta

if TYPE_CHECKING:
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

log = logging.getLogger(__name__)

NAMESPACE = "kube-node-lease"
EVERY_SECONDS = 10.0
DURATION_SECONDS = 40


class Heartbeat:
    """Renews the lease of one node until cancelled."""

    def __init__(self, client: Client, clock: Clock, node: str) -> None:
        self._client, self._clock, self._node = client, clock, node

    async def run(self) -> None:
        """Renew now and every EVERY_SECONDS."""
        while True:
            try:
                await self._renew()
            except (StatusError, OSError) as error:
                log.warning("the lease of node %s was not renewed: %s", self._node, error)
            await self._clock.sleep(EVERY_SECONDS)

    async def _renew(self) -> None:
        now = self._clock.precise()
        try:
            text = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            await self._client.patch(Lease, self._node, {"spec": {"renewTime": text}}, NAMESPACE)
        except NotFound:
            lease = Lease(
                metadata=ObjectMeta(name=self._node, namespace=NAMESPACE),
                spec=LeaseSpec(
                    holder_identity=self._node,
                    lease_duration_seconds=DURATION_SECONDS,
                    acquire_time=now,
                    renew_time=now,
                ),
            )
            try:
                await self._client.create(lease)
            except NotFound:
                await self._client.apply(Namespace(metadata=ObjectMeta(name=NAMESPACE)))
                await self._client.create(lease)
            except AlreadyExists:
                return

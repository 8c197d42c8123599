"""Events are kept for an hour (upstream: the API server's --event-ttl)."""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING

from headrace.api.errors import StatusError
from headrace.controllermanager.types import EventStub
from headrace.machinery.controller import Controller

if TYPE_CHECKING:
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

log = logging.getLogger(__name__)

LIFETIME = dt.timedelta(hours=1)
LOOK_SECONDS = 60.0


def expires(event: EventStub) -> dt.datetime | None:
    """When the event has been there long enough, counted from its last occurrence."""
    moments = [m for m in (event.last_timestamp, event.event_time, event.metadata.creation_timestamp) if m is not None]
    return max(moments) + LIFETIME if moments else None


class EventExpiryController(Controller[EventStub]):
    """Deletes old events. They are looked at together: there are several for each pod, and none is ever urgent."""

    name = "event-expiry"
    kind = EventStub
    workers = 0

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock

    async def run(self) -> None:
        """See Controller."""
        while True:
            now = self._clock.now()
            for event in list(self.cache(EventStub).all()):
                due = expires(event)
                if due is not None and due <= now:
                    await self._delete(event)
            await self._clock.sleep(LOOK_SECONDS)

    async def _delete(self, event: EventStub) -> None:
        meta = event.metadata
        try:
            await self._client.delete(EventStub, meta.name, meta.namespace, uid=meta.uid)
        except StatusError as error:
            log.debug("event %s stays until the next look: %s", event.key, error)

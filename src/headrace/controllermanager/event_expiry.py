"""Events are kept for an hour (upstream: the API server's --event-ttl)."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from headrace.controllermanager.types import EventStub
from headrace.machinery.controller import DONE, Controller, Result

if TYPE_CHECKING:
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

LIFETIME = dt.timedelta(hours=1)


def expires(event: EventStub) -> dt.datetime | None:
    """When the event has been there long enough, counted from its last occurrence."""
    moments = [m for m in (event.last_timestamp, event.event_time, event.metadata.creation_timestamp) if m is not None]
    return max(moments) + LIFETIME if moments else None


class EventExpiryController(Controller[EventStub]):
    """Deletes old events."""

    name = "event-expiry"
    kind = EventStub
    workers = 1

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock

    async def reconcile(self, obj: EventStub) -> Result:
        """Delete, or look again when it is time."""
        due = expires(obj)
        if due is None:
            return DONE
        left = (due - self._clock.now()).total_seconds()
        if left > 0:
            return Result(after=left)
        await self._client.delete(EventStub, obj.metadata.name, obj.metadata.namespace, uid=obj.metadata.uid)
        return DONE

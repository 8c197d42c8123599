"""Events: what people read to learn why. Equal events are counted, not repeated.

Recording never raises: a controller must not fail because nobody could be told.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from headrace.api import _wire
from headrace.api.core import Event, EventSource, ObjectReference
from headrace.api.errors import AlreadyExists, Conflict, NotFound
from headrace.api.meta import Object, ObjectMeta

if TYPE_CHECKING:
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

log = logging.getLogger(__name__)

MESSAGE_LIMIT = 1024
COUNT_ATTEMPTS = 5


class EventRecorder:
    """Writes events about objects under one component's name."""

    def __init__(self, client: Client, clock: Clock, component: str) -> None:
        self._client, self._clock, self._component = client, clock, component

    async def normal(self, obj: Object, reason: str, message: str) -> None:
        """Something expected happened."""
        await self._record(obj, "Normal", reason, message)

    async def warning(self, obj: Object, reason: str, message: str) -> None:
        """Something that a person should look at."""
        await self._record(obj, "Warning", reason, message)

    async def _record(self, obj: Object, type_: str, reason: str, message: str) -> None:
        meta = obj.metadata
        namespace = meta.namespace or "default"
        digest = hashlib.sha256(
            f"{obj.kind}\x00{meta.uid}\x00{type_}\x00{reason}\x00{message}\x00{self._component}".encode()
        ).hexdigest()[:16]
        name = f"{meta.name[:200].rstrip('-.')}.{digest}"
        now = self._clock.now()
        event = Event(
            metadata=ObjectMeta(name=name, namespace=namespace),
            involved_object=ObjectReference(
                kind=obj.kind,
                namespace=meta.namespace,
                name=meta.name,
                uid=meta.uid,
                api_version=obj.api_version,
                resource_version=meta.resource_version,
            ),
            reason=reason,
            message=message if len(message) <= MESSAGE_LIMIT else f"{message[: MESSAGE_LIMIT - 3]}...",
            type=type_,
            count=1,
            source=EventSource(component=self._component),
            first_timestamp=now,
            last_timestamp=now,
            reporting_component=self._component,
        )
        try:
            try:
                await self._client.create(event)
            except AlreadyExists:
                await self._count(name, namespace)
        except Exception as error:  # noqa: BLE001 - see the module: telling people is never worth a failure
            log.warning("event %s of %s not recorded: %s", reason, obj.key, error)

    async def _count(self, name: str, namespace: str) -> None:
        for attempt in range(COUNT_ATTEMPTS):
            try:
                seen = await self._client.get(Event, name, namespace)
                patch = {"count": seen.count + 1, "lastTimestamp": _wire.to_builtins(self._clock.now())}
                version = seen.metadata.resource_version
                await self._client.patch(Event, name, patch, namespace, resource_version=version)
            except NotFound:
                return  # it expired between two calls; the next one begins at one again
            except Conflict:
                if attempt + 1 == COUNT_ATTEMPTS:
                    raise
            else:
                return

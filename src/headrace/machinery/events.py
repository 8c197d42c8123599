"""Events: what people read to learn why. Equal events are counted, not repeated.

Recording never raises: a controller must not fail because nobody could be told.
"""

from __future__ import annotations

import logging
import zlib
from collections import OrderedDict
from typing import TYPE_CHECKING

from headrace.api import _wire
from headrace.api.core import Event, EventSource, ObjectReference
from headrace.api.errors import Conflict, NotFound
from headrace.api.meta import Object, ObjectMeta

if TYPE_CHECKING:
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

log = logging.getLogger(__name__)

MESSAGE_LIMIT = 1024
COUNT_ATTEMPTS = 5
REMEMBERED = 4096


class EventRecorder:
    """Writes events about objects under one component's name."""

    def __init__(self, client: Client, clock: Clock, component: str) -> None:
        self._client, self._clock, self._component = client, clock, component
        self._names: OrderedDict[tuple[str, ...], str] = OrderedDict()
        """The events that were written lately, by all that makes two of them equal."""
        self._ordinal = 0
        self._suffix = f"{zlib.crc32(component.encode()) % 4096:03x}"  # two recorders may write at one moment

    async def normal(self, obj: Object, reason: str, message: str) -> None:
        """Something expected happened."""
        await self._record(obj, "Normal", reason, message)

    async def warning(self, obj: Object, reason: str, message: str) -> None:
        """Something that a person should look at."""
        await self._record(obj, "Warning", reason, message)

    async def _record(self, obj: Object, type_: str, reason: str, message: str) -> None:
        meta = obj.metadata
        namespace = meta.namespace or "default"
        same = (obj.kind, namespace, meta.name, meta.uid, type_, reason, message)
        known = self._names.get(same)
        if known is not None and await self._counted(obj, reason, known, namespace):
            self._names.move_to_end(same)
            return
        moment = self._clock.precise()
        self._ordinal += 1
        # Names in the order of time: kubectl shows events of one second in the order of their names.
        name = (
            f"{meta.name[:200].rstrip('-.')}.{int(moment.timestamp() * 1e6):x}{self._ordinal % 4096:03x}{self._suffix}"
        )
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
        self._names[same] = name
        while len(self._names) > REMEMBERED:
            self._names.popitem(last=False)
        try:
            await self._client.create(event)
        except Exception as error:  # noqa: BLE001 - see the module: telling people is never worth a failure
            self._names.pop(same, None)
            ending = any(cause.reason == "NamespaceTerminating" for cause in getattr(error, "causes", ()))
            level = logging.DEBUG if ending else logging.WARNING  # nobody is left to read it
            log.log(level, "event %s of %s not recorded: %s", reason, obj.key, error)

    async def _counted(self, obj: Object, reason: str, name: str, namespace: str) -> bool:
        try:
            return await self._count(name, namespace)
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("event %s of %s not counted: %s", reason, obj.key, error)
            return True

    async def _count(self, name: str, namespace: str) -> bool:
        """Whether the event was still there to be counted."""
        for attempt in range(COUNT_ATTEMPTS):
            try:
                seen = await self._client.get(Event, name, namespace)
                patch = {"count": seen.count + 1, "lastTimestamp": _wire.to_builtins(self._clock.now())}
                version = seen.metadata.resource_version
                await self._client.patch(Event, name, patch, namespace, resource_version=version)
            except NotFound:
                return False  # it has expired: the next one begins at one again
            except Conflict:
                if attempt + 1 == COUNT_ATTEMPTS:
                    raise
            else:
                return True
        return True

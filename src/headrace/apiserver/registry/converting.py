"""Custom kinds whose versions are converted by a webhook: the same objects, in the version that was asked for.

What the store holds says in which version it is. Other kinds never come here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.client.base import EventType, RawEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.apiserver.registry.core import Core
    from headrace.apiserver.registry.kinds import Served

Json = dict[str, Any]


async def in_version(core: Core, served: Served, objects: list[Json], version: str) -> list[Json]:
    """Objects of the kind in one of its versions, without what that does not know. Raises InternalError."""
    if served.converter is None:
        return objects
    from headrace.apiserver.admission.dynamic.conversion import convert  # noqa: PLC0415 - few kinds are converted

    made = await convert(core.gate.caller(), served.converter, served.info, objects, version)
    target = core.kinds.lookup(served.info.group, version, served.info.plural)
    schema = core.schemas.custom(target) if target is not None else None
    if schema is None:
        return made
    return [new if new is old else schema.prune(new)[0] for old, new in zip(objects, made, strict=True)]


async def shown(core: Core, served: Served, raws: list[bytes]) -> list[bytes]:
    """Stored JSON in the requested version, with its defaults."""
    if served.converter is None:
        return raws
    objects = [_wire.decode_any(raw) for raw in raws]
    made = await in_version(core, served, objects, served.info.version)
    schema = core.schemas.custom(served.info) if served.defaults else None
    return [_wire.encode(schema.default(o) if schema is not None else o) for o in made]


class ConvertedWatch:
    """A watch whose events are converted one after the other."""

    def __init__(self, core: Core, served: Served, events: AsyncIterator[RawEvent]) -> None:
        self._core, self._served, self._events = core, served, events

    def __aiter__(self) -> ConvertedWatch:
        return self

    async def __anext__(self) -> RawEvent:
        event = await anext(self._events)
        if event.type is EventType.BOOKMARK:
            return event
        (raw,) = await shown(self._core, self._served, [event.object])
        return RawEvent(event.type, raw, event.revision)

    async def aclose(self) -> None:
        """End the watch."""
        await self._events.aclose()  # type: ignore[attr-defined]

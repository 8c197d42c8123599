"""Events are kept for an hour after they happened last."""

from headrace.api.core import Event, ObjectReference
from headrace.api.meta import ObjectMeta
from headrace.controllermanager.event_expiry import LIFETIME, LOOK_SECONDS
from headrace.testing import eventually

from .conftest import NS


async def test_old_events_go_and_young_ones_stay(world):
    about = ObjectReference(kind="Pod", namespace=NS, name="p")

    async def create(name):
        await world.client.create(Event(metadata=ObjectMeta(name=name, namespace=NS), involved_object=about))

    async def names():
        return {event.metadata.name for event in (await world.client.list(Event, NS)).items}

    async def gone():
        return "old" not in await names()

    await create("old")
    world.clock.step(LIFETIME.total_seconds() / 2)
    await create("young")
    await world.quiet()
    assert {"old", "young"} <= await names()
    world.clock.step(LIFETIME.total_seconds() / 2 + LOOK_SECONDS)
    await eventually(gone)
    assert "young" in await names()

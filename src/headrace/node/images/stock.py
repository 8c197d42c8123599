"""The images and environments of a home together with who uses them, and what may go. See machinery.shelf.

Users are the pods that have not ended, by what their containers run from (`imageID`) and by what they name, and images
of one's own by what they need. Files only, besides podman's answers: commands use the same without a platform.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.machinery.shelf import InUse, Stock, StockEnvironment, StockImage
from headrace.node.images import inventory, trees
from headrace.node.images.store import ImageStore, canonical_name
from headrace.node.runtime import engines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headrace.api.core import Pod
    from headrace.machinery.settings import Settings
    from headrace.node.images.environments import Flight
    from headrace.node.images.inventory import Found
    from headrace.node.images.service import Images
    from headrace.node.images.store import Record

FINISHED = frozenset({"Succeeded", "Failed"})
LEAST_AGE_SECONDS = 120.0
"""As the kubelet's --minimum-image-ttl-duration: a pod that was given an environment just now is not seen with it."""
POD, IMAGE = "pod ", "image "
"""What the names of users begin with."""


def named(live: Iterable[Pod]) -> dict[str, list[str]]:
    """Pods by the images that their containers name, whether they have been pulled or not."""
    result: dict[str, list[str]] = {}
    for pod in live:
        for container in (*pod.spec.containers, *pod.spec.init_containers):
            result.setdefault(container.image, []).append(f"{POD}{pod.key}")
    return result


def pulled(live: Iterable[Pod]) -> dict[str, list[str]]:
    """Pods by the digests of what their containers run from."""
    result: dict[str, list[str]] = {}
    for pod in live:
        for status in (*pod.status.container_statuses, *pod.status.init_container_statuses):
            _, at, digest = status.image_id.partition("@sha256:")
            if at:
                result.setdefault(digest, []).append(f"{POD}{pod.key}")
    return result


def waits(pod: Pod) -> bool:
    """Whether one of its containers has not got its image yet, and is not refused one either."""
    statuses = (*pod.status.container_statuses, *pod.status.init_container_statuses)
    started = {status.name for status in statuses if status.image_id}
    refused = {s.name for s in statuses if s.state.waiting is not None and "ImagePull" in s.state.waiting.reason}
    names = {container.name for container in (*pod.spec.containers, *pod.spec.init_containers)}
    return bool(pod.spec.node_name) and not names <= started | refused


def everything(settings: Settings, live: Sequence[Pod]) -> list[Found]:
    """Every environment, with who uses it."""
    found = inventory.environments(settings.cache)
    users = pulled(live)
    for one in found:
        one.used_by.extend(sorted(set(users.get(one.key, []))))
    store = ImageStore(settings.state / "images")
    for name, key in store.names().items():
        record = store.by_id(key)
        if record is not None:
            for one in inventory.of_image(found, record.requirements):
                one.used_by.append(f"{IMAGE}{name}")
                one.used_by.extend(sorted(set(users.get(key, []))))
    return found


def prune_environments(settings: Settings, live: Sequence[Pod], days: float = 0.0) -> list[Found]:
    """Remove what nobody uses; what that was. A pod that waits for its image may still be on its way to one, so nothing
    goes while there is such a pod: raises InUse.
    """
    _nobody_waits(live)
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    return [
        one
        for one in everything(settings, live)
        if not one.used_by and not one.building and one.last_use < before and inventory.remove(settings.cache, one)
    ]


def forget_unused(settings: Settings, live: Sequence[Pod]) -> list[Found]:
    """Remove what nobody uses and nobody has been on the way to for a while, for a disk that is nearly full."""
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=LEAST_AGE_SECONDS)
    return [
        one
        for one in everything(settings, live)
        if not one.used_by and not one.building and one.last_use < before and inventory.remove(settings.cache, one)
    ]


def _nobody_waits(live: Iterable[Pod]) -> None:
    waiting = next((pod.key for pod in live if waits(pod)), "")
    if waiting:
        words = f"pod {waiting} is starting and may need any of them: try again in a moment"
        raise InUse(words, starting=waiting)


def prune_images(store: ImageStore, live: Sequence[Pod], *, named_too: bool = False) -> list[tuple[list[str], Record]]:
    """Remove images that have no name, with `named_too` also those that no pod names; what that was."""
    names = store.names()
    using = {canonical_name(image) for image in named(live)}
    gone = []
    for record in list(store.all()):
        mine = [name for name, key in names.items() if key == record.id]
        if mine and (not named_too or using & set(mine)):
            continue
        store.remove(record)
        gone.append((mine, record))
    return gone


def prune_wheels(store: ImageStore) -> int:
    """Remove built projects that no image needs; how many bytes that were."""
    needed = "\n".join(line for record in store.all() for line in record.requirements)
    freed = 0
    for folder in store.wheels():
        if folder.as_uri() not in needed:
            freed += trees.size(folder)
            shutil.rmtree(folder, ignore_errors=True)
    return freed


class DiskShelf:
    """See machinery.shelf.ImageShelf."""

    def __init__(self, settings: Settings, images: Images, engine: Callable[[], bool]) -> None:
        """`engine` says whether pods can run in a container engine's containers."""
        self._settings, self._images, self._engine = settings, images, engine

    async def look(self, pods: Iterable[Pod]) -> Stock:
        """See ImageShelf."""
        live = _live(pods)
        flights = self._images.building()
        images, environments = await asyncio.to_thread(self._look, live, dict(flights))
        return Stock((*images, *await self._engine_images(live)), environments)

    async def prune(self, pods: Iterable[Pod], days: float = 0.0) -> int:
        """See ImageShelf."""
        live = _live(pods)

        def work() -> int:
            store = ImageStore(self._settings.state / "images")
            freed = sum(one.size for one in prune_environments(self._settings, live, days))
            if not days:
                freed += sum(record.size for _, record in prune_images(store, live)) + prune_wheels(store)
            return freed

        return await asyncio.to_thread(work)

    async def remove_environment(self, pods: Iterable[Pod], key: str) -> int:
        """See ImageShelf."""
        live = _live(pods)

        def work() -> int:
            found = next((one for one in everything(self._settings, live) if one.key == key), None)
            if found is None:
                raise LookupError(key)
            if found.used_by:
                raise _used_by(found.used_by)
            _nobody_waits(live)
            if found.building or not inventory.remove(self._settings.cache, found):
                raise InUse("it is being built at this moment")
            return found.size

        return await asyncio.to_thread(work)

    async def remove_image(self, pods: Iterable[Pod], key: str) -> None:
        """See ImageShelf."""
        live = _live(pods)
        held = {image.id: image for image in (await self.look(live)).images}
        found = held.get(key)
        if found is None:
            raise LookupError(key)
        if found.pods:
            raise _used_by([f"{POD}{name}" for name in found.pods])
        if found.engine:
            code, _, problem = await engines.run(engines.untried(), "image", "rm", *found.names or (found.id,))
            if code:
                raise InUse(problem)
            return
        store = ImageStore(self._settings.state / "images")
        record = store.by_id(key)
        if record is not None:
            await asyncio.to_thread(store.remove, record)

    def _look(
        self, live: list[Pod], flights: dict[str, Flight]
    ) -> tuple[list[StockImage], tuple[StockEnvironment, ...]]:
        store = ImageStore(self._settings.state / "images")
        names = store.names()
        by_name: dict[str, list[str]] = {}
        for image, who in named(live).items():
            by_name.setdefault(canonical_name(image), []).extend(who)
        users = pulled(live)
        images = []
        for record in store.all():
            mine = tuple(name for name, key in names.items() if key == record.id)
            using = {*users.get(record.id, []), *(one for name in mine for one in by_name.get(name, []))}
            images.append(
                StockImage(
                    id=record.id,
                    names=mine,
                    size_bytes=record.size,
                    created=_moment(record.created),
                    base=record.base,
                    requirements=tuple(record.requirements),
                    pods=_without(using, POD),
                )
            )
        found = [_environment(one, flights.pop(one.key, None)) for one in everything(self._settings, live)]
        # What is left has no folder yet: its versions are being found.
        early = [
            StockEnvironment(key, "", (), 0, flight.begun, building=True, progress=flight.progress.sentence)
            for key, flight in flights.items()
        ]
        return images, (*early, *found)

    async def _engine_images(self, live: list[Pod]) -> list[StockImage]:
        """What podman has, where pods run in its containers."""
        if not self._engine() or engines.hopeless():
            return []
        code, out, _ = await engines.run(engines.untried(), "images", "--format", "json", timeout=10.0)
        if code:
            return []
        users, by_name = pulled(live), named(live)
        return [_of_engine(one, users, by_name) for one in _wire.decode_any(out) or ()]


def _of_engine(told: dict[str, Any], users: dict[str, list[str]], by_name: dict[str, list[str]]) -> StockImage:
    key = str(told.get("Id", "")).removeprefix("sha256:")
    names = tuple(str(name) for name in told.get("Names") or ())
    who = {*users.get(key, []), *(one for name in names for one in by_name.get(name, []))}
    created = told.get("Created")
    return StockImage(
        id=key,
        names=names,
        size_bytes=int(told.get("Size") or 0),
        created=dt.datetime.fromtimestamp(created, dt.UTC) if isinstance(created, int | float) else None,
        engine=engines.PODMAN,
        pods=_without(who, POD),
    )


def _environment(found: Found, flight: Flight | None) -> StockEnvironment:
    return StockEnvironment(
        id=found.key,
        python=found.python,
        requirements=found.requirements,
        size_bytes=found.size,
        last_use=found.last_use if flight is None else flight.begun,
        building=found.building,
        progress=flight.progress.sentence if flight is not None and found.building else "",
        pods=_without(found.used_by, POD),
        images=_without(found.used_by, IMAGE),
    )


def _live(pods: Iterable[Pod]) -> list[Pod]:
    return [pod for pod in pods if pod.status.phase not in FINISHED]


def _without(users: Iterable[str], prefix: str) -> tuple[str, ...]:
    return tuple(sorted({user.removeprefix(prefix) for user in users if user.startswith(prefix)}))


def _used_by(users: Sequence[str]) -> InUse:
    shown = ", ".join(users[:5]) + (f" and {len(users) - 5} more" if len(users) > 5 else "")
    return InUse(f"it is used by {shown}", users=tuple(users))


def _moment(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return None

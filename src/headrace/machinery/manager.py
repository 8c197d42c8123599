"""Runs controllers: shared informers, one work queue a controller, one status patch a reconcile."""

from __future__ import annotations

import asyncio
import copy
import logging
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.errors import Conflict, NotFound, StatusError
from headrace.machinery.controller import Controller, Terminal, by_controller_owner
from headrace.machinery.diff import merge_patch, touches_list
from headrace.machinery.informer import Informer
from headrace.machinery.queue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.api.meta import Object
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock
    from headrace.machinery.controller import AnyController

log = logging.getLogger(__name__)


class Manager:
    """Owns informers and workers. Controllers may use different clients; informers are shared."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._informers: dict[type[Object], Informer[Any]] = {}
        self._runners: list[_Runner] = []
        self._tasks: list[asyncio.Task[None]] = []

    def informer(self, kind: type[Object]) -> Informer[Any]:
        """The shared informer of a kind; it begins to run with `start`, or at once when that has happened."""
        found = self._informers.get(kind)
        if found is None:
            found = self._informers[kind] = Informer(self._client, self._clock, kind)
            if self._tasks:
                self._spawn(found.run(), f"informer {kind.__name__}")
        return found

    def add(self, controller: AnyController, client: Client) -> None:
        """Run this controller; `client` is what its status patches are sent with."""
        kinds = {controller.kind, *controller.owns, *controller.reads, *(w.kind for w in controller.watches)}
        controller.caches = {kind: self.informer(kind) for kind in kinds}
        runner = _Runner(controller, client, self._clock)
        self._runners.append(runner)
        runner.subscribe()
        if self._tasks:
            self._launch(runner)

    async def start(self) -> None:
        """Start informers, wait until every cache is filled, then start workers."""
        for kind, informer in self._informers.items():
            self._spawn(informer.run(), f"informer {kind.__name__}")
        await asyncio.gather(*(i.synced.wait() for i in self._informers.values()))
        for runner in self._runners:
            self._launch(runner)

    async def stop(self) -> None:
        """Stop workers and informers; a reconcile in progress is cancelled and will be done again."""
        for runner in self._runners:
            runner.queue.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    @property
    def idle(self) -> bool:
        """Whether no key is ready or in work, for tests that wait for quiet."""
        return all(r.queue.idle for r in self._runners)

    def _launch(self, runner: _Runner) -> None:
        for i in range(runner.controller.workers):
            self._spawn(runner.work(), f"{runner.controller.name} worker {i}")
        if type(runner.controller).run is not Controller.run:
            self._spawn(runner.controller.run(), runner.controller.name)

    def _spawn(self, coro: Any, name: str) -> None:
        self._tasks.append(asyncio.create_task(coro, name=name))


class _Runner:
    def __init__(self, controller: AnyController, client: Client, clock: Clock) -> None:
        self.controller, self.client = controller, client
        self.queue = WorkQueue(clock)

    def subscribe(self) -> None:
        controller = self.controller
        controller.cache(controller.kind).on_change(self._enqueue(lambda o: (o.key,)))
        for kind in controller.owns:
            controller.cache(kind).on_change(self._enqueue(by_controller_owner(controller.kind)))
        for watch in controller.watches:
            controller.cache(watch.kind).on_change(self._enqueue(watch.keys))

    def _enqueue(self, keys: Callable[[Any], Iterable[str]]) -> Callable[[Object | None, Object | None], None]:
        def handler(old: Object | None, new: Object | None) -> None:
            for obj in (old, new):
                if obj is not None:
                    for key in keys(obj):
                        self.queue.add(key)

        return handler

    async def work(self) -> None:
        while (key := await self.queue.get()) is not None:
            try:
                await self._process(key)
            finally:
                self.queue.done(key)

    async def _process(self, key: str) -> None:
        name = self.controller.name
        obj = self.controller.cache(self.controller.kind).copy(key)
        try:
            if obj is None:
                await self.controller.gone(key)
                self.queue.forget(key)
                return
            before = copy.deepcopy(obj)
            try:
                result = await self.controller.reconcile(obj)
            finally:
                await self._patch_status(before, obj)
        except Terminal as error:
            log.warning("%s: %s cannot be reconciled until it changes: %s", name, key, error)
            self.queue.forget(key)
        except (Conflict, NotFound) as error:
            log.debug("%s: %s moved under us (%s), again", name, key, error)
            self.queue.retry(key)
        except StatusError as error:
            log.warning("%s: %s failed (%s), again in %.2fs", name, key, error, self.queue.retry(key))
        except Exception:
            log.exception("%s: %s failed, again in %.2fs", name, key, self.queue.retry(key))
        else:
            self.queue.forget(key)
            if result.after is not None:
                self.queue.add_after(key, result.after)

    async def _patch_status(self, before: Object, after: Object) -> None:
        old = _wire.to_builtins(before).get("status") or {}
        new = _wire.to_builtins(after).get("status") or {}
        patch = merge_patch(old, new)
        if not patch:
            return
        # A controller that patched metadata itself took over the version that it got back.
        version = after.metadata.resource_version if touches_list(patch) else ""
        await self.client.patch(
            type(after),
            after.metadata.name,
            {"status": patch},
            after.metadata.namespace or None,
            subresource="status",
            resource_version=version,
        )

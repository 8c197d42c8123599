"""Runs controllers: shared informers, one work queue a controller, one status patch a reconcile.

Invariants:
- no worker starts before the caches of its controller are filled;
- in the process of the API server a key is worked on again only after the caches have what it wrote; elsewhere they
  may be behind, so children have names that follow from their owner's, and AlreadyExists is a lost race as Conflict;
- whatever a controller raises costs its own key a delay and nobody else anything;
- what should run until `stop` and ends early is logged and begun again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.errors import AlreadyExists, Conflict, NotFound, StatusError
from headrace.machinery.controller import Controller, Terminal, by_controller_owner
from headrace.machinery.diff import merge_patch, touches_list
from headrace.machinery.informer import Informer
from headrace.machinery.queue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from headrace.api.meta import Object
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock
    from headrace.machinery.controller import AnyController, Result

log = logging.getLogger(__name__)

RESTART_DELAY = 1.0
MAX_RESTART_DELAY = 60.0
LOUD_DELAY = 1.0
"""Losing races is quiet until a key has lost so many that its backoff has come this far."""


class Manager:
    """Owns informers and workers. Controllers may use different clients; informers are shared."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._informers: dict[type[Object], Informer[Any]] = {}
        self._runners: list[_Runner] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._started = False

    def informer(self, kind: type[Object]) -> Informer[Any]:
        """The shared informer of a kind; it begins to run with `start`, or at once when that has happened."""
        found = self._informers.get(kind)
        if found is None:
            found = self._informers[kind] = Informer(self._client, self._clock, kind)
            if self._started:
                self._spawn(found.run, f"informer {kind.__name__}")
        return found

    def add(self, controller: AnyController, client: Client) -> None:
        """Run this controller; `client` is what its status patches are sent with."""
        kinds = {controller.kind, *controller.owns, *controller.reads, *(w.kind for w in controller.watches)}
        controller.caches = {kind: self.informer(kind) for kind in kinds}
        runner = _Runner(controller, client, self._clock)
        self._runners.append(runner)
        runner.subscribe()
        if self._started:
            self._tasks.append(asyncio.create_task(self._launch_when_filled(runner), name=f"start {controller.name}"))

    async def start(self) -> None:
        """Start informers, wait until every cache is filled, then start workers."""
        self._started = True
        informers, runners = list(self._informers.items()), list(self._runners)
        for kind, informer in informers:
            self._spawn(informer.run, f"informer {kind.__name__}")
        await asyncio.gather(*(informer.synced.wait() for _, informer in informers))
        for runner in runners:
            self._launch(runner)

    async def stop(self) -> None:
        """Stop workers and informers; a reconcile in progress is cancelled and will be done again."""
        for runner in self._runners:
            runner.queue.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._started = False

    @property
    def idle(self) -> bool:
        """Whether no key is ready or in work, for tests that wait for quiet."""
        return all(r.queue.idle for r in self._runners)

    async def _launch_when_filled(self, runner: _Runner) -> None:
        await asyncio.gather(*(informer.synced.wait() for informer in runner.controller.caches.values()))
        self._launch(runner)

    def _launch(self, runner: _Runner) -> None:
        for i in range(runner.controller.workers):
            self._spawn(runner.work, f"{runner.controller.name} worker {i}")
        if type(runner.controller).run is not Controller.run:
            self._spawn(runner.controller.run, runner.controller.name)

    def _spawn(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        self._tasks.append(asyncio.create_task(self._keep(work, name), name=name))

    async def _keep(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        """Run until it returns; an exception is logged and the work begun again, or its controller would be deaf."""
        delay = RESTART_DELAY
        while True:
            began = self._clock.monotonic()
            try:
                await work()
            except asyncio.CancelledError:
                if _cancelled():
                    raise
                log.exception("%s was cancelled by its own doing, again in %.0fs", name, delay)
            except Exception:
                log.exception("%s ended, again in %.0fs", name, delay)
            else:
                return
            if self._clock.monotonic() - began > MAX_RESTART_DELAY:
                delay = RESTART_DELAY
            await self._clock.sleep(delay)
            delay = min(delay * 2, MAX_RESTART_DELAY)


def _cancelled() -> bool:
    """Whether it is this task that shall end: awaiting something that was cancelled raises the same exception."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Runner:
    def __init__(self, controller: AnyController, client: Client, clock: Clock) -> None:
        self.controller, self.client = controller, client
        self.queue = WorkQueue(clock)

    def subscribe(self) -> None:
        controller = self.controller
        if not controller.workers:
            return
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
                # One turn for informers in this process: the key comes again only when they have seen what it wrote.
                await asyncio.sleep(0)
            finally:
                self.queue.done(key)

    async def _process(self, key: str) -> None:
        name, queue = self.controller.name, self.queue
        try:
            obj = self.controller.cache(self.controller.kind).copy(key)
            if obj is None:
                await self.controller.gone(key)
                after = None
            else:
                after = (await self._reconcile(obj)).after
        except Terminal as error:
            log.warning("%s: %s cannot be reconciled until it changes: %s", name, key, error)
            queue.forget(key)
        except (AlreadyExists, Conflict, NotFound) as error:
            delay = queue.retry(key)
            level = logging.WARNING if delay >= LOUD_DELAY else logging.DEBUG
            log.log(level, "%s: %s moved under us (%s), again in %.2fs", name, key, error, delay)
        except StatusError as error:
            ending = any(cause.reason == "NamespaceTerminating" for cause in error.causes)
            level = logging.DEBUG if ending else logging.WARNING  # what it is about goes with its namespace
            log.log(level, "%s: %s failed (%s), again in %.2fs", name, key, error, queue.retry(key))
        except asyncio.CancelledError:
            if _cancelled():
                raise
            log.exception("%s: %s awaited what was cancelled, again in %.2fs", name, key, queue.retry(key))
        except Exception:
            log.exception("%s: %s failed, again in %.2fs", name, key, queue.retry(key))
        else:
            queue.forget(key)
            if after is not None:
                queue.add_after(key, after)

    async def _reconcile(self, obj: Object) -> Result:
        """Reconcile, and send what changed in the status also when that raised."""
        uid, before = obj.metadata.uid, _status(obj)
        try:
            result = await self.controller.reconcile(obj)
        except Exception as error:
            try:
                await self._patch_status(uid, before, obj)
            except StatusError as failed:
                if isinstance(error, Terminal):
                    raise  # nobody comes back to a terminal object: what it says must be written first
                log.debug("%s: the status of %s is not written (%s)", self.controller.name, obj.key, failed)
            raise
        await self._patch_status(uid, before, obj)
        return result

    async def _patch_status(self, uid: str, before: dict[str, Any], obj: Object) -> None:
        patch = merge_patch(before, _status(obj))
        if not patch:
            return
        # A controller that patched metadata itself took over the version that it got back.
        version = obj.metadata.resource_version if touches_list(patch, before) else ""
        await self.client.patch(
            type(obj),
            obj.metadata.name,
            # The uid is a precondition: an object of the same name that came after ours begins with its own status.
            {"metadata": {"uid": uid}, "status": patch} if uid else {"status": patch},
            obj.metadata.namespace or None,
            subresource="status",
            resource_version=version,
        )


def _status(obj: Object) -> dict[str, Any]:
    found: dict[str, Any] | None = _wire.to_builtins(getattr(obj, "status", None))
    return found or {}

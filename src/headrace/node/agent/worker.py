"""The life of one pod: admission, volumes and network, init containers, containers, the end.

    run
      live      admit -> prepare -> init containers in order -> containers side by side   (cancelled to end early)
      end       stop what runs, write the last status, remove the pod from the runtime, let the object go

Everything that happened is in `facts` and, behind, in the stored status; so a new worker for the same pod goes
on where this one was. The pod's status is written by a task of its own: no start waits for the API server.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import datetime as dt
import logging
from typing import TYPE_CHECKING

import msgspec

from headrace.api.core import EphemeralContainer
from headrace.api.errors import Conflict, NotFound, StatusError
from headrace.node.agent import admission, status
from headrace.node.agent.container import DEFAULT_GRACE_SECONDS, ContainerRunner
from headrace.node.agent.owner import AT_ONCE, LATER
from headrace.node.agent.preparation import RETRY_SECONDS, Preparation
from headrace.node.agent.status import Facts, Verdict
from headrace.node.agent.waiting import Pulse
from headrace.node.agent.writer import StatusWriter
from headrace.node.images.requirements import ANNOTATION
from headrace.node.images.service import ImageError
from headrace.node.volumes.pod import PodVolumes, references
from headrace.node.volumes.tokens import PodTokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.api.core import Container, ContainerStatus, Pod, PodStatus
    from headrace.node.agent.host import Host
    from headrace.node.runtime.base import ContainerState as Observed

log = logging.getLogger(__name__)

DEADLINE = "DeadlineExceeded"
REFUSED = "UnexpectedAdmissionError"


class PodWorker:
    """Runs one pod; also the `Owner` of its containers."""

    def __init__(self, host: Host, pod: Pod, found: Sequence[Observed]) -> None:
        self.host = host
        self.uid = pod.metadata.uid
        self._key = pod.key
        self._found = _by_container(found)
        self._adopted = bool(found) or bool(pod.status.container_statuses)
        spec, held = pod.spec, pod.status
        waiting = status.INITIALIZING if spec.init_containers else status.CREATING
        self.facts = Facts(
            init=_statuses(spec.init_containers, held.init_container_statuses, waiting),
            main=_statuses(spec.containers, held.container_statuses, waiting),
            guests=_statuses(spec.ephemeral_containers, held.ephemeral_container_statuses, status.CREATING),
            scheduled=bool(spec.node_name),
            sandboxed=bool(found),
            ip=held.pod_ip,
            host_ip=host.settings.node_ip,
            start_time=held.start_time,
        )
        tokens = PodTokens(host.client, host.clock, pod)
        self.volumes = PodVolumes(self.uid, host.folders, host.caches, tokens)
        self.references = references(pod)
        self._writer = StatusWriter(host.client, host.clock, pod, self._compute)
        self._preparation = Preparation(self, self.facts)
        self._init = [self._runner(c, s) for c, s in zip(spec.init_containers, self.facts.init, strict=True)]
        self._main = [self._runner(c, s) for c, s in zip(spec.containers, self.facts.main, strict=True)]
        self._guests = [self._runner(c, s) for c, s in zip(spec.ephemeral_containers, self.facts.guests, strict=True)]
        """Ephemeral containers."""
        self._touched, self._grace_changed = Pulse(), Pulse()
        self._admitted, self._must_end = asyncio.Event(), asyncio.Event()
        self._deadline = 0.0
        if held.phase not in status.FINISHED:
            self._adopt()
        self.over = asyncio.Event()
        """Set when nothing of the pod runs any more."""
        self.finished = False
        """The pod has run to its end and nothing of it is left but its object and logs."""

    # The pod as its containers see it: see owner.Owner.

    @property
    def pod(self) -> Pod:
        """See Owner."""
        return self._writer.pod

    def as_known(self) -> Pod:
        """The pod with the status that it has by now, written or not."""
        found = copy.copy(self.pod)
        found.status = status.copied(self._compute(self.pod))
        return found

    @property
    def ip(self) -> str:
        """See Owner."""
        return self.facts.ip

    @property
    def touched(self) -> asyncio.Event:
        """See Owner."""
        return self._touched.next

    def changed(self, *, within: float = LATER) -> None:
        """See Owner."""
        self._writer.changed(within=within)

    # What the agent tells.

    def observe(self, pod: Pod) -> None:
        """A new version of the pod."""
        old = self.pod
        if not self._writer.observe(pod):
            return
        mine, theirs = old.metadata, pod.metadata
        wanted = old.spec if old.spec.node_name else msgspec.structs.replace(old.spec, node_name=pod.spec.node_name)
        if (wanted, mine.annotations, mine.labels) != (pod.spec, theirs.annotations, theirs.labels):
            self.references = references(pod)
            for runner, container in zip(self._main, pod.spec.containers, strict=False):
                runner.redefine(container)
            self._welcome(pod)
            self._touched.beat()
        if pod.spec.readiness_gates and old.status.conditions != pod.status.conditions:
            self.changed()
        if theirs.deletion_timestamp is not None:
            self._delete(pod)

    def object_changed(self) -> None:
        """An object that the pod refers to has changed."""
        self._touched.beat()

    def gone(self) -> None:
        """The object is no longer in the store: end at once."""
        self._writer.leave()
        self._deadline = self.host.clock.monotonic()
        self._grace_changed.beat()
        self._must_end.set()

    def exited(self, observed: Observed) -> None:
        """The runtime reports the end of a container."""
        for runner in self._all:
            runner.exited(observed)

    def attempt(self, container: str) -> int | None:
        """The number of a container's start that has not ended; None when there is none."""
        for runner in self._all:
            if runner.container.name == container:
                return runner.attempt
        return None

    def running(self, container: str) -> str:
        """See Owner."""
        return next((r.id for r in self._all if r.container.name == container and r.running), "")

    # The life.

    async def run(self) -> None:
        """From wherever the pod is to its end. When cancelled, everything that runs goes on running."""
        writing = asyncio.create_task(self._writer.run(), name=f"status of {self._key}")
        try:
            if self.pod.metadata.deletion_timestamp is not None:
                self._delete(self.pod)
            if self.pod.status.phase not in status.FINISHED:
                await self._live_until_told()
            await self._end()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _live_until_told(self) -> None:
        life = asyncio.create_task(self._live_on(), name=f"pod {self._key}")
        told = asyncio.create_task(self._must_end.wait())
        tasks = {life, told}
        if self.pod.spec.active_deadline_seconds is not None:
            tasks.add(asyncio.create_task(self._watch_deadline()))
        try:
            await asyncio.wait({life, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _adopt(self) -> None:
        rebooted = not self._found and any(held.state.running for held in self.facts.main)
        for runner in self._all:
            runner.adopt(self._found.get(runner.container.name, {}))
        if rebooted and self.pod.spec.restart_policy != "Never":
            # A new sandbox: what the init containers prepared may be gone, so they run again.
            for runner in self._init:
                runner.wait_with(status.INITIALIZING)

    async def _live_on(self) -> None:
        pause, longest = RETRY_SECONDS
        while True:
            try:
                await self._live()
            except Exception:
                log.exception("pod %s: trying again in %.1f s", self._key, pause)
                await self.host.clock.sleep(pause)
                pause = min(pause * 2, longest)
            else:
                return

    async def _live(self) -> None:
        try:
            await self._admit()
        except admission.Refused as error:
            self.host.reporter.warning(self.pod, REFUSED, str(error))
            self.facts.scheduled = True
            self.facts.start_time = self.host.clock.now()
            self.facts.verdict = Verdict("Failed", REFUSED, str(error))
            return
        await self._prepare()
        others = [self._preparation.keep_files_fresh(), self._keep_guests()]
        if self._init:
            others.append(self._build_ahead())
        beside = [asyncio.create_task(work) for work in others]
        try:
            for runner in self._init:
                if status.is_sidecar(runner.container):
                    beside.append(asyncio.create_task(runner.run()))
                    await runner.started.wait()
                    continue
                await runner.run()
                ended = runner.status.state.terminated
                if ended is None or ended.exit_code:
                    return
            for runner in self._main:
                waiting = runner.status.state.waiting
                if waiting is not None and waiting.reason == status.INITIALIZING:
                    runner.wait_with(status.CREATING)
            async with asyncio.TaskGroup() as group:
                for runner in self._main:
                    group.create_task(runner.run())
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    def _welcome(self, pod: Pod) -> None:
        """Know the ephemeral containers that have been added."""
        known = {runner.container.name for runner in self._guests}
        for container in pod.spec.ephemeral_containers:
            if container.name not in known:
                held = status.fresh([container], waiting=status.CREATING)[0]
                self.facts.guests.append(held)
                self._guests.append(self._runner(container, held))

    async def _keep_guests(self) -> None:
        """Run ephemeral containers, whenever they are added."""
        tasks: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                touched = self._touched.next
                for runner in self._guests:
                    name = runner.container.name
                    if name not in tasks:
                        tasks[name] = asyncio.create_task(runner.run(), name=f"{name} in {self._key}")
                await touched.wait()
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _admit(self) -> None:
        facts, host, pod = self.facts, self.host, self.pod
        # A container that runs already was admitted by an agent that ended before it could write so.
        bound = bool(pod.spec.node_name)
        if self._found:
            host.room.take(pod)
        else:
            await admission.admit(self, facts)
        facts.scheduled = True
        facts.start_time = facts.start_time or host.clock.now()
        if not bound and not self.pod.spec.node_name:
            name = host.settings.node_name
            host.reporter.normal(self.pod, "Scheduled", f"Successfully assigned {self._key} to {name}")
            self._writer.bind(name)
        self._admitted.set()
        self.changed()

    async def _prepare(self) -> None:
        await self._preparation.run(self._show_mount_problem)
        self.facts.sandboxed = True
        self.changed()

    def _show_mount_problem(self, message: str) -> None:
        for runner in (*self._init, *self._main):
            waiting = runner.status.state.waiting
            if waiting is not None:
                waiting.message = message
        self.changed(within=AT_ONCE)

    async def _build_ahead(self) -> None:
        """Begin to build the containers' environments while init containers run."""
        requirements = self.pod.metadata.annotations.get(ANNOTATION, "")
        for image in {c.image for c in self.pod.spec.containers}:
            with contextlib.suppress(ImageError):
                await self.host.images.resolve(image, requirements)

    async def _watch_deadline(self) -> None:
        seconds, clock = self.pod.spec.active_deadline_seconds, self.host.clock
        if seconds is None:
            return
        await self._admitted.wait()
        due = (self.facts.start_time or clock.now()) + dt.timedelta(seconds=seconds)
        await clock.sleep(max(0.0, (due - clock.precise()).total_seconds()))
        message = "Pod was active on the node longer than the specified deadline"
        self.facts.verdict = Verdict("Failed", DEADLINE, message)
        self.host.reporter.normal(self.pod, DEADLINE, message)
        grace = self.pod.spec.termination_grace_period_seconds
        self._deadline = clock.monotonic() + (DEFAULT_GRACE_SECONDS if grace is None else grace)
        self._must_end.set()

    def end(self, reason: str, message: str, grace: float, *, disruption: str) -> None:
        """The node ends the pod: it has failed."""
        self.facts.verdict = Verdict("Failed", reason, message)
        self.facts.disruption = (disruption, message)
        if not self._must_end.is_set():
            self._deadline = self.host.clock.monotonic() + grace
            self._must_end.set()

    async def send_away(self, reason: str, message: str) -> None:
        """Have the pod deleted for the sake of others, which its status says."""
        meta = self.pod.metadata
        self.facts.disruption = (reason, message)
        self.changed(within=AT_ONCE)
        await self._writer.settled()
        try:
            await self.host.client.delete(type(self.pod), meta.name, meta.namespace, uid=self.uid)
        except (NotFound, Conflict):
            return
        except StatusError as error:
            log.warning("pod %s was not sent away: %s", self._key, error)

    # The end.

    def _delete(self, pod: Pod) -> None:
        clock, meta = self.host.clock, pod.metadata
        grace = float(meta.deletion_grace_period_seconds or 0)
        if self._adopted and meta.deletion_timestamp is not None and not self._must_end.is_set():
            grace = min(grace, max(0.0, (meta.deletion_timestamp - clock.precise()).total_seconds()))
        deadline = clock.monotonic() + grace
        if not self._must_end.is_set() or deadline < self._deadline:
            self._deadline = deadline
            self._grace_changed.beat()
        self._must_end.set()

    async def _end(self) -> None:
        host, facts = self.host, self.facts
        facts.ended = True
        if self.pod.status.phase not in status.FINISHED:
            await self._stop_containers()
            if facts.scheduled:
                self._settle_statuses()
        self.over.set()
        host.room.give_back(self.uid)
        facts.sandboxed = False
        self.changed(within=AT_ONCE)
        # The last status is on disk before the runtime forgets what it rests on.
        await self._writer.settled()
        await self._remove_from_runtime()
        host.folders.discard(self.uid)
        host.runtime.sweep(*host.folders.trash)
        await host.ports.close(self.uid)
        host.devices.release(self.uid)
        if facts.ip and not self.pod.spec.host_network:
            host.addresses.release(facts.ip)
        self.finished = True
        if self.pod.metadata.deletion_timestamp is not None and not self._writer.gone.is_set():
            await self.let_go()

    async def _stop_containers(self) -> None:
        def left() -> float:
            return self._deadline - self.host.clock.monotonic()

        def hurry() -> asyncio.Event:
            return self._grace_changed.next

        sidecars = [r for r in self._init if status.is_sidecar(r.container)]
        others = [r for r in self._all if r not in sidecars]
        if not self._must_end.is_set():
            # The containers have ended by themselves; only sidecars are left.
            grace = self.pod.spec.termination_grace_period_seconds
            self._deadline = self.host.clock.monotonic() + (DEFAULT_GRACE_SECONDS if grace is None else grace)
        await asyncio.gather(*(r.stop(left, hurry) for r in others))
        await asyncio.gather(*(r.stop(left, hurry) for r in reversed(sidecars)))

    def _settle_statuses(self) -> None:
        """Containers that never came to an end get one, unless a failed init container kept them from starting."""
        if not self._must_end.is_set():
            return
        for held in (*self.facts.init, *self.facts.main, *self.facts.guests):
            if held.state.terminated is None:
                status.lost(held, self.host.clock.now())

    async def _remove_from_runtime(self) -> None:
        pause, longest = RETRY_SECONDS
        while True:
            try:
                await self.host.runtime.remove_pod(self.uid)
            except Exception:
                log.exception("pod %s was not removed from the runtime, again in %.1f s", self._key, pause)
                await self.host.clock.sleep(pause)
                pause = min(pause * 2, longest)
            else:
                return

    async def let_go(self) -> None:
        """Finish the deletion of the object."""
        meta = self.pod.metadata
        try:
            await self.host.client.delete(
                type(self.pod), meta.name, meta.namespace, uid=self.uid, grace_period_seconds=0
            )
        except (NotFound, Conflict):
            return  # somebody else finished it; the name may be another pod's by now
        except StatusError as error:
            log.warning("pod %s was not deleted: %s", self._key, error)

    # Helpers.

    @property
    def _all(self) -> tuple[ContainerRunner, ...]:
        return (*self._init, *self._main, *self._guests)

    def _runner(self, container: Container, held: ContainerStatus) -> ContainerRunner:
        spec = self._writer.pod.spec
        policy = "Never" if isinstance(container, EphemeralContainer) else spec.restart_policy
        if any(c is container for c in spec.init_containers):
            # An init container that fails is tried again unless the pod's policy is Never; one that succeeds is done.
            policy = "Always" if status.is_sidecar(container) else "Never" if policy == "Never" else "OnFailure"
        return ContainerRunner(self, container, held, policy)

    def _compute(self, pod: Pod) -> PodStatus:
        return status.pod_status(pod, self.facts, self.host.clock.now())


def _statuses(containers: Sequence[Container], held: Sequence[ContainerStatus], waiting: str) -> list[ContainerStatus]:
    # Copies: these are changed in place, and the pod is the cache's.
    known = {s.name: status.copied(s) for s in held}
    return [known.get(c.name) or status.fresh([c], waiting=waiting)[0] for c in containers]


def _by_container(found: Sequence[Observed]) -> Mapping[str, dict[int, Observed]]:
    result: dict[str, dict[int, Observed]] = {}
    for observed in found:
        name, _, attempt = observed.id.rpartition("-")
        result.setdefault(name, {})[int(attempt)] = observed
    return result

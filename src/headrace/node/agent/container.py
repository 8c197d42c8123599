"""One container of a pod through all its starts: process, probes, hooks, end, start again.

`run` returns when the container will not be started any more. The end of a process is recorded in `status` the
moment the runtime reports it, whoever is waiting; so `run` may be cancelled at any point, and a new `run`, in
this process or the next, goes on from what `status` and the runtime say.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from headrace.api.core import ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting
from headrace.node.agent import prober, probing, status
from headrace.node.agent.launching import Launcher
from headrace.node.agent.owner import AT_ONCE, LATER, SHORT, SOON
from headrace.node.agent.restarts import Backoff, restarts
from headrace.node.agent.waiting import first
from headrace.node.runtime.base import ContainerPhase, StartFailed

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Mapping

    from headrace.api.core import Container, ContainerStatus, LifecycleHandler
    from headrace.node.agent.owner import Owner
    from headrace.node.runtime.base import ContainerState as Observed

START_ERROR = 128
DEFAULT_GRACE_SECONDS = 30
_AFTER_KILL_SECONDS = 10.0


class ContainerRunner:
    """Runs one container under a restart policy. `held` is its status, kept up to date in place."""

    def __init__(self, owner: Owner, container: Container, held: ContainerStatus, policy: str) -> None:
        self._owner, self._host, self.container = owner, owner.host, container
        self.status, self._policy = held, policy
        self.id = ""
        """The runtime's id of the newest start."""
        self.started = asyncio.Event()
        """Set while the container runs and its startup probe, if any, has succeeded."""
        self._ended = asyncio.Event()
        self._ended_at = 0.0
        self._crash = Backoff()
        self._launcher = Launcher(owner, container, self.wait_with)

    @property
    def running(self) -> bool:
        """Whether a process of it is there."""
        return self.status.state.running is not None

    def redefine(self, container: Container) -> None:
        """The container's definition changed (its image may); the next start follows it."""
        self.container = container
        self._launcher.redefine(container)

    @property
    def attempt(self) -> int | None:
        """The number of the start that has not ended; None when there is none."""
        return self.status.restart_count if self.id and not self._ended.is_set() else None

    def adopt(self, found: Mapping[int, Observed]) -> None:
        """Take over what the runtime knows of earlier starts, by attempt; nothing is started again for it."""
        held = self.status
        if not found:
            if self.running:
                status.lost(held, self._host.clock.now())
                self._over()
            return
        attempt = max(found)
        observed = found[attempt]
        self.id = observed.id
        recorded = held.state.terminated or held.last_state.terminated
        if recorded is not None and recorded.container_id == self._full_id():
            held.state = ContainerState(terminated=recorded)
            self._ended.set()
            return
        if held.state.terminated is not None:
            held.last_state = ContainerState(terminated=held.state.terminated)
        held.restart_count = attempt
        held.container_id = self._full_id()
        held.state = ContainerState(running=ContainerStateRunning(started_at=_whole(observed.started_at)))
        if observed.phase is ContainerPhase.EXITED:
            self.exited(observed)
        elif held.started or self.container.startup_probe is None:
            held.started = True
            held.ready = held.ready or self.container.readiness_probe is None
            self.started.set()

    def exited(self, observed: Observed) -> None:
        """The runtime reports the end of a start; also by the answer to the start itself, when it is that short."""
        held = self.status
        if observed.id != self.id or self._ended.is_set():
            return
        log = self._launcher.log(held.restart_count)
        message = self._launcher.message(self.id).read(log, failed=observed.exit_code != 0)
        held.state = ContainerState(
            terminated=ContainerStateTerminated(
                exit_code=observed.exit_code,
                signal=observed.signal,
                reason="OOMKilled" if observed.oom_killed else "Error" if observed.exit_code else "Completed",
                message=message,
                started_at=_whole(observed.started_at),
                finished_at=_whole(observed.finished_at or self._host.clock.now()),
                container_id=self._full_id(),
            )
        )
        self._over()

    async def run(self) -> None:
        """Start, watch, start again; until the restart policy says that it is over."""
        while True:
            ended = self.status.state.terminated
            if ended is not None:
                if not restarts(self._policy, ended.exit_code):
                    return
                await self._back_off()
            if not self.running:
                await self._start()
            if self.running:
                await self._watch()

    async def stop(self, left: Callable[[], float], hurry: Callable[[], asyncio.Event]) -> None:
        """End the process: preStop, SIGTERM, and SIGKILL when `left` says that no seconds are left. `hurry` gives
        an event that is set when the grace period changes.
        """
        if not self.running:
            return
        host, uid = self._host, self._owner.pod.metadata.uid
        host.reporter.normal(self._owner.pod, "Killing", f"Stopping container {self.container.name}")
        lifecycle = self.container.lifecycle
        if lifecycle is not None and lifecycle.pre_stop is not None and left() > 0:
            done = asyncio.Event()
            hook = asyncio.create_task(self._hook(lifecycle.pre_stop, "PreStop"))
            hook.add_done_callback(lambda _: done.set())
            await first(host.clock, left(), done, self._ended)
            hook.cancel()
        if left() > 0:
            await host.runtime.kill(uid, self.id, signal.SIGTERM)
        while not self._ended.is_set() and left() > 0:
            await first(host.clock, left(), self._ended, hurry())
        await self._kill()

    def wait_with(self, reason: str, message: str = "") -> None:
        """Show a waiting state."""
        held = self.status
        if held.state.terminated is not None:
            held.last_state = ContainerState(terminated=held.state.terminated)
        held.state = ContainerState(waiting=ContainerStateWaiting(reason=reason, message=message))
        held.ready = held.started = False
        self._owner.changed(within=AT_ONCE if message else LATER)

    # What the probes say: see prober.Listener.

    def probe_failed(self, kind: str, message: str) -> None:
        """See prober.Listener."""
        self._host.reporter.warning(self._owner.pod, "Unhealthy", f"{kind} probe failed: {message}")

    def set_started(self) -> None:
        """See prober.Listener."""
        self.started.set()
        if not self.status.started and self.running:
            self.status.started = True
            self._owner.changed(within=SOON)

    def set_ready(self, *, ready: bool) -> None:
        """See prober.Listener."""
        if self.status.ready != ready and self.running:
            self.status.ready = ready
            self._owner.changed(within=AT_ONCE)

    async def _start(self) -> None:
        environment = await self._launcher.environment()
        attempt = self._next_attempt()
        spec = await self._launcher.spec(environment, attempt)
        host, held, pod, name = self._host, self.status, self._owner.pod, self.container.name
        if held.state.terminated is not None:
            held.last_state = ContainerState(terminated=held.state.terminated)
        held.state = ContainerState(waiting=ContainerStateWaiting(reason=status.CREATING))
        held.restart_count, held.image, held.image_id = attempt, self.container.image, environment.id
        self.id = spec.id
        held.container_id = self._full_id()
        self._ended.clear()
        self.started.clear()
        try:
            observed = await host.runtime.start_container(spec)
        except StartFailed as error:
            self._start_failed(str(error))
            return
        host.reporter.normal(pod, "Created", f"Created container: {name}")
        host.reporter.normal(pod, "Started", f"Started container {name}")
        if self._ended.is_set():
            return  # it ended, and was recorded, before its start was reported
        held.state = ContainerState(running=ContainerStateRunning(started_at=_whole(observed.started_at)))
        if observed.phase is ContainerPhase.EXITED:
            self.exited(observed)
            return
        if self.container.startup_probe is None:
            held.started = True
            held.ready = self.container.readiness_probe is None
            self.started.set()
        self._owner.changed(within=SOON if spec.warm is None else SHORT)

    def _start_failed(self, message: str) -> None:
        now = self._host.clock.now()
        self.status.state = ContainerState(
            terminated=ContainerStateTerminated(
                exit_code=START_ERROR,
                reason="StartError",
                message=message,
                started_at=now,
                finished_at=now,
                container_id=self._full_id(),
            )
        )
        self._host.reporter.warning(self._owner.pod, "Failed", f"Error: {message}")
        self._over()

    async def _watch(self) -> None:
        lifecycle = self.container.lifecycle
        hook = lifecycle.post_start if lifecycle is not None else None
        if hook is not None and not await self._hook(hook, "PostStart"):
            await self._terminate(f"Container {self.container.name} failed its postStart hook", None)
        if self._has_probes and not self._ended.is_set():
            await self._probe()
        await self._ended.wait()

    async def _probe(self) -> None:
        host, held = self._host, self.status
        began = held.state.running.started_at if held.state.running is not None else None
        age = max(0.0, (host.clock.now() - began).total_seconds()) if began is not None else 0.0
        watching = prober.watch(self._target(), host.clock, self, age=age, started=bool(held.started), ready=held.ready)
        probes, ended = asyncio.create_task(watching), asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({probes, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not self._ended.is_set():
                failed = self.container.liveness_probe if self.started.is_set() else self.container.startup_probe
                grace = failed.termination_grace_period_seconds if failed is not None else None
                await self._terminate(probes.result(), grace)
        finally:
            probes.cancel()
            ended.cancel()

    async def _terminate(self, why: str, grace: int | None) -> None:
        """End the process because it is not well; the restart policy decides what comes next."""
        host, pod = self._host, self._owner.pod
        host.reporter.normal(pod, "Killing", why)
        if grace is None:
            grace = pod.spec.termination_grace_period_seconds
        await host.runtime.kill(pod.metadata.uid, self.id, signal.SIGTERM)
        await first(host.clock, float(DEFAULT_GRACE_SECONDS if grace is None else grace), self._ended)
        await self._kill()

    async def _kill(self) -> None:
        if self._ended.is_set():
            return
        host = self._host
        await host.runtime.kill(self._owner.pod.metadata.uid, self.id, signal.SIGKILL)
        if not await first(host.clock, _AFTER_KILL_SECONDS, self._ended):
            status.lost(self.status, host.clock.now())
            self._over()

    async def _hook(self, handler: LifecycleHandler, name: str) -> bool:
        target = self._target()
        if handler.sleep is not None:
            await self._host.clock.sleep(float(handler.sleep.seconds))
            return True
        if handler.exec is not None:
            answer = await probing.run_command(handler.exec, target, None)
        elif handler.http_get is not None:
            answer = await probing.http_get(handler.http_get, target)
        else:
            return True
        if not answer.ok:
            self._host.reporter.warning(self._owner.pod, f"Failed{name}Hook", f"{name}Hook failed: {answer.message}")
        return answer.ok

    async def _back_off(self) -> None:
        host, meta, name = self._host, self._owner.pod.metadata, self.container.name
        now = host.clock.monotonic()
        delay = self._crash.after_exit(self._ended_at or now, now)
        if delay <= 0:
            return
        where = f"{meta.name}_{meta.namespace}({meta.uid})"
        pause = _go_duration(self._crash.applied)
        self.wait_with("CrashLoopBackOff", f"back-off {pause} restarting failed container={name} pod={where}")
        host.reporter.warning(self._owner.pod, "BackOff", f"Back-off restarting failed container {name} in pod {where}")
        await host.clock.sleep(delay)

    def _over(self) -> None:
        held = self.status
        ended = held.state.terminated
        init = any(c.name == self.container.name for c in self._owner.pod.spec.init_containers)
        held.started = False
        held.ready = init and self._policy != "Always" and ended is not None and ended.exit_code == 0
        self._ended_at = self._host.clock.monotonic()
        self._ended.set()
        self._owner.changed(within=AT_ONCE)

    def _next_attempt(self) -> int:
        held = self.status
        began = held.state.terminated is not None or held.last_state.terminated is not None or bool(self.id)
        return held.restart_count + 1 if began else held.restart_count

    @property
    def _has_probes(self) -> bool:
        own = self.container
        return any(p is not None for p in (own.startup_probe, own.liveness_probe, own.readiness_probe))

    def _target(self) -> probing.Target:
        pod = self._owner.pod
        uid, host_network = pod.metadata.uid, pod.spec.host_network
        return probing.Target(self._host.runtime, uid, self.id, self.container, self._owner.ip, host_network)

    def _full_id(self) -> str:
        return f"headrace://{self._owner.pod.metadata.uid}/{self.id}"


def _whole(moment: dt.datetime) -> dt.datetime:
    return moment.replace(microsecond=0)


def _go_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"

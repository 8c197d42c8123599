"""From a container's wish to what the runtime starts: its image's environment, variables, mounts, limits.

What is missing (an image, a ConfigMap, a key) leaves the container waiting with the kubelet's reason and
sentence, and is tried again when something changes or a while has passed.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.api.core import EphemeralContainer
from headrace.api.quantity import parse
from headrace.node.agent import command, interpreter, names, security, variables
from headrace.node.agent.host import programs
from headrace.node.agent.restarts import Backoff
from headrace.node.agent.status import CREATING
from headrace.node.agent.termination import TerminationMessage
from headrace.node.agent.waiting import first
from headrace.node.devices import NoDevice
from headrace.node.expansion import expand
from headrace.node.images.credentials import logins
from headrace.node.images.requirements import ANNOTATION
from headrace.node.images.service import ImageError
from headrace.node.runtime.base import ContainerSpec, Mount
from headrace.node.volumes import VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headrace.api.core import Container
    from headrace.machinery.clock import Clock
    from headrace.node.agent.owner import Owner
    from headrace.node.images.progress import Progress
    from headrace.node.images.real import RealImages
    from headrace.node.images.service import Environment

CONFIG_RETRY_SECONDS = 10.0
PROGRESS_SECONDS = 1.0
"""How often a container that waits for a build says how far it is."""
_PULL_BACKOFF = "ImagePullBackOff"


class _Building:
    """Shows how far a build is while it goes on; most are over before there is anything to show."""

    def __init__(self, clock: Clock, show: Callable[[str], None]) -> None:
        self._clock, self._show = clock, show
        self._progress: Progress | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def goes_on(self) -> bool:
        """Whether there is something to wait for."""
        return self._progress is not None

    def tell(self, progress: Progress) -> None:
        """From now on it is this that goes on."""
        self._progress = progress
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """It is over."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._progress = None

    async def _run(self) -> None:
        shown = ""
        while self._progress is not None:
            await self._clock.sleep(PROGRESS_SECONDS)
            said = self._progress.sentence
            if said != shown:
                self._show(said)
                shown = said


class Launcher:
    """Prepares the starts of one container. `wait_with` shows a reason and a message as its waiting state."""

    def __init__(self, owner: Owner, container: Container, wait_with: Callable[[str, str], None]) -> None:
        self._owner, self._host, self._container = owner, owner.host, container
        self._wait_with = wait_with
        self._pull = Backoff()
        self._waiting_for = ""
        self._warned = False

    def redefine(self, container: Container) -> None:
        """The container's definition changed; its next start follows the new one."""
        self._container = container

    async def environment(self) -> Environment:
        """The image's environment, as soon as there is one."""
        host = self._host
        building = _Building(
            host.clock, lambda said: self._wait_with(CREATING, f"its environment is being made: {said}")
        )
        try:
            while True:
                pod, touched, image = self._owner.pod, self._owner.touched, self._container.image
                began = host.clock.monotonic()
                try:
                    found = await host.images.resolve(
                        image,
                        pod.metadata.annotations.get(ANNOTATION, ""),
                        on_pull=lambda progress: self._pulling(building, progress),
                        real=self._real_images(),
                        policy=self._container.image_pull_policy,
                    )
                except ImageError as error:
                    building.stop()
                    await self._no_image(error, touched)
                    continue
                self._waiting_for = ""
                seconds = host.clock.monotonic() - began
                said = _pulled(image, seconds, found.size) if building.goes_on else _present(image)
                host.reporter.normal(pod, "Pulled", said)
                if found.warning and not self._warned:
                    self._warned = True
                    host.reporter.warning(pod, "OwnPackages" if found.real else "OtherPython", found.warning)
                return found
        finally:
            building.stop()

    def _real_images(self) -> RealImages | None:
        found = self._host.real_images
        return found if found is None else replace(found, logins=self._logins)

    def _logins(self) -> bytes:
        """What the pod's secrets say to registries."""
        host, pod = self._host, self._owner.pod
        file, useless = logins(pod, lambda name: host.caches.secret(pod.metadata.namespace, name))
        if useless:
            words = f"Unable to retrieve some image pull secrets ({', '.join(useless)}); attempting to pull the image"
            host.reporter.warning(pod, "FailedToRetrieveImagePullSecret", f"{words} may not succeed.")
        return file

    def _pulling(self, building: _Building, progress: Progress) -> None:
        if not building.goes_on:
            self._host.reporter.normal(self._owner.pod, "Pulling", f'Pulling image "{self._container.image}"')
        building.tell(progress)

    async def spec(self, environment: Environment, attempt: int) -> ContainerSpec:
        """What to start, as soon as everything that it refers to is there."""
        while True:
            touched = self._owner.touched
            try:
                return self._build(environment, attempt)
            except (variables.ConfigError, VolumeError, NoDevice) as error:
                reason, message = "CreateContainerConfigError", str(error)
            except command.NoCommand as error:
                reason, message = "CreateContainerError", str(error)
            self._wait_with(reason, message)
            self._host.reporter.warning(self._owner.pod, "Failed", f"Error: {message}")
            await first(self._host.clock, CONFIG_RETRY_SECONDS, touched)

    def log(self, attempt: int) -> Path:
        """The log file of one start."""
        return self._host.log_folder(self._owner.pod) / self._container.name / f"{attempt}.log"

    def message(self, identity: str) -> TerminationMessage:
        """The termination message of one start."""
        folder = self._host.folders.small(self._owner.pod.metadata.uid) / "messages"
        return TerminationMessage(self._container, folder / identity)

    async def _no_image(self, error: ImageError, touched: asyncio.Event) -> None:
        host, pod, image = self._host, self._owner.pod, self._container.image
        if error.reason == "InvalidImageName":
            host.reporter.warning(pod, "InspectFailed", error.message)
            self._wait_with(error.reason, error.message)
        elif self._waiting_for == error.message:
            host.reporter.normal(pod, "BackOff", f'Back-off pulling image "{image}"')
            host.reporter.warning(pod, "Failed", f"Error: {_PULL_BACKOFF}")
            self._wait_with(_PULL_BACKOFF, f'Back-off pulling image "{image}": {error.reason}: {error.message}')
        else:
            host.reporter.warning(pod, "Failed", f'Failed to pull image "{image}": {error.message}')
            host.reporter.warning(pod, "Failed", f"Error: {error.reason}")
            self._wait_with(error.reason, error.message)
        self._waiting_for = error.message
        await first(host.clock, self._pull.after_failure(host.clock.monotonic()), touched)

    def _build(self, environment: Environment, attempt: int) -> ContainerSpec:
        pod, container = self._owner.pod, self._container
        identity = f"{container.name}-{attempt}"
        who = security.user_of_real if environment.real else security.user
        uid, gid = who(pod, container, environment.user)
        device_files, device_variables = self._host.devices.give(pod, container)
        found = self._variables(environment, uid, device_variables)
        words = command.argv(container, environment, found)
        platforms = interpreter.needed(words) if environment.real else (programs(),)
        if environment.real and platforms:
            words = interpreter.inside(words)
        sub_paths = {m.mount_path: expand(m.sub_path_expr, found) for m in container.volume_mounts if m.sub_path_expr}
        own = container.security_context
        limits = container.resources.limits
        return ContainerSpec(
            id=identity,
            pod_uid=pod.metadata.uid,
            argv=words,
            env=found,
            log_path=self.log(attempt),
            cwd=container.working_dir or environment.workdir or "/",
            image=environment.image if environment.real else "",
            mounts=(
                *platforms,
                *(Mount(target, source, read_only=True) for target, source in environment.files),
                *self._owner.volumes.mounts(container, sub_paths),
                self.message(identity).mount(),
                *device_files,
            ),
            uid=uid,
            gid=gid,
            groups=security.groups(pod),
            capabilities=security.capabilities(container, of_image=environment.real),
            filtered=security.filtered(pod, container),
            joins=self._joins(),
            read_only_root=bool(own is not None and own.read_only_root_filesystem),
            writable=environment.writable,
            layers=environment.layers,
            memory_bytes=int(parse(limits["memory"])) if "memory" in limits else None,
            cpus=float(parse(limits["cpu"])) if "cpu" in limits else None,
            # What is meant to run for ever starts too seldom to keep an interpreter warm for it.
            warm=None if pod.spec.restart_policy == "Always" else command.warm(words, environment, found),
            stdin=container.stdin,
            tty=container.tty,
        )

    def _joins(self) -> str:
        container = self._container
        name = container.target_container_name if isinstance(container, EphemeralContainer) else ""
        if not name or self._owner.pod.spec.share_process_namespace:
            return ""
        target = self._owner.running(name)
        if not target:
            raise variables.ConfigError(f'unable to find target container "{name}": it does not run')
        return target

    def _variables(self, environment: Environment, uid: int | None, devices: dict[str, str]) -> dict[str, str]:
        host, pod, container = self._host, self._owner.pod, self._container
        base = {
            "PATH": ":".join(environment.path),
            "HOSTNAME": names.kernel_hostname(pod),
            **({} if environment.real else {"HOME": "/home/user" if uid else "/root"}),
            **environment.env,
            **devices,
        }
        if not pod.spec.host_network and not variables.sets_proxy(container):
            base |= host.proxy_variables(pod)
        settings = host.settings
        place = variables.Place(self._owner.ip, settings.node_ip, settings.node_name, host.node().status.allocatable)
        links = host.network_variables(pod)
        return variables.build(pod, container, base=base, links=links, place=place, lookup=host.caches)


def _pulled(image: str, seconds: float, size: int) -> str:
    took = f"{seconds:.3f}s"
    return f'Successfully pulled image "{image}" in {took} ({took} including waiting). Image size: {size} bytes.'


def _present(image: str) -> str:
    return f'Container image "{image}" already present on machine'

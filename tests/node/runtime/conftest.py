"""A real runtime in a home of its own, and a short way to run a container in it."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headrace.machinery.settings import Settings
from headrace.node.runtime.bare import BareRuntime
from headrace.node.runtime.base import ContainerSpec, ContainerState, Mount, PodSandbox, RuntimeUnavailable
from headrace.node.runtime.container import ContainerRuntime
from headrace.node.runtime.sandbox import SandboxRuntime
from headrace.testing.eventually import eventually

from . import realimage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_ENTRY = re.compile(r"(\S+) (stdout|stderr) ([FP]) (.*)")


@dataclass
class Ended:
    """How a container ended, and what it said."""

    state: ContainerState
    out: str
    err: str

    @property
    def code(self) -> int:
        return self.state.exit_code


@dataclass
class Node:
    """A started runtime and its exits."""

    runtime: SandboxRuntime
    settings: Settings
    exits: dict[tuple[str, str], ContainerState] = field(default_factory=dict)
    reported: list[tuple[str, str]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def isolated(self) -> bool:
        """Whether containers have namespaces: they are PID 1 there, and may be another user."""
        return self.runtime.isolation.mode != "bare"

    @property
    def engine(self) -> bool:
        """Whether containers are podman's, of an image that shows the machine's programs."""
        return self.runtime.isolation.mode == "container"

    @property
    def helpers(self) -> tuple[str, ...]:
        """The processes that belong to no pod."""
        return ("spawner", "network") if self.isolated else ("spawner",)

    def watch(self) -> None:
        def seen(state: ContainerState) -> None:
            self.exits[state.pod_uid, state.id] = state
            self.reported.append((state.pod_uid, state.id))
            self._changed.set()

        self.runtime.on_exit(seen)

    async def pod(self, uid: str = "pod", ip: str = "10.199.0.2", **fields: Any) -> PodSandbox:
        pod = PodSandbox(uid, "ns", uid, fields.pop("hostname", uid), ip, **fields)
        await self.runtime.create_pod(pod)
        return pod

    def spec(self, *argv: str, pod: str = "pod", env: dict[str, str] | None = None, **fields: Any) -> ContainerSpec:
        name = fields.pop("id", None) or f"c-{next(self._ids)}"
        log = self.settings.logs / "pods" / pod / f"{name}.log"
        if self.engine and "image" not in fields:
            shown = tuple(Mount(folder, Path(folder), read_only=True) for folder in realimage.SHOWN)
            fields |= {"image": realimage.skeleton(), "mounts": (*shown, *fields.get("mounts", ()))}
        return ContainerSpec(name, pod, argv, {"PATH": PATH, **(env or {})}, log, **fields)

    async def ended(self, state: ContainerState, timeout: float = 60) -> Ended:
        key = (state.pod_uid, state.id)
        async with asyncio.timeout(timeout):
            while key not in self.exits:
                self._changed.clear()
                await self._changed.wait()
        return Ended(self.exits[key], *self.output(*key))

    def output(self, pod: str, name: str) -> tuple[str, str]:
        """What a container wrote, put together again from its log."""
        text = {"stdout": "", "stderr": ""}
        path = self.settings.logs / "pods" / pod / f"{name}.log"
        for line in path.read_text().splitlines():
            entry = _ENTRY.fullmatch(line)
            assert entry is not None, line
            text[entry[2]] += entry[4] + ("\n" if entry[3] == "F" else "")
        return text["stdout"], text["stderr"]

    async def run(self, *argv: str, **fields: Any) -> Ended:
        """Start, wait for the end."""
        return await self.ended(await self.runtime.start_container(self.spec(*argv, **fields)))

    async def sh(self, script: str, **fields: Any) -> Ended:
        return await self.run("sh", "-c", script, **fields)


MODES: dict[str, type[SandboxRuntime]] = {
    "sandbox": SandboxRuntime,
    "bare": BareRuntime,
    "container": ContainerRuntime,
}


@pytest.fixture(scope="session", autouse=True)
def images() -> Iterator[None]:
    """What tests have given to podman is taken away again."""
    yield
    realimage.forget()


@pytest.fixture
def mode(request: pytest.FixtureRequest) -> str:
    """Which runtime a test is about: the sandbox, unless its module says that every mode must pass."""
    return getattr(request, "param", "sandbox")


@pytest.fixture
def settings(tmp_path: Path, mode: str) -> Settings:
    del mode  # a test that makes its own runtime asks for it
    return Settings(home=tmp_path / "home")


@pytest.fixture
async def node(settings: Settings, mode: str) -> AsyncIterator[Node]:
    runtime = MODES[mode](settings)
    try:
        await runtime.start()
    except RuntimeUnavailable as error:
        if mode == "sandbox":
            raise
        pytest.skip(str(error))
    node = Node(runtime, settings)
    node.watch()
    yield node
    await runtime.stop(pods=True)
    await eventually(lambda: processes_of(settings) == [])  # what empties the trash may have a moment to go


def processes_of(settings: Settings) -> list[int]:
    """Processes that name this home in their command line or environment: helpers and containers."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(settings.home) + b"/" in text:
            found.append(int(entry.name))
    return found

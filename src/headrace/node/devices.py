"""NVIDIA GPUs of the machine: found, offered as `nvidia.com/gpu`, and given to the pods that ask.

A pod's containers see the device files of their own GPUs and no others; the driver's libraries are the host's, which
pods see anyway. Which pod has which GPUs is noted beside the pod's other files, so that a restarted agent knows.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.api import quantity
from headrace.node.runtime.base import Mount

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headrace.api.core import Container, Pod
    from headrace.node.folders import PodFolders

RESOURCE = "nvidia.com/gpu"
NOTE = "gpus.json"
_NUMBERED = re.compile(r"nvidia(\d+)")
_SHARED = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
"""Device files that every user of a GPU needs."""


class NoDevice(Exception):
    """A container cannot have the GPUs that it asks for; the message is the kubelet's."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: the number of its device file, and what the driver says of it."""

    number: int
    uuid: str = ""
    model: str = ""

    @property
    def name(self) -> str:
        """How programs choose it."""
        return self.uuid or str(self.number)


def find(root: Path) -> list[Gpu]:
    """The GPUs below this root folder, in the order of their numbers."""
    known = {}
    for file in root.glob("proc/driver/nvidia/gpus/*/information"):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        facts = {
            key.strip(): value.strip() for key, colon, value in (x.partition(":") for x in text.splitlines()) if colon
        }
        if facts.get("Device Minor", "").isdigit():
            number = int(facts["Device Minor"])
            known[number] = Gpu(number, facts.get("GPU UUID", ""), facts.get("Model", ""))
    numbers = sorted(int(m[1]) for path in root.glob("dev/nvidia*") if (m := _NUMBERED.fullmatch(path.name)))
    return [known.get(number, Gpu(number)) for number in numbers]


def asked(container: Container) -> int:
    """How many GPUs a container asks for."""
    own = container.resources
    return int(quantity.parse(own.limits.get(RESOURCE, own.requests.get(RESOURCE, "0"))))


def wanted(pod: Pod) -> int:
    """How many GPUs a pod needs at once: sidecars and containers side by side, other init containers before them."""
    sidecars = sum(asked(c) for c in pod.spec.init_containers if c.restart_policy == "Always")
    before = max((asked(c) for c in pod.spec.init_containers if c.restart_policy != "Always"), default=0)
    return sidecars + max(before, sum(asked(c) for c in pod.spec.containers))


def share(pod: Pod, container: Container, held: Sequence[int]) -> Sequence[int]:
    """Which of the pod's GPUs are this container's."""
    sidecars = [c for c in pod.spec.init_containers if c.restart_policy == "Always"]
    offset = 0
    for one in (*sidecars, *pod.spec.containers):
        if one.name == container.name:
            return held[offset : offset + asked(one)]
        offset += asked(one)
    offset = sum(asked(c) for c in sidecars)
    return held[offset : offset + asked(container)]


class Devices:
    """Who has which GPU."""

    def __init__(self, folders: PodFolders, root: Path) -> None:
        self._folders, self._root = folders, root
        self._gpus: dict[int, Gpu] = {}
        self._held: dict[str, list[int]] = {}

    def refresh(self) -> list[Gpu]:
        """Look for GPUs; drivers may be loaded at any time."""
        found = find(self._root)
        self._gpus = {gpu.number: gpu for gpu in found}
        return found

    def hold(self, uid: str) -> None:
        """Before the first new pod gets one: the GPUs of a pod that may still run."""
        try:
            noted = json.loads((self._folders.small(uid) / NOTE).read_text())
        except (OSError, ValueError):
            return
        self._held[uid] = [int(number) for number in noted]

    def release(self, uid: str) -> None:
        """The pod has ended."""
        self._held.pop(uid, None)

    def give(self, pod: Pod, container: Container) -> tuple[tuple[Mount, ...], dict[str, str]]:
        """Device files and variables for a container. Raises NoDevice."""
        if not asked(container):
            # Where device files cannot be kept from a pod, programs are told to leave the GPUs alone.
            return (), {"CUDA_VISIBLE_DEVICES": ""} if self._gpus else {}
        mine = [self._gpus[number] for number in share(pod, container, self._of(pod)) if number in self._gpus]
        if len(mine) < asked(container):
            raise NoDevice(f"a GPU of container {container.name} is no longer there")
        files = [self._root / "dev" / f"nvidia{gpu.number}" for gpu in mine]
        files += [path for name in _SHARED if (path := self._root / "dev" / name).exists()]
        names = ",".join(gpu.name for gpu in mine)
        mounts = tuple(Mount(f"/dev/{path.name}", path) for path in files)
        return mounts, {"NVIDIA_VISIBLE_DEVICES": names, "CUDA_VISIBLE_DEVICES": names}

    def _of(self, pod: Pod) -> list[int]:
        uid = pod.metadata.uid
        held = self._held.get(uid)
        if held is None:
            taken = {number for numbers in self._held.values() for number in numbers}
            free = [number for number in self._gpus if number not in taken]
            need = wanted(pod)
            if need > len(free):
                raise NoDevice(
                    f"Allocate failed due to requested number of devices unavailable for {RESOURCE}. "
                    f"Requested: {need}, Available: {len(free)}"
                )
            held = self._held[uid] = free[:need]
            note = self._folders.small(uid) / NOTE
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps(held))
        return held

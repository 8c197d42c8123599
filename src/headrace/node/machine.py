"""The machine as a Node: what it has, what it is, how it is."""

from __future__ import annotations

import os
import platform
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.api.core import Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo
from headrace.api.meta import ObjectMeta
from headrace.node.devices import RESOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.api.meta import Quantity, Time
    from headrace.machinery.settings import Settings
    from headrace.node.devices import Gpu
    from headrace.node.runtime.base import Isolation

MAX_PODS = 250
RESERVED_MEMORY = 256 << 20
"""Bytes that the platform's own processes need."""
_PRESSURES = (
    (
        "MemoryPressure",
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ),
    (
        "DiskPressure",
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ),
    (
        "PIDPressure",
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ),
)
"""Condition, and reason and message when it is true and when it is not."""
VERSION = "v1.32.4"
"""The Kubernetes version whose behaviour the agent follows."""
_LABEL_PARTS = re.compile(r"[^A-Za-z0-9_.]+")
_CPU_MAX, _MEMORY_MAX = Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/memory.max")
_MEMORY_NOW = Path("/sys/fs/cgroup/memory.current")


def describe(
    settings: Settings,
    isolation: Isolation,
    now: Time,
    before: Node | None = None,
    *,
    pressures: frozenset[str] = frozenset(),
    gpus: Sequence[Gpu] = (),
) -> Node:
    """The Node object; conditions of `before` keep their transition times. `pressures` are the pressure conditions
    that are true.
    """
    name = settings.node_name
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": platform.system().lower(),
        "kubernetes.io/arch": architecture,
        "node-role.kubernetes.io/control-plane": "",
    }
    capacity = _capacity(settings)
    if gpus:
        capacity[RESOURCE] = str(len(gpus))
        labels |= {f"{RESOURCE}.present": "true", f"{RESOURCE}.count": str(len(gpus))}
        product = _LABEL_PARTS.sub("-", gpus[0].model).strip("-_.")[:63]
        labels |= {f"{RESOURCE}.product": product} if product else {}
    allocatable = {**capacity, "memory": f"{max(0, memory() - RESERVED_MEMORY) >> 10}Ki"}
    held = before.status.conditions if before is not None else []
    return Node(
        metadata=ObjectMeta(name=name, labels=labels),
        spec=NodeSpec(pod_cidr=settings.pod_cidr),
        status=NodeStatus(
            capacity=capacity,
            allocatable=allocatable,
            conditions=_conditions(isolation, held, now, pressures),
            addresses=[
                NodeAddress(type="InternalIP", address=settings.node_ip),
                NodeAddress(type="Hostname", address=name),
            ],
            node_info=NodeSystemInfo(
                machine_id=read("/etc/machine-id"),
                system_uuid=read("/etc/machine-id"),
                boot_id=read("/proc/sys/kernel/random/boot_id"),
                kernel_version=platform.release(),
                os_image=_os_image(),
                container_runtime_version=f"headrace-{isolation.mode}://{VERSION.removeprefix('v')}",
                kubelet_version=VERSION,
                kube_proxy_version=VERSION,
                operating_system=platform.system().lower(),
                architecture=architecture,
            ),
        ),
    )


def cpus() -> float:
    """Cores that this process may use: affinity and the cgroup's quota count."""
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota, _, period = read(_CPU_MAX).partition(" ")
    if quota.isdigit() and period.isdigit():
        count = min(count, int(quota) / int(period))
    return count


def memory() -> int:
    """Bytes of memory that this process may use."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = read(_MEMORY_MAX)
    return min(total, int(limit)) if limit.isdigit() else total


def memory_available() -> int:
    """Bytes of memory that this process may still get."""
    lines = dict(line.split(":", 1) for line in read("/proc/meminfo").splitlines() if ":" in line)
    left = int(lines["MemAvailable"].split()[0]) << 10 if "MemAvailable" in lines else memory()
    limit, used = read(_MEMORY_MAX), read(_MEMORY_NOW)
    return min(left, max(0, int(limit) - int(used))) if limit.isdigit() and used.isdigit() else left


def _capacity(settings: Settings) -> dict[str, Quantity]:
    disk = shutil.disk_usage(existing(settings.home)).total
    return {
        "cpu": f"{round(cpus() * 1000)}m" if cpus() % 1 else str(int(cpus())),
        "memory": f"{memory() >> 10}Ki",
        "pods": str(MAX_PODS),
        "ephemeral-storage": f"{disk >> 10}Ki",
    }


def _conditions(
    isolation: Isolation, held: list[NodeCondition], now: Time, pressures: frozenset[str]
) -> list[NodeCondition]:
    how = "rootless" if isolation.rootless else "as root"
    notes = f"pods run {how} in mode {isolation.mode}; memory limits by {isolation.limits}"
    found = [
        *(
            (name, True, *under) if name in pressures else (name, False, *without)
            for name, under, without in _PRESSURES
        ),
        (
            "NetworkUnavailable",
            not isolation.network,
            "RouteCreated" if isolation.network else "NoPodNetwork",
            "the pod network is up" if isolation.network else "pods share the machine's network in this mode",
        ),
        (
            "SandboxIsolation",
            True,
            isolation.mode.capitalize(),
            "; ".join(filter(None, (notes, *isolation.notes, isolation.images))),
        ),
        ("Ready", True, "KubeletReady", "kubelet is posting ready status"),
    ]
    before = {c.type: c for c in held}
    result = []
    for type_, value, reason, message in found:
        old = before.get(type_)
        moved = old.last_transition_time if old is not None and old.status == str(value) else now
        condition = NodeCondition(
            type=type_,
            status=str(value),
            reason=reason,
            message=message,
            last_heartbeat_time=now,
            last_transition_time=moved,
        )
        result.append(condition)
    return result


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def read(path: str | Path) -> str:
    """A small file's text; empty when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return path

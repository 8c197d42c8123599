"""A container's specification in the form that the spawner takes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from headrace.node.runtime import visible
from headrace.node.runtime.base import CAPABILITIES, ContainerSpec, StartFailed

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.node.runtime.base import Mount, PodSandbox

_BITS = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "SYS_CHROOT": 18,
    "SYS_PTRACE": 19,
}
"""linux/capability.h"""

SHARED_FILES = ("hosts", "resolv.conf", "hostname")
"""What every container of a pod has in /etc, unless it mounts something else there."""


def start_request(
    spec: ContainerSpec,
    pod: PodSandbox,
    pod_folder: Path,
    *,
    hidden: list[str],
    exposed: list[str],
    joins: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What `start` asks for; `hidden` and `exposed` are what all containers of this home have in common, `joins` is
    the record of the container whose processes it sees.
    """
    taken = {mount.target.rstrip("/") for mount in spec.mounts}
    shared = [name for name in SHARED_FILES if f"/etc/{name}" not in taken]
    env = dict(spec.env)
    if spec.cpus is not None:
        env.setdefault("OMP_NUM_THREADS", str(max(1, -int(-spec.cpus // 1))))
    return {
        "pod": pod.uid,
        "container": spec.id,
        "dir": str(pod_folder / "containers" / spec.id),
        "cgroup": f"{pod.uid}-{spec.id}",
        "hostname": pod.hostname,
        "host_network": pod.host_network,
        "ip": pod.ip,
        "argv": list(spec.argv),
        "env": env,
        "cwd": spec.cwd or "/",
        "log": str(spec.log_path),
        "mounts": [
            *(_mount(mount) for mount in spec.mounts),
            *(_bind(f"/etc/{name}", str(pod_folder / name)) for name in shared),
        ],
        "uid": spec.uid,
        "gid": spec.gid,
        "groups": list(spec.groups),
        "capabilities": capability_mask(spec.capabilities),
        "filtered": spec.filtered,
        "joins": None if joins is None else {key: joins[key] for key in ("pid", "pid_start", "uid")},
        "read_only_root": spec.read_only_root,
        "writable": list(spec.writable),
        "layers": [[layer.target, [str(source) for source in layer.sources]] for layer in spec.layers],
        "memory": spec.memory_bytes,
        "cpus": spec.cpus,
        "stdin": spec.stdin,
        "tty": spec.tty,
        "warm": None
        if spec.warm is None or spec.stdin or spec.tty or joins is not None or spec.capabilities
        else dataclasses.asdict(spec.warm),
        "everywhere": [_mount(mount) for mount in spec.mounts if mount.everywhere and not _covered(mount, spec)],
        "hide": hidden,
        "expose": [*exposed, *(path for path in visible.interpreters(spec) if path not in exposed)],
    }


def _covered(mount: Mount, spec: ContainerSpec) -> bool:
    """Whether another mount is to be made before it, so that it is seen there."""
    return any(mount.target.startswith(other.target.rstrip("/") + "/") for other in spec.mounts)


def capability_mask(names: tuple[str, ...]) -> int:
    """The bits of these capabilities. Raises StartFailed for one that cannot be given."""
    mask = 0
    for name in names:
        bit = _BITS.get(name)
        if bit is None:
            raise StartFailed(f"capability {name} cannot be given to a container: {', '.join(CAPABILITIES)} can")
        mask |= 1 << bit
    return mask


def pause_request(pod: PodSandbox, identity: str, pod_folder: Path, log: Path, uid: int | None) -> dict[str, Any]:
    """What starts the process that the shared processes of a pod belong to."""
    spec = ContainerSpec(identity, pod.uid, argv=(), env={}, log_path=log, uid=uid)
    return {**start_request(spec, pod, pod_folder, hidden=[], exposed=[]), "pause": True}


def _mount(mount: Mount) -> dict[str, Any]:
    source = "" if mount.source is None else str(mount.source)
    made = _bind(mount.target, source)
    return {**made, "kind": mount.kind, "read_only": mount.read_only, "size": mount.size_bytes}


def _bind(target: str, source: str) -> dict[str, Any]:
    return {"target": target, "source": source, "kind": "bind", "read_only": False, "size": None}

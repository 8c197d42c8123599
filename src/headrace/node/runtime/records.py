"""What lies on disk of every pod: written by supervisors and this module, read again after a restart.

<run>/pods/<uid>/  pod.json hosts resolv.conf hostname
                   containers/<id>/  state.json exit.json scratch/ layers/ root/
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any

from headrace.node.runtime.base import ContainerPhase, ContainerState, PodSandbox
from headrace.node.runtime.sandboxd import linux, trash, wire
from headrace.node.runtime.sandboxd.spawner import TRASH
from headrace.node.runtime.sandboxd.supervisor import EXIT, STATE
from headrace.node.runtime.sandboxd.trash import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POD, BOOT = "pod.json", "boot_id"
_POD_FIELDS = tuple(field.name for field in dataclasses.fields(PodSandbox))
_LEFTOVERS = ("scratch", "layers", "root")
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")


def checked(name: str) -> str:
    """The name if it can be a file's. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a pod or a container: letters, digits, '-', '_' and '.' only")
    return name


class Records:
    """The folder of all pods."""

    def __init__(self, run: Path) -> None:
        self.pods, self.trash = run / "pods", run / TRASH
        self._pods, self._trash = str(self.pods), str(self.trash)  # joined for every pod

    def begin(self, boot: str) -> None:
        """Know since which start of the machine the records are: pods that ran before it have vanished with it, whoever
        has their process numbers now.
        """
        note = self.pods.parent / BOOT
        before = note.read_text().strip() if note.exists() else ""
        if before and boot and before != boot:
            for uid in self.all_pods():
                folders = [self.container_folder(uid, name) for name, _ in self.started(uid)]
                if all((folder / EXIT).exists() for folder in folders):
                    continue  # it had ended, and how has perhaps not been told yet
                for folder in folders:
                    remove_tree(str(folder))
        if boot and before != boot:
            temporary = note.with_suffix(".new")
            temporary.write_text(boot + "\n")
            temporary.replace(note)

    def pod_folder(self, uid: str) -> Path:
        """Where a pod's files are."""
        return self.pods / checked(uid)

    def _container(self, pod_uid: str, container_id: str) -> str:
        return f"{self._pods}/{checked(pod_uid)}/containers/{checked(container_id)}"

    def container_folder(self, pod_uid: str, container_id: str) -> Path:
        """Where a container's files are."""
        return self.pod_folder(pod_uid) / "containers" / checked(container_id)

    def discard_pod(self, uid: str) -> None:
        """All that was kept of a pod goes into the trash."""
        trash.discard(f"{self._pods}/{checked(uid)}", self._trash)

    def discard_leftovers(self, pod_uid: str, container_id: str) -> bool:
        """Temporary files and thrown-away layers, of no use after the container's end; whether there were any."""
        folder = self._container(pod_uid, container_id)
        return sum(trash.discard(f"{folder}/{name}", self._trash) for name in _LEFTOVERS) > 0

    def write_pod(self, pod: PodSandbox, files: dict[str, str]) -> None:
        """Keep the pod and the files that its containers share."""
        folder = f"{self._pods}/{checked(pod.uid)}"
        try:
            os.mkdir(folder)  # only the first pod ever finds nothing to be put into
        except FileNotFoundError:
            os.makedirs(folder, exist_ok=True)
        except FileExistsError:
            pass
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{folder}/containers", 0o700)
        for name, text in files.items():
            wire.write_plain(f"{folder}/{name}", text.encode(), 0o644)
        wire.write_file(f"{folder}/{POD}", {name: getattr(pod, name) for name in _POD_FIELDS})

    def read_pod(self, uid: str) -> PodSandbox | None:
        """What `write_pod` kept."""
        found = wire.read_file(str(self.pod_folder(uid) / POD))
        if found is None:
            return None
        found["host_aliases"] = tuple((ip, tuple(names)) for ip, names in found["host_aliases"])
        for name in ("dns_search", "nameservers", "dns_options"):
            if name in found:
                found[name] = tuple(found[name])
        return PodSandbox(**found)

    def all_pods(self) -> list[str]:
        """The uids of all pods that were created and not removed."""
        try:
            return sorted(folder.name for folder in self.pods.iterdir())
        except FileNotFoundError:
            return []

    def names(self, pod_uid: str) -> list[str]:
        """The ids of the containers of a pod whose start has been tried."""
        try:
            return sorted(os.listdir(f"{self._pods}/{checked(pod_uid)}/containers"))
        except FileNotFoundError:
            return []

    def started(self, pod_uid: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The containers of a pod that were started, with what their supervisors wrote then."""
        for name in self.names(pod_uid):
            state = self.started_one(pod_uid, name)
            if state is not None:
                yield name, state

    def started_one(self, pod_uid: str, container_id: str) -> dict[str, Any] | None:
        """What the supervisor of a started container wrote then."""
        return wire.read_file(f"{self._container(pod_uid, container_id)}/{STATE}")

    def state(self, pod_uid: str, container_id: str, started: dict[str, Any]) -> ContainerState:
        """How a started container stands: by its exit record, else by whether its supervisor lives.

        A supervisor that died without a word took its container along; that is recorded as killed.
        """
        path = f"{self._container(pod_uid, container_id)}/{EXIT}"
        ended = wire.read_file(path)
        if ended is None and linux.start_time(started["supervisor"]) != started["supervisor_start"]:
            ended = wire.read_file(path)  # it may have written it just before it ended
            if ended is None:
                ended = {
                    "code": 128 + signal.SIGKILL,
                    "signal": int(signal.SIGKILL),
                    "oom_killed": False,
                    "finished_at": time.time_ns(),
                }
                wire.write_file(path, ended)
        if ended is None:
            return ContainerState(
                pod_uid, container_id, ContainerPhase.RUNNING, started["pid"], _time(started["started_at"])
            )
        return ContainerState(
            pod_uid=pod_uid,
            id=container_id,
            phase=ContainerPhase.EXITED,
            pid=started["pid"],
            started_at=_time(started["started_at"]),
            finished_at=_time(ended["finished_at"]),
            exit_code=ended["code"],
            signal=ended["signal"],
            oom_killed=ended["oom_killed"],
            cpu_seconds=ended.get("cpu_seconds", 0.0),
            peak_bytes=ended.get("peak_bytes", 0),
        )


def _time(nanoseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(nanoseconds / 1e9, dt.UTC)

"""What running containers use, read from /proc when somebody asks; nothing is sampled in between.

A container's processes are those in its mount namespace, whoever started them there; PIDs may be shared in a pod.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from headrace.node.runtime.base import Usage
from headrace.node.runtime.sandboxd import limits, linux

if TYPE_CHECKING:
    from collections.abc import Mapping

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_CPU_FIELDS = slice(11, 15)
"""Of what follows the name in /proc/PID/stat: user and system time, of itself and of children waited for."""
_RESIDENT_FIELD = 21


def of_trees(first: Mapping[tuple[str, str], int]) -> list[Usage]:
    """The same for containers without namespaces: their processes are the first one and what it has started."""
    found = []
    for key, pid in first.items():
        ticks = pages = 0
        for process in limits.descendants(pid):
            try:
                fields = linux.read_control(f"/proc/{process}/stat").rsplit(b")", 1)[1].split()
            except (OSError, IndexError):
                continue
            ticks += sum(int(field) for field in fields[_CPU_FIELDS])
            pages += int(fields[_RESIDENT_FIELD])
        if pages:
            found.append(Usage(*key, ticks / _TICKS, pages * _PAGE))
    return found


def of_containers(first: Mapping[tuple[str, str], int]) -> list[Usage]:
    """The usage of containers, given the first process of each; without those that have ended."""
    spaces: dict[str, tuple[str, str]] = {}
    for key, pid in first.items():
        try:
            spaces[os.readlink(f"/proc/{pid}/ns/mnt")] = key  # noqa: PTH115
        except OSError:
            continue
    if not spaces:
        return []
    ticks, pages = dict.fromkeys(spaces.values(), 0), dict.fromkeys(spaces.values(), 0)
    for name in os.listdir("/proc"):  # noqa: PTH208 - paths as objects would be the greater part of the cost
        if not name.isdigit():
            continue
        try:
            owner = spaces.get(os.readlink(f"/proc/{name}/ns/mnt"))  # noqa: PTH115
            if owner is None:
                continue
            fields = linux.read_control(f"/proc/{name}/stat").rsplit(b")", 1)[1].split()
            ticks[owner] += sum(int(field) for field in fields[_CPU_FIELDS])
            pages[owner] += int(fields[_RESIDENT_FIELD])
        except (OSError, IndexError):
            continue  # not ours, or it has just ended
    return [Usage(*key, ticks[key] / _TICKS, pages[key] * _PAGE) for key in spaces.values()]

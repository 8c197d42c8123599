"""Why this machine cannot run sandboxed pods, and what its owner can do about it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

MINIMUM_KERNEL = (5, 12)


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides whether the kernel lets us make namespaces."""

    system: str
    kernel: tuple[int, int]
    root: bool
    in_container: bool
    max_user_namespaces: int | None = None
    unprivileged_userns_clone: int | None = None
    apparmor_restricts_userns: int | None = None


def read_facts() -> Facts:
    """Ask the machine."""
    release = platform.release().split(".")
    numbers = [int("".join(c for c in part if c.isdigit()) or 0) for part in release[:2]]
    return Facts(
        system=platform.system(),
        kernel=(numbers[0], numbers[1] if len(numbers) > 1 else 0),
        root=os.getuid() == 0,
        in_container=Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
        max_user_namespaces=_sysctl("user/max_user_namespaces"),
        unprivileged_userns_clone=_sysctl("kernel/unprivileged_userns_clone"),
        apparmor_restricts_userns=_sysctl("kernel/apparmor_restrict_unprivileged_userns"),
    )


def _sysctl(name: str) -> int | None:
    try:
        return int(Path("/proc/sys", name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def impossible(facts: Facts) -> str | None:
    """A sentence when it need not even be tried."""
    if facts.system != "Linux":
        return f"Sandboxed pods need Linux; this is {facts.system}. Run the platform in a Linux virtual machine."
    if facts.kernel < MINIMUM_KERNEL:
        have, need = ".".join(map(str, facts.kernel)), ".".join(map(str, MINIMUM_KERNEL))
        return f"Sandboxed pods need Linux {need} or newer; this is {have}. Boot a newer kernel."
    return None


def explain(problem: str, facts: Facts) -> str:
    """What went wrong when it was tried, with the most likely remedy."""
    return f"This machine cannot run sandboxed pods ({problem}). {_remedy(problem, facts)}"


def _remedy(problem: str, facts: Facts) -> str:
    if not facts.root:
        if facts.max_user_namespaces == 0 or "No space left" in problem:
            return "User namespaces are used up or off: `sudo sysctl -w user.max_user_namespaces=15000` allows more."
        if facts.unprivileged_userns_clone == 0:
            return (
                "User namespaces are for root only here: `sudo sysctl -w kernel.unprivileged_userns_clone=1` "
                "allows them for everybody."
            )
        if facts.apparmor_restricts_userns:
            return (
                "AppArmor keeps ordinary users from user namespaces: "
                "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` allows them."
            )
    if facts.in_container:
        return (
            "It is a container itself: start that one with `--privileged`, or with `--security-opt seccomp=unconfined "
            "--security-opt apparmor=unconfined --security-opt systempaths=unconfined --cap-add SYS_ADMIN "
            "--cap-add NET_ADMIN`."
        )
    return "Check with `unshare --mount --pid --net --fork true` (as an ordinary user with --user) what is forbidden."

"""Which of the host's files a pod sees: everything, read-only, but the platform's own and its user's."""

from __future__ import annotations

import os
import pwd
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import headrace.images

if TYPE_CHECKING:
    from headrace.machinery.settings import Settings
    from headrace.node.runtime.base import ContainerSpec

_SYSTEM = frozenset(
    {"/", "/bin", "/boot", "/dev", "/etc", "/lib", "/opt", "/proc", "/sbin", "/srv", "/sys", "/usr", "/var"}
)
"""Never hidden, whatever a user's $HOME says."""
_ROOTS_SECRETS = (
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/krb5.keytab",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/wireguard",
    "/etc/kubernetes",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/spool/cron",
)
"""Files that uid 0 owns, and may therefore read without any capability."""


def hidden(settings: Settings) -> list[str]:
    """What pods must not see: the user's home folder, the platform's state, keys and sockets."""
    paths = {str(settings.home), os.path.realpath(settings.home)}
    for home in (os.environ.get("HOME", ""), _home_of_user()):
        if home.startswith("/"):
            paths |= {os.path.normpath(home), os.path.realpath(home)}
    if os.getuid() == 0:
        paths |= {path for path in _ROOTS_SECRETS if os.path.lexists(path)}
    return sorted(paths - _SYSTEM)


def _home_of_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""


def exposed(settings: Settings) -> list[str]:
    """What lies below hidden folders and is needed all the same: environments, their interpreter, our programs."""
    images = next(iter(headrace.images.__path__))
    return _both([str(settings.cache), sys.base_prefix, images])


def interpreters(spec: ContainerSpec) -> list[str]:
    """The installations behind the virtual environments and interpreters that a container may run."""
    folders = [folder for folder in spec.env.get("PATH", "").split(":") if folder.startswith("/")]
    programs = [program for program in spec.argv[:1] if program.startswith("/")]
    if spec.warm is not None:
        programs.append(spec.warm.interpreter)
    return list(_installations(tuple(folders), tuple((program, _identity(program)) for program in programs)))


def _identity(program: str) -> tuple[int, int, int]:
    """Which file a program is now."""
    try:
        found = os.stat(program)  # noqa: PTH116  # asked for every start
    except OSError:
        return 0, 0, 0
    return found.st_dev, found.st_ino, found.st_mtime_ns


@lru_cache(maxsize=256)
def _installations(folders: tuple[str, ...], programs: tuple[tuple[str, tuple[int, int, int]], ...]) -> tuple[str, ...]:
    """Links are followed anew when a program is another file."""
    found = [prefix for folder in folders for prefix in _prefixes_of_folder(folder)]
    found += [prefix for program, _ in programs for prefix in _prefixes_of_program(program)]
    return tuple(_both(found))


def _prefixes_of_program(program: str) -> tuple[str, ...]:
    real = Path(os.path.realpath(program))
    own = (str(real.parent.parent),) if real.name.startswith("python") and real.parent.name == "bin" else ()
    return _prefixes_of_folder(str(Path(program).parent)) + own


@lru_cache(maxsize=256)
def _prefixes_of_folder(folder: str) -> tuple[str, ...]:
    """The `home` that a virtual environment names, for its bin folder."""
    try:
        text = Path(folder).parent.joinpath("pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return ()
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "home":
            return (str(Path(value.strip()).parent),)
    return ()


def _both(paths: list[str]) -> list[str]:
    """Each path as it is written and as it really is, outer ones first; nothing that is a system folder."""
    every = {p for path in paths for p in (os.path.normpath(path), os.path.realpath(path))}
    return sorted(every - _SYSTEM, key=lambda path: (path.count("/"), path))

"""The platform's control-plane process as other commands see it: is it there, is it ready, who holds a port.

`run/platform.json` is written by the platform when it is ready and names its pid and start time; a lock on
`run/lock` is held as long as it lives, so a stale file is never believed.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from headrace.machinery.settings import Settings


@dataclass(frozen=True, slots=True)
class Running:
    """A control plane that lives."""

    pid: int
    ready: bool
    facts: dict[str, Any]


def acquire_lock(settings: Settings) -> IO[str]:
    """Hold the home for this process. Raises ClickException when another control plane has it."""
    settings.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = (settings.run / "lock").open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        running = find(settings)
        who = f" (pid {running.pid})" if running else ""
        raise click.ClickException(
            f"the platform of {settings.home} runs already{who}: `headrace status` shows it, `headrace down` stops it"
        ) from None
    handle.seek(0)
    handle.truncate()
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def find(settings: Settings) -> Running | None:
    """The control plane of this home, if one lives."""
    path = settings.run / "lock"
    try:
        with path.open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = int(handle.read() or 0)
            else:
                return None
    except FileNotFoundError:
        return None
    try:
        facts = json.loads((settings.run / "platform.json").read_text())
    except (FileNotFoundError, ValueError):
        facts = {}
    return Running(pid, facts.get("pid") == pid, facts)


def needed(settings: Settings) -> Running:
    """The control plane of this home. Raises ClickException when none lives."""
    running = find(settings)
    if running is None:
        start = f"headrace up --detach{settings.home_option}"
        raise click.ClickException(f"no platform runs in {settings.home}: `{start}` starts it")
    return running


def holder_of_port(host: str, port: int) -> str | None:
    """Who listens there, in words; None when the port is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            return "nobody, but ports below 1024 need more rights than this user has"
        except OSError:
            return _user_of_port(port) or "a process of another user, or a connection that has just ended"
    return None


def _user_of_port(port: int) -> str | None:
    import psutil

    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            for connection in process.net_connections(kind="tcp"):
                if connection.laddr.port == port:
                    words = " ".join(process.info["cmdline"] or [process.name()])
                    home = process.environ().get("HEADRACE_HOME", "")
                    whose = f", the platform of {home}" if home and "headrace" in words else ""
                    what = "" if connection.status == psutil.CONN_LISTEN else ", by a connection that may end soon"
                    return f"pid {process.pid} ({words[:80]}{whose}){what}"
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return None


def check_ports(settings: Settings) -> None:
    """Raises ClickException that names each taken port and who holds it."""
    taken = []
    for name in ("api", "gateway", "objectstore"):
        port = getattr(settings.ports, name)
        holder = holder_of_port(settings.gateway_host if name == "gateway" else settings.host, port)
        if holder:
            taken.append(f"port {port} ({name}) is held by {holder}; choose another with --{name}-port")
    if taken:
        raise click.ClickException("\n".join(taken))

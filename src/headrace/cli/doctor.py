"""`headrace doctor`."""

from __future__ import annotations

import asyncio
import os
import platform as machine
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import psutil

from headrace.cli.home import home_option, settings
from headrace.cli.process import find, holder_of_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.machinery.settings import Settings

SIGNS = {"ok": "ok  ", "note": "note", "fail": "FAIL"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Literal["ok", "note", "fail"]
    about: str
    sentence: str


@click.command(
    epilog="""\b
Examples:
  headrace doctor
  headrace doctor --home ~/two
"""
)
@home_option
def command(home: Path | None) -> None:
    """Check whether this machine can run the platform. Exit code 1 when something must be done first."""
    chosen = settings(home)
    failed = False
    for finding in findings(chosen):
        failed |= finding.level == "fail"
        click.echo(f"{SIGNS[finding.level]}  {finding.about:<14} {finding.sentence}")
    sys.exit(int(failed))


def findings(chosen: Settings) -> Iterator[Finding]:
    """Everything that is worth saying about this machine, in order."""
    yield _system()
    yield Finding("ok", "python", f"{machine.python_version()} in {sys.prefix}")
    yield _memory()
    yield from _disk(chosen)
    yield from _ports(chosen)
    yield _inotify()
    yield _uv()
    yield from _isolation(chosen)


def _system() -> Finding:
    if sys.platform != "linux":
        return Finding("fail", "system", f"{machine.system()} has no Linux namespaces: pods cannot run here yet")
    return Finding("ok", "system", f"Linux {machine.release()} {machine.machine()}")


def _memory() -> Finding:
    free = psutil.virtual_memory().available / 2**30
    if free < 1:
        return Finding("note", "memory", f"only {free:.1f} GB are free: the platform fits, larger models may not")
    return Finding("ok", "memory", f"{free:.1f} GB free, {os.cpu_count()} CPUs")


def _disk(chosen: Settings) -> Iterator[Finding]:
    existing = next(p for p in (chosen.home, *chosen.home.parents) if p.exists())
    if not os.access(existing, os.W_OK):
        yield Finding("fail", "home", f"{existing} is not writable: choose another with --home or HEADRACE_HOME")
        return
    free = shutil.disk_usage(existing).free / 2**30
    level: Literal["ok", "fail"] = "ok" if free >= 2 else "fail"
    advice = "" if free >= 2 else ": Python environments need about 2 GB, free some or choose another --home"
    yield Finding(level, "home", f"{chosen.home} with {free:.0f} GB free{advice}")


def _ports(chosen: Settings) -> Iterator[Finding]:
    running = find(chosen)
    if running is not None:
        yield Finding("ok", "ports", f"in use by this platform (pid {running.pid})")
        return
    for name in ("api", "gateway", "objectstore"):
        port = getattr(chosen.ports, name)
        holder = holder_of_port(chosen.host, port)
        if holder:
            yield Finding("fail", "ports", f"{port} ({name}) is held by {holder}: choose another with --{name}-port")
        else:
            yield Finding("ok", "ports", f"{port} ({name}) is free")


def _inotify() -> Finding:
    try:
        limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    except OSError:
        return Finding("note", "inotify", "its limits cannot be read here")
    return Finding("ok", "inotify", f"{limit} instances for each user, the platform needs fewer than 10")


def _uv() -> Finding:
    import uv

    try:
        return Finding("ok", "uv", str(uv.find_uv_bin()))
    except FileNotFoundError:
        return Finding("fail", "uv", "its program is missing: reinstall Headrace, uv builds the environments of pods")


def _isolation(chosen: Settings) -> Iterator[Finding]:
    from headrace.machinery.settings import AUTO, AUTOMATIC_MODES, MODES
    from headrace.node.runtime.base import Isolation, RuntimeUnavailable
    from headrace.node.runtime.choice import make

    async def probe(mode: str) -> Isolation:
        with tempfile.TemporaryDirectory(prefix="headrace-doctor-") as folder:
            runtime = make(mode, type(chosen)(home=Path(folder)))
            try:
                await runtime.start()
                return runtime.isolation
            finally:
                await runtime.stop(pods=True)

    used = ""
    for mode in MODES:
        automatic = chosen.mode == AUTO and mode in AUTOMATIC_MODES
        wanted = (automatic or chosen.mode == mode) and not used
        try:
            found = asyncio.run(probe(mode))
        except RuntimeUnavailable as error:
            last = mode == chosen.mode or (automatic and mode == AUTOMATIC_MODES[-1])
            yield Finding("fail" if last and not used else "note", "pods", f"not in mode {mode}: {error}")
            continue
        who = "an ordinary user" if found.rootless else "root"
        if not wanted:
            yield Finding("ok", "pods", f"mode {mode} is possible too: headrace up --mode {mode}")
            continue
        used = mode
        why = "" if chosen.mode == AUTO else ", which this home has chosen"
        yield Finding("ok", "pods", f"mode {mode} as {who}{why}; memory limits by {found.limits}")
        for note in found.notes:
            yield Finding("note", "pods", note)
        if found.images:
            yield Finding("note", "images", found.images)

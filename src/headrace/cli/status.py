"""`headrace status`."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click
import psutil

from headrace.cli.home import home_option, settings
from headrace.cli.process import find
from headrace.cli.up import where_to_look

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.cli.process import Running
    from headrace.machinery.settings import Settings


@click.command(
    epilog="""\b
Examples:
  headrace status
  headrace status --json | jq .memory_mb
  export KUBECONFIG=$(headrace status --kubeconfig)
"""
)
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--kubeconfig", is_flag=True, help="Print only the path of the administrator's kubeconfig.")
def command(home: Path | None, as_json: bool, kubeconfig: bool) -> None:
    """Show what runs, where, and what it costs. Exit code 3 when nothing runs."""
    chosen = settings(home)
    if kubeconfig:
        click.echo(chosen.kubeconfig)
        if not chosen.kubeconfig.exists():
            click.echo(f"`headrace up --detach{chosen.home_option}` writes it: it is not there yet", err=True)
        return
    running = find(chosen)
    if running is None:
        if as_json:
            click.echo(json.dumps({"home": str(chosen.home), "running": False}))
        else:
            click.echo(f"No platform runs in {chosen.home}. `headrace up --detach{chosen.home_option}` starts one.")
        sys.exit(3)
    facts = describe(chosen, running)
    click.echo(json.dumps(facts, indent=2) if as_json else _text(chosen, facts))


def describe(chosen: Settings, running: Running) -> dict[str, Any]:
    """What `--json` prints."""
    groups = memory_by_group(chosen, running.pid)
    started = psutil.Process(running.pid).create_time()
    return {
        "home": str(chosen.home),
        "running": True,
        "ready": running.ready,
        "pid": running.pid,
        "version": running.facts.get("version", ""),
        "uptime_seconds": round(time.time() - started),
        "start_seconds": running.facts.get("start_seconds"),
        "components": running.facts.get("components", {}),
        "isolation": running.facts.get("isolation", {}),
        "memory_mb": round(sum(groups.values()), 1),
        "memory_by_group_mb": {key: round(value, 1) for key, value in groups.items()},
        "ports": {
            "api": chosen.ports.api,
            "gateway": chosen.ports.gateway,
            "objectstore": chosen.ports.objectstore,
        },
        "kubeconfig": str(chosen.kubeconfig),
    }


def memory_by_group(chosen: Settings, pid: int) -> dict[str, float]:
    """Resident memory in MB, shared pages counted once (PSS), of the control plane, the node's helpers and the pods."""
    marker = str(chosen.run)
    groups = {"control plane": 0.0, "node": 0.0}
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            words = process.info["cmdline"] or []
            if process.pid == pid:
                groups["control plane"] += _pss(process)
            elif any(marker in word for word in words):
                groups["node"] += _pss(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return groups


def _pss(process: psutil.Process) -> float:
    return float(process.memory_full_info().pss) / 2**20


def _text(chosen: Settings, facts: dict[str, Any]) -> str:
    state = "ready" if facts["ready"] else "starting"
    lines = [
        (
            f"Headrace {facts['version']} is {state}: pid {facts['pid']}, up {_age(facts['uptime_seconds'])},"
            f" {facts['memory_mb']:.0f} MB"
        ),
        f"  home             {facts['home']}",
        where_to_look(chosen),
        "",
        "  COMPONENT          READY AFTER",
    ]
    lines += [f"  {name:<18} {seconds * 1000:6.0f} ms" for name, seconds in facts["components"].items()]
    if facts["isolation"]:
        isolation = facts["isolation"]
        lines += ["", f"  pods run in mode {isolation.get('mode')} ({isolation.get('why')}): see `headrace doctor`"]
        lines += [f"  images as they are: {isolation['images']}"] if isolation.get("images") else []
    return "\n".join(lines)


def _age(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"

"""Which platform a command is about: its home folder and the addresses that were chosen for it.

The choice of ports and mode is remembered in the home, so that only `up` needs to be told.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.machinery.settings import AUTO, MODES, Ports, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG_VERSION = 1

home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="HEADRACE_HOME",
    show_envvar=True,
    help="Where this platform keeps its state.  [default: ~/.headrace]",
)


def port_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The three options that choose ports."""
    for name, default, what in (
        ("objectstore", 9000, "the object store (S3)"),
        ("gateway", 8080, "the gateway (pipelines, served models)"),
        ("api", 6443, "the Kubernetes API"),
    ):
        command = click.option(
            f"--{name}-port",
            type=click.IntRange(1, 65535),
            envvar=f"HEADRACE_{name.upper()}_PORT",
            help=f"Port of {what}.  [default: {default}, or what this home used last]",
        )(command)
    return command


mode_option = click.option(
    "--mode",
    type=click.Choice([AUTO, *MODES]),
    envvar="HEADRACE_MODE",
    show_envvar=True,
    help=f"How pods run; {AUTO}: the first that this machine can do.  [default: what this home used last, or {AUTO}]",
)


def settings(home: Path | None, *, mode: str | None = None, **ports: int | None) -> Settings:
    """The settings of a home, with what it used last and what is given now."""
    folder = (home or Path("~/.headrace")).expanduser().resolve()
    document = _saved(folder)
    saved: dict[str, Any] = document.get("ports", {})
    mode = mode or document.get("mode") or AUTO
    defaults = dataclasses.asdict(Ports())
    chosen = {key: int(ports.get(key) or saved.get(key) or default) for key, default in defaults.items()}
    if len(set(chosen.values())) != len(chosen):
        raise click.UsageError(f"the three ports must differ, got {chosen}")
    return Settings(home=folder, ports=Ports(**chosen), mode=mode)


def remember(chosen: Settings) -> None:
    """Keep the ports and the mode for later commands about this home."""
    chosen.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = chosen.home / "config.json"
    temporary = target.with_suffix(".tmp")
    temporary.write_text(
        json.dumps(
            {"version": CONFIG_VERSION, "ports": dataclasses.asdict(chosen.ports), "mode": chosen.mode}, indent=2
        )
        + "\n"
    )
    os.replace(temporary, target)  # noqa: PTH105 - the atomic rename is the point


def _saved(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise click.ClickException(f"{path} is not valid JSON ({error}): repair or remove it") from error
    if document.get("version") != CONFIG_VERSION:
        raise click.ClickException(
            f"{path} has version {document.get('version')!r}, this Headrace reads version {CONFIG_VERSION}:"
            " use the Headrace that wrote it, or another --home"
        )
    return dict(document)

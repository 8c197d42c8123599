"""Which platform a command is about: its home folder and the addresses that were chosen for it.

The choice of ports and mode is remembered in the home, so that only `up` needs to be told.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from headrace.machinery.settings import AUTO, EVICTION_HARD, GATEWAY_CERTIFICATE, GATEWAY_KEY, MODES, Ports, Settings

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


EVICTION_VARIABLE = "HEADRACE_EVICTION_HARD"


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


def gateway_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How the gateway is reached; each is remembered in the home."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in (
        click.option("--tls-key", type=file, help="The key of --tls-cert."),
        click.option("--tls-cert", type=file, help="Serve HTTPS with this certificate (PEM)."),
        click.option(
            "--https/--http",
            default=None,
            help="Serve HTTPS with a certificate of this cluster's own authority.  [default: what this home used last]",
        ),
        click.option(
            "--base-url",
            metavar="URL",
            help="The gateway as browsers know it, when a reverse proxy stands in front.",
        ),
        click.option(
            "--gateway-host",
            metavar="ADDRESS",
            help="Where the gateway listens. Other than loopback needs a changed default password.",
        ),
    ):
        command = option(command)
    return command


def settings(
    home: Path | None, *, mode: str | None = None, gateway_options: dict[str, Any] | None = None, **ports: int | None
) -> Settings:
    """The settings of a home, with what it used last and what is given now."""
    folder = (home or Path("~/.headrace")).expanduser().resolve()
    document = _saved(folder)
    saved = document.get("ports", {})
    defaults = dataclasses.asdict(Ports())
    chosen = {key: ports.get(key) or int(saved.get(key) or default) for key, default in defaults.items()}
    if len(set(chosen.values())) != len(chosen):
        raise click.UsageError(f"the three ports must differ, got {chosen}")
    eviction = os.environ.get(EVICTION_VARIABLE) or EVICTION_HARD
    mode = mode or document.get("mode") or AUTO
    plain = Settings(home=folder, ports=Ports(**chosen), mode=mode, eviction_hard=eviction)
    return dataclasses.replace(
        plain, **_gateway(plain, {**document.get("gateway", {}), **_given(plain, gateway_options or {})})
    )


def _given(chosen: Settings, options: dict[str, Any]) -> dict[str, str]:
    """What the options say, as it is kept. Raises UsageError."""
    found = {k: str(options[k]) for k in ("gateway_host", "base_url") if options.get(k) is not None}
    if "base_url" in found:
        found["base_url"] = found["base_url"].rstrip("/")
        parts = urlsplit(found["base_url"])
        if found["base_url"] and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.path):
            raise click.UsageError("--base-url is a scheme and a host, such as https://ml.example.com")
    certificate, key, https = options.get("tls_cert"), options.get("tls_key"), options.get("https")
    if (certificate is None) != (key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    if certificate is not None and key is not None:
        found |= {"tls_certificate": str(certificate.resolve()), "tls_key": str(key.resolve())}
    elif https is not None:
        own = chosen.pki / GATEWAY_CERTIFICATE, chosen.pki / GATEWAY_KEY
        found |= dict(zip(("tls_certificate", "tls_key"), map(str, own) if https else ("", ""), strict=True))
    return found


def _gateway(chosen: Settings, kept: dict[str, str]) -> dict[str, Any]:
    """The fields of Settings that say how the gateway is reached."""
    files = {k: Path(kept[k]) for k in ("tls_certificate", "tls_key") if kept.get(k)}
    return {
        "gateway_host": kept.get("gateway_host") or chosen.gateway_host,
        "base_url": kept.get("base_url", ""),
        **files,
    }


def remember(chosen: Settings) -> None:
    """Keep how the platform is reached, for later commands about this home."""
    chosen.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = chosen.home / "config.json"
    temporary = target.with_suffix(".tmp")
    gateway = {
        "gateway_host": chosen.gateway_host,
        "base_url": chosen.base_url,
        "tls_certificate": str(chosen.tls_certificate or ""),
        "tls_key": str(chosen.tls_key or ""),
    }
    ports = dataclasses.asdict(chosen.ports)
    document = {"version": CONFIG_VERSION, "ports": ports, "mode": chosen.mode, "gateway": gateway}
    temporary.write_text(json.dumps(document, indent=2) + "\n")
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

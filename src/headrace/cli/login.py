"""`headrace login`: kubectl as a person, by the platform's own login."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from headrace.cli import logins
from headrace.cli.home import home_option, settings

if TYPE_CHECKING:
    from headrace.cli.logins import Login

AUTHORITY = "ca.crt"
"""Below `pki`: signs an HTTPS gateway's certificate where none is given."""


@click.command(
    epilog="""\b
Examples:
  headrace login
  headrace login https://ml.example.com --ca ca.crt
  headrace login --open; kubectl get pods
"""
)
@home_option
@click.argument("gateway", required=False)
@click.option(
    "--ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The authority of an HTTPS URL."
)
@click.option("--server", help="The Kubernetes API as this machine reaches it.  [default: as the platform says]")
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to put the user and the context.  [default: the first of $KUBECONFIG, or ~/.kube/config]",
)
@click.option("--open", "open_", is_flag=True, help="Open the browser.")
def command(
    home: Path | None, gateway: str | None, ca: Path | None, server: str | None, kubeconfig: Path | None, open_: bool
) -> None:
    """Log in with a browser, and let kubectl act as you.

    GATEWAY is the platform's address; without it, the platform of this home is meant. The kubeconfig gets a user whose
    tokens `headrace token` fetches and renews, and a context that becomes the current one. `headrace logout` ends it.
    """
    begun = _begin(home, gateway, ca)

    def show(address: str, code: str) -> None:
        click.echo(f"Open {address}\nand let the code {code} in.", err=True)
        if open_:
            webbrowser.open(address)

    async def work() -> tuple[Login, dict[str, Any]]:
        login = await logins.by_device(begun, show)
        return login, await logins.ask(login, "/api/identity/kubeconfig", token=login.id_token)

    login, cluster = asyncio.run(work())
    target = (kubeconfig or _default_kubeconfig()).expanduser().resolve()
    name = f"{cluster['user']}@{cluster['name']}"
    logins.write(replace(login, name=name, kubeconfig=str(target)))
    from headrace.apiserver.pki.kubeconfig import KubeconfigUnreadable, merge

    try:
        backup = merge(target, _entries(name, cluster, server), switch=True)
    except KubeconfigUnreadable as error:
        raise click.ClickException(str(error)) from error
    kept = f"; what was there before is in {backup}" if backup else ""
    click.echo(f"You are {cluster['user']}. {target}: context {name} added and made current{kept}")


def _begin(home: Path | None, gateway: str | None, ca: Path | None) -> Login:
    """Where to log in. Raises ClickException."""
    if gateway is not None:
        parts = urlsplit(gateway)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise click.UsageError("GATEWAY is an address such as https://ml.example.com")
        return logins.Login("", gateway.rstrip("/"), str(ca.resolve()) if ca else "")
    chosen = settings(home)
    own = ca or chosen.pki / AUTHORITY
    trusted = str(own.resolve()) if chosen.gateway_url.startswith("https:") and own.exists() else ""
    return logins.Login("", chosen.gateway_url, trusted)


def _default_kubeconfig() -> Path:
    given = os.environ.get("KUBECONFIG", "").partition(os.pathsep)[0]
    return Path(given or "~/.kube/config")


def _entries(name: str, cluster: dict[str, Any], server: str | None) -> dict[str, Any]:
    """The kubeconfig's entries of a login."""
    authority = base64.b64encode(str(cluster["ca"]).encode()).decode()
    context = {"cluster": cluster["name"], "user": name}
    if cluster.get("namespace"):
        context["namespace"] = cluster["namespace"]
    execute = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-m", "headrace.cli", "token", "--login", name],
        "interactiveMode": "Never",
        "provideClusterInfo": False,
    }
    to = {"server": server or cluster["server"], "certificate-authority-data": authority}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster["name"], "cluster": to}],
        "users": [{"name": name, "user": {"exec": execute}}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }

"""`headrace token`: a service account's, or that of a login, also as kubectl's credential plugin."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
from typing import TYPE_CHECKING

import click

from headrace.cli import logins
from headrace.cli.home import home_option, settings
from headrace.cli.process import needed
from headrace.machinery.settings import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.machinery.settings import Settings

EXEC_INFO = "KUBERNETES_EXEC_INFO"
"""Set by kubectl and by the client libraries for credential plugins."""


@click.command(
    epilog="""\b
Examples:
  curl -H "Authorization: Bearer $(headrace token)" http://127.0.0.1:8080/serving/…
  headrace token --namespace team-a --service-account default-viewer
  headrace token --login ada@example.com@headrace
"""
)
@home_option
@click.option("--namespace", "-n", default=DEFAULT_NAMESPACE, show_default=True)
@click.option("--service-account", default="default-editor", show_default=True)
@click.option("--duration", type=click.IntRange(600, 86400), default=3600, show_default=True, help="Seconds.")
@click.option("--login", metavar="NAME", help="The token of a `headrace login` instead; kubectl asks for it so.")
def command(home: Path | None, namespace: str, service_account: str, duration: int, login: str | None) -> None:
    """Print a bearer token for the gateway, as `kubectl create token` does."""
    if login is not None:
        _of_login(login)
        return
    chosen = settings(home)
    needed(chosen)
    click.echo(asyncio.run(request_token(chosen, namespace, service_account, duration)))


def _of_login(name: str) -> None:
    """A person's ID token, renewed when that is needed; in kubectl's shape when it is kubectl that asks."""
    found = logins.current(name)
    asked = os.environ.get(EXEC_INFO, "")
    if not asked:
        click.echo(found.id_token)
        return
    try:
        version = str(json.loads(asked)["apiVersion"])
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{EXEC_INFO} is not what kubectl sends: {error}") from error
    ends = dt.datetime.fromtimestamp(found.ends, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = {"token": found.id_token, "expirationTimestamp": ends}
    click.echo(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}))


async def request_token(chosen: Settings, namespace: str, service_account: str, duration: int) -> str:
    """A token of a service account, for this many seconds. Raises ClickException."""
    from headrace.api.errors import NotFound, StatusError
    from headrace.client.http import HttpClient

    async with HttpClient.from_kubeconfig(chosen.kubeconfig) as client:
        try:
            return await client.request_token(namespace, service_account, expiration_seconds=duration)
        except NotFound as error:
            raise click.ClickException(
                f"{error.message} in namespace {namespace!r}: `kubectl get serviceaccounts -A` lists those there are"
            ) from error
        except StatusError as error:
            raise click.ClickException(error.message) from error

"""`headrace token`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from headrace.cli.home import home_option, settings
from headrace.cli.process import find
from headrace.machinery.settings import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.machinery.settings import Settings


@click.command(
    epilog="""\b
Examples:
  curl -H "Authorization: Bearer $(headrace token)" http://127.0.0.1:8080/serving/…
  headrace token --namespace team-a --service-account default-viewer
"""
)
@home_option
@click.option("--namespace", "-n", default=DEFAULT_NAMESPACE, show_default=True)
@click.option("--service-account", default="default-editor", show_default=True)
@click.option("--duration", type=click.IntRange(600, 86400), default=3600, show_default=True, help="Seconds.")
def command(home: Path | None, namespace: str, service_account: str, duration: int) -> None:
    """Print a bearer token for the gateway, as `kubectl create token` does."""
    chosen = settings(home)
    if find(chosen) is None:
        raise click.ClickException(f"no platform runs in {chosen.home}: `headrace up --detach` starts it")
    click.echo(asyncio.run(request_token(chosen, namespace, service_account, duration)))


async def request_token(chosen: Settings, namespace: str, service_account: str, duration: int) -> str:
    """A token of a service account, for this many seconds. Raises ClickException."""
    from headrace.api.errors import StatusError
    from headrace.client.http import HttpClient

    async with HttpClient.from_kubeconfig(chosen.kubeconfig) as client:
        try:
            return await client.request_token(namespace, service_account, expiration_seconds=duration)
        except StatusError as error:
            raise click.ClickException(error.message) from error

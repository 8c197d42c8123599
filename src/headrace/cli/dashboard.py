"""`headrace dashboard`."""

from __future__ import annotations

import asyncio
import webbrowser
from typing import TYPE_CHECKING

import click

from headrace.cli.home import home_option, settings
from headrace.cli.process import find
from headrace.cli.token import request_token
from headrace.machinery import logins
from headrace.machinery.settings import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.machinery.settings import Settings

SECONDS = 12 * 3600


@click.command(
    epilog="""\b
Examples:
  headrace dashboard
  headrace dashboard --open
  headrace dashboard --namespace team-a --service-account default-viewer
"""
)
@home_option
@click.option("--namespace", "-n", default=DEFAULT_NAMESPACE, show_default=True)
@click.option("--service-account", default="default-editor", show_default=True)
@click.option("--open", "open_", is_flag=True, help="Open it in the browser.")
def command(home: Path | None, namespace: str, service_account: str, open_: bool) -> None:
    """Print a link that opens the dashboard, logged in for twelve hours. The link works once, within an hour."""
    chosen = settings(home)
    if find(chosen) is None:
        raise click.ClickException(f"no platform runs in {chosen.home}: `headrace up --detach` starts it")
    address = asyncio.run(link(chosen, namespace, service_account))
    click.echo(address)
    if open_ and not webbrowser.open(address):
        raise click.ClickException("no browser was found on this machine: open the link above in one")


async def link(chosen: Settings, namespace: str, service_account: str) -> str:
    """An address that logs a browser in as a service account. Raises ClickException."""
    token = await request_token(chosen, namespace, service_account, SECONDS)
    return f"{chosen.gateway_url}/login?code={logins.offer(chosen, token)}"

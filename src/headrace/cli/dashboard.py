"""`headrace dashboard`."""

from __future__ import annotations

import webbrowser
from typing import TYPE_CHECKING

import click

from headrace.cli.home import home_option, settings
from headrace.cli.process import needed
from headrace.machinery import logins
from headrace.machinery.settings import DEFAULT_USER

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.machinery.settings import Settings


@click.command(
    epilog="""\b
Examples:
  headrace dashboard
  headrace dashboard --open
  headrace dashboard --user ada@example.com
"""
)
@home_option
@click.option("--user", "-u", default=DEFAULT_USER, show_default=True, help="Who is logged in: `headrace user list`.")
@click.option("--open", "open_", is_flag=True, help="Open it in the browser.")
def command(home: Path | None, user: str, open_: bool) -> None:
    """Print a link that opens the dashboard, logged in for a day. The link works once, within an hour."""
    chosen = settings(home)
    needed(chosen)
    address = link(chosen, user)
    click.echo(address)
    if open_ and not webbrowser.open(address):
        raise click.ClickException("no browser was found on this machine: open the link above in one")


def link(chosen: Settings, user: str = DEFAULT_USER) -> str:
    """An address that logs a browser in as a person, once."""
    return f"{chosen.gateway_url}/login?code={logins.offer(chosen, user)}"

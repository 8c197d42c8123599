"""`headrace user`: the people who log in with a password."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

from headrace.cli.home import home_option, settings
from headrace.cli.process import needed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from headrace.components.identity.api.credentials import Credentials
    from headrace.components.identity.api.directory import Directory

T = TypeVar("T")

password_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input, for scripts."
)
groups_option = click.option("--group", "-g", "groups", multiple=True, help="A group to be in; can be repeated.")


@click.group(
    epilog="""\b
Examples:
  headrace user list
  headrace user add ada@example.com --group data-science
  headrace user passwd ada@example.com
  echo "$PASSWORD" | headrace user passwd ada@example.com --password-stdin
  headrace user rm ada@example.com
"""
)
def command() -> None:
    """People who log in with an e-mail address and a password."""


@command.command("list")
@home_option
def list_(home: Path | None) -> None:
    """Show everybody."""

    async def work(directory: Directory, _credentials: Credentials) -> list[tuple[Any, bool]]:
        return await directory.people()

    for person, editable in _with(home, work):
        groups = ", ".join(person.groups) or "-"
        where = "" if editable else "   (in ConfigMap auth/dex)"
        click.echo(f"{person.email:<40} {person.username:<20} {groups}{where}")


@command.command()
@home_option
@click.argument("email")
@click.option("--name", default="", help="The name to show.  [default: what stands before the @]")
@groups_option
@password_option
def add(home: Path | None, email: str, name: str, groups: tuple[str, ...], password_stdin: bool) -> None:
    """Add a person; asks for the password."""
    password = _password(from_stdin=password_stdin)

    async def work(directory: Directory, _credentials: Credentials) -> str:
        return (await directory.add(email, password, username=name, groups=list(groups))).email

    click.echo(f"{_with(home, work)} can log in now. The first login asks to make a profile (a namespace).")


@command.command()
@home_option
@click.argument("email")
@password_option
def passwd(home: Path | None, email: str, password_stdin: bool) -> None:
    """Change a password; ends the person's sessions."""
    password = _password(from_stdin=password_stdin)

    async def work(directory: Directory, credentials: Credentials) -> None:
        await directory.change(email.lower(), password=password)
        await credentials.end_all(email.lower(), tokens=False)

    _with(home, work)
    click.echo(f"{email} has a new password; sessions that were open have ended.")


@command.command()
@home_option
@click.argument("email")
def rm(home: Path | None, email: str) -> None:
    """Remove a person, with all sessions and tokens. Profiles and what is in them stay."""

    async def work(directory: Directory, credentials: Credentials) -> None:
        await directory.remove(email.lower())
        await credentials.end_all(email.lower(), tokens=True)

    _with(home, work)
    click.echo(f"{email} cannot log in any more.")


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    entered: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return entered


def _with(home: Path | None, work: Callable[[Directory, Credentials], Awaitable[T]]) -> T:
    """Do something with the directory of the running platform, as its administrator. Raises ClickException."""
    chosen = settings(home)
    needed(chosen)
    from headrace.api.errors import NotFound, StatusError
    from headrace.client.http import HttpClient
    from headrace.components.identity.api.credentials import Credentials
    from headrace.components.identity.api.directory import Directory
    from headrace.components.identity.policy import Refused
    from headrace.machinery.clock import SystemClock

    async def run() -> T:
        async with HttpClient.from_kubeconfig(chosen.kubeconfig) as client:
            return await work(Directory(client), Credentials(client, SystemClock()))

    try:
        return asyncio.run(run())
    except NotFound as error:
        raise click.ClickException("there is no such user: `headrace user list` shows everybody") from error
    except (StatusError, Refused) as error:
        raise click.ClickException(str(error)) from error

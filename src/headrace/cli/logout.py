"""`headrace logout`: the end of what `headrace login` began."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from headrace.cli import logins
from headrace.machinery.people import KUBECTL_CLIENT


@click.command(
    epilog="""\b
Examples:
  headrace logout
  headrace logout ada@example.com@headrace
"""
)
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """End a login: its tokens here and at the platform, its user and context in the kubeconfig.

    NAME is the context's name; it is needed when there are several logins.
    """
    if name is None:
        found = logins.every()
        if not found:
            raise click.ClickException("nobody is logged in: there is nothing to end")
        if len(found) > 1:
            raise click.UsageError(f"which login? {', '.join(each.name for each in found)}")
        login = found[0]
    else:
        login = logins.read(name)
    with logins.locked(login.name):
        login = logins.read(login.name)
        try:
            form = {"token": login.refresh_token, "client_id": KUBECTL_CLIENT}
            asyncio.run(logins.ask(login, "/dex/token/revoke", form))
            left = ""
        except click.ClickException as error:
            left = f" The platform was not told ({error.message}): there the login ends by itself, in 90 days at most."
        logins.forget(login)
    from headrace.apiserver.pki.kubeconfig import KubeconfigUnreadable, remove

    try:
        remove(Path(login.kubeconfig), login.name, login.name)
    except KubeconfigUnreadable as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{login.name} is logged out.{left}")

"""`headrace env`: the environments that pods share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from headrace.cli.home import home_option, settings
from headrace.cli.usage import in_mb, pods

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.api.core import Pod
    from headrace.machinery.settings import Settings
    from headrace.node.images.inventory import Found


@click.group(
    epilog="""\b
Examples:
  headrace env list
  headrace env inspect 3f2a
  headrace env prune --unused-for 7
"""
)
def command() -> None:
    """Show the environments of pods: what is in them, what they cost, who uses them."""


@command.command(
    "list",
    epilog="""\b
Examples:
  headrace env list
  headrace env list --json | jq 'map(.sizeBytes) | add'
""",
)
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_(home: Path | None, *, as_json: bool) -> None:
    """List environments, those that are being built first. Files that several share count for each."""
    chosen = settings(home)
    found = _everything(chosen)
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found], indent=2))
        return
    if not found:
        click.echo("No environments yet: the first pod that needs one builds it.")
        return
    click.echo(f"{'ID':<14} {'SIZE':>11} {'LAST USE':<17} {'PACKAGES':<34} USED BY")
    for one in found:
        when = "building …" if one.building else f"{one.last_use:%Y-%m-%d %H:%M}"
        used = ", ".join(one.used_by[:3]) + (f" and {len(one.used_by) - 3} more" if len(one.used_by) > 3 else "")
        click.echo(f"{one.key[:12]:<14} {in_mb(one.size):>11} {when:<17} {_packages(one):<34} {used or '-'}")


def _packages(found: Found) -> str:
    text = " ".join(found.requirements) or "(none but pip)"
    return text if len(text) <= 34 else text[:33] + "…"


@command.command(
    "inspect",
    epilog="""\b
Examples:
  headrace env inspect 3f2a
  headrace env inspect 3f2a | jq -r '.requirements[]'
""",
)
@home_option
@click.argument("id", metavar="ID")
def inspect(home: Path | None, id: str) -> None:  # noqa: A002 - the argument's name
    """Show one environment as JSON, by the beginning of its id."""
    chosen = settings(home)
    found = [one for one in _everything(chosen) if one.key.startswith(id)]
    if len(found) != 1:
        many = "no environment begins" if not found else "several environments begin"
        raise click.ClickException(f"{many} with {id}: `headrace env list` shows them")
    click.echo(json.dumps(found[0].as_json(), indent=2))


@command.command(
    "prune",
    epilog="""\b
Examples:
  headrace env prune                   whatever no pod and no image uses
  headrace env prune --unused-for 7    and that nobody has used for a week
""",
)
@home_option
@click.option("--unused-for", type=click.FloatRange(min=0), default=0.0, metavar="DAYS", help="Only what is this old.")
def prune(home: Path | None, *, unused_for: float) -> None:
    """Remove environments that no pod and no image uses. A pod that needs one again builds it again."""
    chosen = settings(home)
    freed = prune_environments(chosen, pods(chosen), unused_for)
    click.echo(f"{in_mb(freed)} freed.")


def prune_environments(chosen: Settings, live: list[Pod], days: float = 0.0) -> int:
    """Remove what nobody uses; how many bytes that were."""
    from headrace.machinery.shelf import InUse
    from headrace.node.images import stock

    try:
        gone = stock.prune_environments(chosen, live, days)
    except InUse as error:
        raise click.ClickException(str(error)) from error
    for one in gone:
        click.echo(f"Deleted {one.key[:12]}")
    return sum(one.size for one in gone)


def _everything(chosen: Settings) -> list[Found]:
    from headrace.node.images import stock

    return stock.everything(chosen, pods(chosen))

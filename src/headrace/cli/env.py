"""`headrace env`: the environments that pods share."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import click

from headrace.cli.home import home_option, settings
from headrace.cli.usage import in_mb, pods, pulled

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


def everything(chosen: Settings, live: list[Pod]) -> list[Found]:
    """Every environment, with who uses it."""
    from headrace.node.images.inventory import environments, of_image
    from headrace.node.images.store import ImageStore

    found = environments(chosen.cache)
    users = pulled(live)
    for one in found:
        one.used_by.extend(sorted(set(users.get(one.key, []))))
    store = ImageStore(chosen.state / "images")
    for name, key in store.names().items():
        record = store.by_id(key)
        if record is not None:
            for one in of_image(found, record.requirements):
                one.used_by.append(f"image {name}")
                one.used_by.extend(sorted(set(users.get(key, []))))
    return found


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
    found = everything(chosen, pods(chosen))
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
    found = [one for one in everything(chosen, pods(chosen)) if one.key.startswith(id)]
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
    """Remove what nobody uses; how many bytes that were. A pod that waits for its image may still be on its way to one,
    so nothing goes while there is such a pod.
    """
    from headrace.node.images.inventory import remove

    waiting = [pod.key for pod in live if _waits(pod)]
    if waiting:
        raise click.ClickException(f"pod {waiting[0]} is starting and may need any of them: try again in a moment")
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    freed = 0
    for one in everything(chosen, live):
        if not one.used_by and not one.building and one.last_use < before and remove(chosen.cache, one):
            freed += one.size
            click.echo(f"Deleted {one.key[:12]}")
    return freed


def _waits(pod: Pod) -> bool:
    """Whether one of its containers has not got its image yet, and is not refused one either."""
    started = {
        status.name
        for status in (*pod.status.container_statuses, *pod.status.init_container_statuses)
        if status.image_id
    }
    refused = {
        status.name
        for status in (*pod.status.container_statuses, *pod.status.init_container_statuses)
        if status.state.waiting is not None and "ImagePull" in status.state.waiting.reason
    }
    names = {container.name for container in (*pod.spec.containers, *pod.spec.init_containers)}
    return bool(pod.spec.node_name) and not names <= started | refused

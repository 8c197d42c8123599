"""`headrace runs`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from headrace.cli.home import home_option, settings
from headrace.machinery.settings import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headrace.cli.pipelineruns import Runs
    from headrace.machinery.settings import Settings


@click.command(
    epilog="""\b
Examples:
  headrace runs                       the newest runs
  headrace runs --limit 100 --json
  headrace runs 3f2a                  one run and its steps, by id, beginning of the id or name
  headrace runs 3f2a --follow         until it ends
  headrace runs 3f2a --retry -f       again from the steps that failed
  headrace runs 3f2a --terminate
\b
Exit code with --follow: 0 the run succeeded, 1 it failed, 3 it was canceled.
"""
)
@home_option
@click.argument("run", required=False)
@click.option("--namespace", "-n", default=DEFAULT_NAMESPACE, show_default=True)
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many runs.")
@click.option("--follow", "-f", is_flag=True, help="Print what the run's steps do until it ends.")
@click.option("--retry", is_flag=True, help="Run the failed or canceled steps again, and what depends on them.")
@click.option("--terminate", is_flag=True, help="End the run.")
@click.option("--json", "as_json", is_flag=True, help="The API's answer.")
def command(
    home: Path | None,
    run: str | None,
    namespace: str,
    limit: int,
    *,
    follow: bool,
    retry: bool,
    terminate: bool,
    as_json: bool,
) -> None:
    """Show runs of pipelines, or one run; follow, retry or end it."""
    if run is None and (follow or retry or terminate):
        raise click.UsageError("name the run: its id, the beginning of its id, or its name")
    if retry and terminate:
        raise click.UsageError("--retry and --terminate exclude each other")
    verb = "retry" if retry else "terminate" if terminate else ""
    try:
        sys.exit(asyncio.run(_runs(settings(home), namespace, run, limit, verb, follow=follow, as_json=as_json)))
    except KeyboardInterrupt:
        sys.exit(130)


async def _runs(
    chosen: Settings, namespace: str, name: str | None, limit: int, verb: str, *, follow: bool, as_json: bool
) -> int:
    from headrace.cli.pipelineruns import EXIT_CODES, open_runs

    async with open_runs(chosen, namespace) as api:
        if name is None:
            await _list(api, limit, as_json=as_json)
            return 0
        run = await api.find(name)
        if verb:
            await api.call("POST", f"/runs/{run['run_id']}:{verb}")
        if follow:
            return EXIT_CODES[await api.follow(run["run_id"])]
        run = await api.call("GET", f"/runs/{run['run_id']}")
        if as_json:
            click.echo(json.dumps(run, indent=2))
        else:
            await _show(api, run)
        return 0


async def _list(api: Runs, limit: int, *, as_json: bool) -> None:
    query = {"namespace": api.namespace, "sort_by": "created_at desc", "page_size": str(limit)}
    listed = await api.call("GET", "/runs", **query)
    if as_json:
        click.echo(json.dumps(listed, indent=2))
        return
    rows = [
        (r["run_id"][:8], r["display_name"], r["state"], r["created_at"][:19] + "Z") for r in listed.get("runs", [])
    ]
    if not rows:
        click.echo(f"no runs in {api.namespace}: `headrace run PIPELINE.yaml --follow` starts one")
        return
    _table(("RUN", "NAME", "STATE", "CREATED"), rows)
    if listed.get("total_size", 0) > len(rows):
        click.echo(f"{listed['total_size'] - len(rows)} older ones; --limit shows more")


async def _show(api: Runs, run: dict[str, Any]) -> None:
    from headrace.cli.pipelineruns import FINAL, describe

    click.echo(f"{run['run_id']}  {run['display_name']}")
    for task in await api.tasks(run["run_id"]):
        line = describe(task)
        if line is not None:
            click.echo(f"  {line}")
    if run["state"] in FINAL:
        await api.explain(run)
    else:
        click.echo(run["state"])


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    for row in (heads, *rows):
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())

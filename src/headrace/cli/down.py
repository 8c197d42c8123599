"""`headrace down`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

import click

from headrace.cli.home import home_option, settings
from headrace.cli.process import find

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.machinery.settings import Settings

STOP_TIMEOUT = 60.0


@click.command(
    epilog="""\b
Examples:
  headrace down                  stop pods gracefully, then the platform; nothing is lost
  headrace down --keep-pods      stop only the control plane; `headrace up` adopts the pods again
"""
)
@home_option
@click.option("--keep-pods", is_flag=True, help="Leave pods running for the next `headrace up`.")
def command(home: Path | None, keep_pods: bool) -> None:
    """Stop the platform and its pods. Pods that should run start again with the next `up`."""
    chosen = settings(home)
    running = find(chosen)
    if running is not None:
        os.kill(running.pid, signal.SIGUSR1 if keep_pods else signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT
        while find(chosen) is not None:
            if time.monotonic() > deadline:
                raise click.ClickException(
                    f"the platform (pid {running.pid}) did not stop within {STOP_TIMEOUT:.0f} s:"
                    f" `kill -9 {running.pid}` ends it, nothing acknowledged is lost"
                )
            time.sleep(0.02)
    if not keep_pods:
        asyncio.run(_stop_node(chosen))
    click.echo("Headrace is down." if running else f"No platform runs in {chosen.home}.")


async def _stop_node(chosen: Settings) -> None:
    """End the node's helper processes and pods that a killed control plane left behind."""
    from headrace.platform import stop_node

    await stop_node(chosen)

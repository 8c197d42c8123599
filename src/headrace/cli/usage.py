"""Who uses images and environments at this moment: the pods of a running platform."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from headrace.cli.process import find

if TYPE_CHECKING:
    from headrace.api.core import Pod
    from headrace.machinery.settings import Settings


def pods(chosen: Settings) -> list[Pod]:
    """Pods that have not ended; none when no platform runs, which is when none of them needs anything."""
    running = find(chosen)
    if running is None:
        return []
    if not running.ready:
        raise click.ClickException("the platform is starting: try again in a moment")
    from headrace.node.images.stock import FINISHED

    return [pod for pod in asyncio.run(_pods(chosen)) if pod.status.phase not in FINISHED]


async def _pods(chosen: Settings) -> list[Pod]:
    from headrace.api.core import Pod
    from headrace.client.http import HttpClient

    async with HttpClient.from_kubeconfig(chosen.kubeconfig) as client:
        return list((await client.list(Pod)).items)


def in_mb(size: int) -> str:
    """`12.3 MB`."""
    return f"{size / 1e6:.1f} MB"

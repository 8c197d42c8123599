"""Who uses images and environments at this moment: the pods of a running platform."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from headrace.cli.process import find

if TYPE_CHECKING:
    from headrace.api.core import Pod
    from headrace.machinery.settings import Settings

_FINISHED = frozenset({"Succeeded", "Failed"})


def pods(chosen: Settings) -> list[Pod]:
    """Pods that have not ended; none when no platform runs, which is when none of them needs anything."""
    running = find(chosen)
    if running is None:
        return []
    if not running.ready:
        raise click.ClickException("the platform is starting: try again in a moment")
    return [pod for pod in asyncio.run(_pods(chosen)) if pod.status.phase not in _FINISHED]


async def _pods(chosen: Settings) -> list[Pod]:
    from headrace.api.core import Pod
    from headrace.client.http import HttpClient

    async with HttpClient.from_kubeconfig(chosen.kubeconfig) as client:
        return list((await client.list(Pod)).items)


def named(found: list[Pod]) -> dict[str, list[str]]:
    """Pods by the images that their containers name, whether they have been pulled or not."""
    result: dict[str, list[str]] = {}
    for pod in found:
        for container in (*pod.spec.containers, *pod.spec.init_containers):
            result.setdefault(container.image, []).append(f"pod {pod.key}")
    return result


def pulled(found: list[Pod]) -> dict[str, list[str]]:
    """Pods by the digests of what their containers run from."""
    result: dict[str, list[str]] = {}
    for pod in found:
        for status in (*pod.status.container_statuses, *pod.status.init_container_statuses):
            _, at, digest = status.image_id.partition("@sha256:")
            if at:
                result.setdefault(digest, []).append(f"pod {pod.key}")
    return result


def in_mb(size: int) -> str:
    """`12.3 MB`."""
    return f"{size / 1e6:.1f} MB"

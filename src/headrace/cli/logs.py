"""`headrace logs`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from headrace.cli.home import home_option, settings
from headrace.cli.process import find
from headrace.machinery.settings import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    epilog="""\b
Examples:
  headrace logs                           the platform's own log, its last lines
  headrace logs -f                        and what follows
  headrace logs my-pod                    a pod of the default profile
  headrace logs kubeflow/my-pod -c main   a pod of another namespace, one container
"""
)
@home_option
@click.argument("pod", required=False)
@click.option("--container", "-c", default="", help="The container; needed when the pod has several.")
@click.option("--follow", "-f", is_flag=True, help="Print new lines until Ctrl-C.")
@click.option("--tail", type=click.IntRange(min=1), default=100, show_default=True, help="How many last lines.")
@click.option("--previous", "-p", is_flag=True, help="The container's previous start.")
def command(home: Path | None, pod: str | None, container: str, follow: bool, tail: int, previous: bool) -> None:
    """Show the platform's log, or a pod's. Logs of pods that have ended are kept."""
    chosen = settings(home)
    if pod is None:
        _own_log(chosen.logs / "headrace.log", tail, follow=follow)
        return
    if find(chosen) is None:
        raise click.ClickException(
            f"no platform runs in {chosen.home}; the files of its pods' logs are in {chosen.logs / 'pods'}"
        )
    import asyncio

    namespace, _, name = pod.rpartition("/")
    asyncio.run(
        _pod_log(
            chosen.kubeconfig, namespace or DEFAULT_NAMESPACE, name, container, tail, follow=follow, previous=previous
        )
    )


def _own_log(path: Path, tail: int, *, follow: bool) -> None:
    try:
        with path.open("rb") as file:
            lines = file.read().splitlines(keepends=True)
            for line in lines[-tail:]:
                click.echo(line, nl=False)
            while follow:
                chunk = file.read()
                if chunk:
                    click.echo(chunk, nl=False)
                else:
                    time.sleep(0.1)
    except FileNotFoundError:
        raise click.ClickException(f"there is no log yet: {path} is written by `headrace up --detach`") from None
    except KeyboardInterrupt:
        return


async def _pod_log(
    kubeconfig: Path, namespace: str, name: str, container: str, tail: int, *, follow: bool, previous: bool
) -> None:
    from headrace.api.core import Pod
    from headrace.api.errors import NotFound, StatusError
    from headrace.client.http import HttpClient

    query = {"tailLines": str(tail)}
    if container:
        query["container"] = container
    if follow:
        query["follow"] = "true"
    if previous:
        query["previous"] = "true"
    path = Pod.INFO.path(namespace, name, "log")
    async with HttpClient.from_kubeconfig(kubeconfig) as client:
        try:
            async with client.open("GET", path, query=query, timeout=None) as response:
                async for chunk in response.content.iter_any():
                    click.echo(chunk, nl=False)
        except NotFound as error:
            raise click.ClickException(
                f"{error.message} in namespace {namespace!r}: `kubectl get pods -A` lists pods, NAMESPACE/POD names one"
            ) from error
        except StatusError as error:
            raise click.ClickException(error.message) from error

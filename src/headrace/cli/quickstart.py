"""`headrace quickstart`: the digits recognizer, as a stranger meets it first."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli.dashboard import link
from headrace.cli.home import home_option, port_options, settings
from headrace.cli.up import start_detached
from headrace.machinery.examples import DIGITS, example
from headrace.machinery.settings import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from headrace.machinery.settings import Settings


@click.command(
    epilog="""\b
Examples:
  headrace quickstart
  headrace quickstart --home /tmp/try --api-port 6444 --gateway-port 8081 --objectstore-port 9001
"""
)
@home_option
@port_options
def command(home: Path | None, api_port: int | None, gateway_port: int | None, objectstore_port: int | None) -> None:
    """Train a recognizer of handwritten digits, serve it, ask it. Leaves the platform running."""
    begin = time.monotonic()
    chosen = settings(home, api=api_port, gateway=gateway_port, objectstore=objectstore_port)
    folder = _example()
    click.echo("Starting the platform")
    start_detached(chosen)
    python = asyncio.run(_clients(chosen, folder / "requirements.txt"))
    click.echo()
    done = subprocess.run(
        [str(python), "-u", "run.py"],
        cwd=folder,
        check=False,
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))},
            "PYTHONDONTWRITEBYTECODE": "1",  # the example's folder may be read-only
            "KUBECONFIG": str(chosen.kubeconfig),
            "NAMESPACE": DEFAULT_NAMESPACE,
            "KFP_HOST": f"{chosen.gateway_url}/pipeline",
            "INGRESS": chosen.gateway_url,
            "S3_ENDPOINT": f"http://{chosen.host}:{chosen.ports.objectstore}",
        },
    )
    if done.returncode:
        raise click.ClickException(
            "the example did not finish: its last line says why; `headrace logs` shows the platform's side"
        )
    click.echo(f"\nDone after {time.monotonic() - begin:.1f} s. The platform is still running. Next:")
    click.echo(_next(chosen, folder, link(chosen)))


def _example() -> Path:
    """The example's folder: in the installed package, or in the checkout that this package runs from."""
    found = example(DIGITS, "run.py")
    if found is None:
        raise click.ClickException(f"examples/{DIGITS} is missing from this installation: install Headrace again")
    return found


async def _clients(chosen: Settings, requirements: Path) -> Path:
    """The interpreter of an environment that holds the public clients which the example imports."""
    from headrace.machinery.clock import SystemClock
    from headrace.node.images.service import ImageError, Images

    lines = [line.strip() for line in requirements.read_text().splitlines()]
    wanted = json.dumps([line for line in lines if line and not line.startswith("#")])
    begin = time.monotonic()
    built = False

    def tell(_progress: object) -> None:
        nonlocal built
        if built:
            return
        built = True
        click.echo("Installing the clients that the example uses (kfp, kubernetes, boto3)")

    images = Images(chosen, SystemClock())
    try:
        image = f"python:{sys.version_info.major}.{sys.version_info.minor}"
        environment = await images.resolve(image, wanted, on_pull=tell)
    except ImageError as error:
        raise click.ClickException(f"the clients could not be installed: {error.message}") from error
    finally:
        await images.close()
    if environment.python is None:
        raise click.ClickException("the clients' environment has no Python: remove the home's cache and try again")
    if built:
        click.echo(f"  ready clients            {(time.monotonic() - begin) * 1000:7.0f} ms")
    return environment.python


def _next(chosen: Settings, folder: Path, dashboard: str) -> str:
    headrace = Path(sys.argv[0])
    home = chosen.home_option
    return "\n".join(
        (
            f"  {dashboard}",
            f"  {headrace} dashboard{home}   prints another link: the runs, their metrics, the models",
            f"  export KUBECONFIG={chosen.kubeconfig}",
            "  kubectl get pods -A",
            f"  kubectl -n {DEFAULT_NAMESPACE} get inferenceservices",
            f"  {folder / 'pipeline.py'}   the pipeline: change it and run this again",
            f"  {headrace} status{home}      what runs and what it costs",
            f"  {headrace} down{home}        stop; nothing is lost",
        )
    )

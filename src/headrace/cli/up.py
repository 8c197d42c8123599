"""`headrace up`."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli import bytecode
from headrace.cli.home import gateway_options, home_option, mode_option, port_options, remember, settings
from headrace.cli.process import acquire_lock, check_ports, find

if TYPE_CHECKING:
    from headrace.machinery.settings import Settings

START_TIMEOUT = 60.0
MAX_LOG = 8 << 20
"""Bytes of the platform's own log, looked at when it starts."""


@click.command(
    epilog="""\b
Examples:
  headrace up                          in the foreground, Ctrl-C stops everything
  headrace up --detach                 in the background; `headrace down` stops it
  headrace up --mode bare              pods without namespaces, where the machine forbids them
  headrace up --only pipelines         only pipelines and what they need
  headrace up --home ~/two --api-port 6444 --gateway-port 8081 --objectstore-port 9001
  headrace up --detach --merge-kubeconfig   and make it the current context of ~/.kube/config
"""
)
@home_option
@port_options
@mode_option
@gateway_options
@click.option("--detach", "-d", is_flag=True, help="Start in the background and return when everything is ready.")
@click.option("--only", metavar="NAMES", help="Comma-separated components to run, with what they require.")
@click.option("--merge-kubeconfig", is_flag=True, help="Add this cluster to ~/.kube/config and switch to it.")
@click.option("--verbose", "-v", is_flag=True, help="Log more.")
def command(
    home: Path | None,
    api_port: int | None,
    gateway_port: int | None,
    objectstore_port: int | None,
    mode: str | None,
    detach: bool,
    only: str | None,
    merge_kubeconfig: bool,
    verbose: bool,
    **gateway: Any,
) -> None:
    """Start the platform."""
    chosen = settings(
        home,
        mode=mode,
        gateway_options=gateway,
        api=api_port,
        gateway=gateway_port,
        objectstore=objectstore_port,
    )
    names = tuple(n.strip() for n in only.split(",") if n.strip()) if only else ()
    if detach:
        start_detached(chosen, names, verbose=verbose)
    else:
        _foreground(chosen, names, verbose=verbose, merge=merge_kubeconfig)
        return
    if merge_kubeconfig:
        _merge(chosen)


def start_detached(chosen: Settings, only: tuple[str, ...] = (), *, verbose: bool = False) -> None:
    """Start in the background and show progress until every component is ready. Raises ClickException."""
    running = find(chosen)
    if running is None:
        check_ports(chosen)
        remember(chosen)
        chosen.logs.mkdir(parents=True, exist_ok=True)
        log = chosen.logs / "headrace.log"
        set_aside(log)
        arguments = [sys.executable, "-m", "headrace.cli", "up", "--home", str(chosen.home)]
        if only:
            arguments += ["--only", ",".join(only)]
        if verbose:
            arguments.append("--verbose")
        with log.open("ab") as output:
            begin = output.tell()
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env={**bytecode.environment(chosen), "HEADRACE_HOME": str(chosen.home)},
            )
        _follow_start(process, log, begin)
    elif running.ready:
        click.echo(f"The platform of {chosen.home} runs already (pid {running.pid}).")
        return
    _wait_ready(chosen)


def set_aside(log: Path) -> None:
    """What has grown too large becomes `headrace.log.1`; the one before that goes."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > MAX_LOG:
            log.replace(log.with_name(log.name + ".1"))


def _follow_start(process: subprocess.Popen[bytes], log: Path, begin: int) -> None:
    """Copy the new lines of the log to the terminal until the platform says that it is ready."""
    deadline = time.monotonic() + START_TIMEOUT
    position, pending = begin, ""
    while time.monotonic() < deadline:
        with log.open("rb") as file:
            file.seek(position)
            chunk = file.read()
        position += len(chunk)
        *lines, pending = (pending + chunk.decode(errors="replace")).split("\n")
        for line in lines:
            if line.startswith(_PROGRESS):
                click.echo(line)
            if line.startswith(_READY):
                return
        code = process.poll()
        if code is not None:
            tail = log.read_bytes()[begin:].decode(errors="replace").strip().splitlines()
            raise click.ClickException(
                "\n".join([f"the platform ended with code {code} while it started:", *tail[-12:]])
            )
        time.sleep(0.02)
    raise click.ClickException(f"the platform is not ready after {START_TIMEOUT:.0f} s: see {log}")


def _wait_ready(chosen: Settings) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        running = find(chosen)
        if running is None:
            raise click.ClickException(f"the platform ended while it started: see {chosen.logs / 'headrace.log'}")
        if running.ready:
            return
        time.sleep(0.02)
    raise click.ClickException(f"the platform is not ready after {START_TIMEOUT:.0f} s")


_PROGRESS = "  ready "
_READY = "Headrace is up"


def _foreground(chosen: Settings, only: tuple[str, ...], *, verbose: bool, merge: bool) -> None:
    chosen.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = acquire_lock(chosen)
    bytecode.keep(chosen)
    gc.disable()  # nearly all that a start makes stays: looking through it again and again finds nothing
    import logging

    from headrace.machinery.component import ConfigurationError
    from headrace.platform import Platform

    check_ports(chosen)
    remember(chosen)
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for name in ("uvicorn.error", "python_multipart"):  # what is wrong with a request is its sender's to know
        logging.getLogger(name).setLevel(logging.ERROR)

    def progress(name: str, seconds: float) -> None:
        click.echo(f"{_PROGRESS}{name:<18} {seconds * 1000:7.0f} ms")
        sys.stdout.flush()

    async def run() -> None:
        platform = Platform(chosen, only=only)
        begin = time.monotonic()
        await platform.start(progress)
        gc.enable()
        if merge:
            _merge(chosen)
        click.echo(f"{_READY} after {time.monotonic() - begin:.2f} s")
        click.echo(where_to_look(chosen))
        sys.stdout.flush()
        await platform.run_until_signal()

    try:
        with contextlib.closing(lock):
            _run(run())
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error


def _run(main: object) -> None:
    import asyncio

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)  # type: ignore[arg-type]


def _merge(chosen: Settings) -> None:
    from headrace.apiserver.pki.kubeconfig import KubeconfigUnreadable, merge_kubeconfig

    target = Path("~/.kube/config").expanduser()
    try:
        backup = merge_kubeconfig(chosen, target)
    except KubeconfigUnreadable as error:
        raise click.ClickException(str(error)) from error
    kept = f"; what was there before is in {backup}" if backup else ""
    click.echo(f"{target}: context {chosen.context} added and made current{kept}")


def where_to_look(chosen: Settings) -> str:
    """The addresses that a person needs next."""
    return "\n".join(
        (
            f"  Dashboard        {chosen.gateway_url}    `headrace dashboard{chosen.home_option}` prints a link",
            f"  Kubernetes API   https://{chosen.host}:{chosen.ports.api}    export KUBECONFIG={chosen.kubeconfig}",
            f"  Pipelines        {chosen.gateway_url}/pipeline    kfp.Client(host=…, existing_token=…)",
            f"  Served models    {chosen.gateway_url}/serving/NAMESPACE/NAME/…",
            f"  Object store     http://{chosen.host}:{chosen.ports.objectstore}    Secret mlpipeline-minio-artifact",
        )
    )

"""The process: arguments, loading, listening, ending."""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

TERMINATION_LOG = Path("/dev/termination-log")
GRACE_SECONDS = 25


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.exit(_fail(f"sklearnserver: {message}; see --help.", 2))


def main(argv: list[str]) -> int:
    """Serve until SIGTERM; the exit code."""
    parser = _Parser(prog="sklearnserver", description="Serves one scikit-learn model by KServe's V1 and V2 REST.")
    parser.add_argument("--model_name", required=True, help="the name in the URLs")
    parser.add_argument("--model_dir", required=True, type=Path, help="the folder with one model file")
    parser.add_argument("--http_port", type=int, default=8080)
    parser.add_argument("--protocol", choices=("v1", "v2"), default="v1", help="accepted for KServe; both are served")
    options = parser.parse_args(argv)

    from .model import LoadFailed, Model, load

    try:
        model = Model(options.model_name, load(options.model_dir))
    except LoadFailed as error:
        return _fail(str(error), 1)
    return _serve(model, options.http_port)


def _serve(model: Any, port: int) -> int:
    import uvicorn

    from .app import App

    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("0.0.0.0", port))
    except OSError as error:
        return _fail(f"Port {port} cannot be listened on: {error.strerror or error}.", 1)
    # uvicorn finishes what is in flight on SIGTERM and then sends itself the signal again, for the handler that was
    # there before: this one makes that a success.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    config = uvicorn.Config(
        App(model),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=75,
        backlog=1024,
    )
    print(f"Model {model.name} is loaded; listening on port {port}.", flush=True)
    uvicorn.Server(config).run(sockets=[sock])
    return 0


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        # the kubelet makes this file; where it is missing, stderr has to do
        if TERMINATION_LOG.exists():
            TERMINATION_LOG.write_text(message, encoding="utf-8")
    return code

"""Tell the pipelines API what the step came to, however long it takes the control plane to come back."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .task import read, say

if TYPE_CHECKING:
    from .task import Task

PATIENCE_SECONDS = 600.0
TIMEOUT_SECONDS = 30.0
LONGEST_DELAY = 2.0
LONGEST_ANSWER = 64 << 10
_HTTP = b"HTTP/1."
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_FOUND, _NOT_FOUND_SECONDS = 404, 20.0
"""After a crash of the control plane a step may be faster than the record that there is to be such a step."""


def report(task: Task, data: bytes, patience: float = PATIENCE_SECONDS) -> bool:
    """Send the report until it is answered; whether it was accepted."""
    began, delay, why = time.monotonic(), 0.05, ""
    while True:
        longest = patience
        try:
            status, answer = _post(task, data)
        except OSError as error:
            why = f"no answer from {task.api} ({error})"
            task.api_address = ""  # it may have another one by now
        else:
            if status < 300:
                return True
            why = f"{task.api} answered {status}: {answer[:500]}"
            if status == _NOT_FOUND:
                longest = min(patience, _NOT_FOUND_SECONDS)
            elif status not in _TRY_AGAIN:
                break
        if time.monotonic() + delay > began + longest:
            break
        time.sleep(delay)
        delay = min(delay * 2, LONGEST_DELAY)
    say(f"The step's result could not be reported: {why}")
    return False


def _post(task: Task, data: bytes) -> tuple[int, str]:
    scheme, _, rest = task.api.partition("://")
    netloc, slash, prefix = rest.partition("/")
    path = f"{slash}{prefix.rstrip('/')}/apis/v2beta1/runs/{task.run_id}/tasks/{task.task_id}:report"
    with _connect(task, netloc, 443 if scheme == "https" else 80) as connection:
        if scheme != "https":
            return exchange(connection, netloc, path, data, _token(task.token_file))
        import ssl

        with ssl.create_default_context().wrap_socket(connection, server_hostname=_split(netloc, 443)[0]) as secure:
            return exchange(secure, netloc, path, data, _token(task.token_file))


def exchange(connection: socket.socket, host: str, path: str, data: bytes, token: str) -> tuple[int, str]:
    """One POST and its answer's status; its text too when it was refused. Raises OSError.

    By hand: importing and running an HTTP client for this one request takes as long as many steps do.
    """
    lines = [
        f"POST {path} HTTP/1.1",
        f"host: {host}",
        "connection: close",
        "content-type: application/json",
        f"content-length: {len(data)}",
        *([f"authorization: Bearer {token}"] if token else []),
    ]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _more(connection)
        if not answer.startswith(_HTTP[: len(answer)]):
            raise ConnectionError("it does not speak HTTP")
    if not answer[9:12].isdigit():
        raise ConnectionError("it does not speak HTTP")
    status = int(answer[9:12])
    if status < 300:
        return status, ""
    with contextlib.suppress(OSError):
        while len(answer) < LONGEST_ANSWER:
            answer += _more(connection)
    return status, answer.partition(b"\r\n\r\n")[2].decode(errors="replace")


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(65536)
    if not part:
        raise ConnectionError("the connection was closed")
    return part


def _connect(task: Task, netloc: str, default: int) -> socket.socket:
    if not task.api_address:
        return socket.create_connection(_split(whole_name(netloc), default), timeout=TIMEOUT_SECONDS)
    connection = socket.socket(socket.AF_INET6 if ":" in task.api_address else socket.AF_INET)
    try:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect((task.api_address, _split(netloc, default)[1]))
    except BaseException:
        connection.close()
        raise
    return connection


def _split(netloc: str, default: int) -> tuple[str, int]:
    host, colon, port = netloc.rpartition(":")
    if not colon or "]" in port:
        host, port = netloc, str(default)
    return host.strip("[]"), int(port)


def whole_name(netloc: str, resolv: str = "/etc/resolv.conf") -> str:
    """`service.namespace` with the cluster's domain, if there is one: one question to its name server instead of one
    for each name of the search list.
    """
    host, colon, port = netloc.partition(":")
    if host.count(".") != 1:
        return netloc
    try:
        words = Path(resolv).read_text(encoding="utf-8").split()
    except OSError:
        return netloc
    domain = next((word for word in words if word.startswith("svc.")), "")
    return f"{host}.{domain}.{colon}{port}" if domain else netloc


def _token(path: str) -> str:
    """Read each time: the agent renews the file."""
    if not path:
        return ""
    try:
        return read(path).decode().strip()
    except OSError:
        return ""

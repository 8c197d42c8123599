"""Tell the pipelines API what the step came to, however long it takes the control plane to come back."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .task import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .task import Task

    Json = Any

PATIENCE_SECONDS = 600.0
TIMEOUT_SECONDS = 30.0
LONGEST_DELAY = 2.0
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_FOUND, _NOT_FOUND_SECONDS = 404, 20.0
"""After a crash of the control plane a step may be faster than the record that there is to be such a step."""


def report(task: Task, body: Mapping[str, Json], patience: float = PATIENCE_SECONDS) -> bool:
    """Send the report until it is answered; whether it was accepted."""
    data = json.dumps(body, ensure_ascii=False).encode()
    began, delay, why = time.monotonic(), 0.05, ""
    while True:
        longest = patience
        try:
            status, answer = _post(task, data)
        except (OSError, http.client.HTTPException) as error:
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
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = kind(netloc if scheme == "https" else _place(task, netloc), timeout=TIMEOUT_SECONDS)
    headers = {"content-type": "application/json", "host": netloc}
    token = _token(task.token_file)
    if token:
        headers["authorization"] = f"Bearer {token}"
    try:
        path = f"{slash}{prefix.rstrip('/')}/apis/v2beta1/runs/{task.run_id}/tasks/{task.task_id}:report"
        connection.request("POST", path, body=data, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def _place(task: Task, netloc: str) -> str:
    if not task.api_address:
        return whole_name(netloc)
    _, colon, port = netloc.partition(":")
    return f"{task.api_address}{colon}{port}"


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
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""

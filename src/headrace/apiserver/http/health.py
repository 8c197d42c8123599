"""Whether the server lives and is ready, which version it is, and a few numbers about it."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Any

from headrace import __version__
from headrace.apiserver.http.messages import TEXT, Response, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.apiserver.http.messages import Request

KUBERNETES = "v1.32.4"
"""The version of Kubernetes whose API this is."""
HEALTH_PATHS = ("healthz", "livez", "readyz")


def version() -> dict[str, Any]:
    """/version."""
    system, machine = platform.system().lower(), platform.machine()
    return {
        "major": "1",
        "minor": "32",
        "gitVersion": f"{KUBERNETES}+headrace-{__version__}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": "cpython",
        "platform": f"{system}/{'amd64' if machine == 'x86_64' else machine}",
    }


class Health:
    """Named checks; `ready` ones count for /readyz only."""

    def __init__(self, checks: dict[str, Callable[[], bool]], ready: dict[str, Callable[[], bool]]) -> None:
        self._checks = {"ping": lambda: True, **checks}
        self._ready = ready

    def answer(self, request: Request) -> Response | None:
        """The answer to /healthz, /livez, /readyz and single checks below them; None for another path."""
        parts = request.path.strip("/").split("/")
        if parts[0] not in HEALTH_PATHS or len(parts) > 2:
            return None
        checks = {**self._checks, **(self._ready if parts[0] == "readyz" else {})}
        if len(parts) == 2:
            if parts[1] not in checks:
                return None
            checks = {parts[1]: checks[parts[1]]}
        excluded = request.query.get("exclude", "")
        results = {name: check() for name, check in checks.items() if name != excluded}
        good = all(results.values())
        if good and "verbose" not in request.query:
            return text("ok")
        lines = [f"[+]{name} ok" if fine else f"[-]{name} failed" for name, fine in results.items()]
        lines.append(f"{parts[0]} check {'passed' if good else 'failed'}")
        return text("\n".join(lines) + "\n", 200 if good else 500)


class Metrics:
    """Requests by verb and code, open watches, uptime: Prometheus text, by hand, because it is this little."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, int], int] = {}
        self._started = time.time()

    def count(self, method: str, status: int) -> None:
        """A request was answered."""
        key = (method, status)
        self._requests[key] = self._requests.get(key, 0) + 1

    def answer(self, gauges: dict[str, float]) -> Response:
        """/metrics."""
        lines = [
            "# HELP apiserver_request_total Requests answered, by method and code.",
            "# TYPE apiserver_request_total counter",
        ]
        lines += [
            f'apiserver_request_total{{verb="{method}",code="{status}"}} {count}'
            for (method, status), count in sorted(self._requests.items())
        ]
        for name, value in {**gauges, "process_start_time_seconds": self._started}.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value:g}"]
        return Response(("\n".join(lines) + "\n").encode(), 200, TEXT)

"""Every route that the platform has, read from its own tables: nothing here is written by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette

from headrace.components.dashboard.api.app import App as Dashboard
from headrace.components.objectstore.api import app as objectstore
from headrace.machinery.component import LazyApp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headrace.apiserver.http.app import ApiApp
    from headrace.machinery.component import Mount
    from headrace.machinery.pages import Page

ANY = ("GET", "POST", "PUT", "PATCH", "DELETE")
VERBS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """One thing that can be asked. `kind` is the edge: `gateway`, `action`, `api`, `document`, `s3`."""

    kind: str
    method: str
    path: str
    """As the table has it, with parameters in braces; of actions `path#action`, of resources `plural.group/part`."""

    def __str__(self) -> str:
        return f"{self.kind} {self.method} {self.path}"


def of_gateway(mounts: Iterable[Mount], pages: Iterable[Page]) -> Iterator[Route]:
    """What is mounted, the dashboard's pages and their actions, and what the gateway answers itself."""
    yield Route("gateway", "GET", "/healthz")
    for method in ("GET", "POST"):
        yield Route("gateway", method, "/serving/{namespace}/{model}")
    for mount in mounts:
        app: Any = mount.app.made if isinstance(mount.app, LazyApp) else mount.app
        prefix = mount.path.rstrip("/")
        if isinstance(app, Starlette):
            for route in app.routes:
                methods = sorted((getattr(route, "methods", None) or set(ANY)) - {"HEAD", "OPTIONS"})
                for method in methods:
                    yield Route("gateway", method, f"{prefix}{getattr(route, 'path', '')}")
        elif isinstance(app, Dashboard):
            yield from _of_dashboard(pages)
        else:  # an endpoint that is its own application
            yield Route("gateway", "GET", prefix)


def _of_dashboard(pages: Iterable[Page]) -> Iterator[Route]:
    yield Route("gateway", "GET", "/static/{file}")
    yield Route("gateway", "GET", "/live")
    for page in pages:
        yield Route("gateway", "GET", page.path)
        for action in page.actions:
            yield Route("action", "POST", f"{page.path}#{action}")


def of_objectstore() -> Iterator[Route]:
    """Operations of the object store."""
    for place, table in (("/", objectstore._SERVICE), ("/{bucket}", objectstore._BUCKET)):
        for method, part in table:
            yield Route("s3", method, f"{place}?{part}" if part else place)
    for method, part in objectstore._OBJECT:
        yield Route("s3", method, f"/{{bucket}}/{{key}}?{part.replace(' ', '+')}" if part else "/{bucket}/{key}")


def of_documents(app: ApiApp) -> Iterator[Route]:
    """The API server's paths that are no resources, as it lists them itself."""
    for path in app._paths():
        yield Route("document", "GET", path)


def of_api(app: ApiApp) -> Iterator[tuple[Route, dict[str, Any], str]]:
    """Every verb of every resource and part that discovery announces, with its description and its group version."""
    documents = app._discovery
    for path in documents.paths():
        parts = path.split("/")
        if parts[0] == "api" and len(parts) == 2:
            group, version = "", parts[1]
        elif len(parts) == 3:
            group, version = parts[1], parts[2]
        else:
            continue
        for resource in json.loads(documents.resource_list(group, version) or b"{}")["resources"]:
            name, _, part = resource["name"].partition("/")
            full = f"{name}.{group}" if group else name
            verbs = resource["verbs"] or ["get"]
            for verb in verbs:
                route = Route("api", verb, f"{full}/{part}" if part else full)
                yield route, resource, f"{group}/{version}" if group else version

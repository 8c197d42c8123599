"""The pipelines API on a real port, over a real database and real RBAC, with a bearer table instead of the gateway."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount

from headrace.api import _wire
from headrace.api.identity import User, component, service_account
from headrace.api.meta import ObjectMeta
from headrace.api.rbac import ClusterRole, ClusterRoleBinding, PolicyRule, RoleBinding, RoleRef, Subject
from headrace.components.pipelines import migrations
from headrace.components.pipelines.api.access import Access
from headrace.components.pipelines.api.app import build_apps
from headrace.components.pipelines.api.fetch import Packages, is_public
from headrace.components.pipelines.api.objects import Objects
from headrace.components.pipelines.api.requests import Services
from headrace.components.pipelines.component import PATHS, V1_PATHS, objects
from headrace.components.pipelines.controller.resources import forget
from headrace.components.pipelines.store.catalog import Catalog
from headrace.components.pipelines.store.lineage import Lineage
from headrace.components.pipelines.store.metrics import Metrics
from headrace.components.pipelines.store.recurring import RecurringRuns
from headrace.components.pipelines.store.repository import RunRepository
from headrace.components.pipelines.types.resources import PipelineObject, PipelineVersionObject
from headrace.machinery.clock import SystemClock
from headrace.machinery.serve import Server
from headrace.machinery.settings import DEFAULT_NAMESPACE, Settings
from headrace.machinery.sql import Database
from headrace.node.logs import NodeLogs
from headrace.testing import embedded_cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from headrace.testing.cluster import EmbeddedCluster

HOME, OTHER = DEFAULT_NAMESPACE, "other-team"
USERS = {
    "editor": service_account(HOME, "default-editor"),
    "viewer": service_account(HOME, "default-viewer"),
    "other": service_account(OTHER, "default-editor"),
    "person": User("user@example.com", groups=("system:authenticated",)),
    "nobody": User("nobody@example.com", groups=("system:authenticated",)),
}
"""Bearer tokens. `person` owns HOME; `editor` and `viewer` are its service accounts; `other` belongs elsewhere."""

SPEC: dict[str, Any] = {
    "pipelineInfo": {"name": "greet"},
    "schemaVersion": "2.1.0",
    "sdkVersion": "kfp-2.16.1",
    "root": {
        "inputDefinitions": {
            "parameters": {
                "who": {"parameterType": "STRING"},
                "times": {"parameterType": "NUMBER_INTEGER", "defaultValue": 1},
            }
        },
        "dag": {
            "tasks": {
                "say": {
                    "taskInfo": {"name": "say"},
                    "componentRef": {"name": "comp-say"},
                    "cachingOptions": {},
                    "inputs": {"parameters": {"who": {"componentInputParameter": "who"}}},
                }
            }
        },
    },
    "components": {
        "comp-say": {
            "executorLabel": "exec-say",
            "inputDefinitions": {"parameters": {"who": {"parameterType": "STRING"}}},
            "outputDefinitions": {"parameters": {"Output": {"parameterType": "STRING"}}},
        }
    },
    "deploymentSpec": {
        "executors": {"exec-say": {"container": {"image": "python:3.11-slim", "command": ["echo"], "args": ["hi"]}}}
    },
}


@dataclass
class Api:
    """The running API and what stands behind it."""

    url: str
    catalog: Catalog
    runs: RunRepository
    recurring: RecurringRuns
    database: Database
    session: aiohttp.ClientSession
    cluster: EmbeddedCluster
    changes: list[Any] = field(default_factory=list)
    app: Any = None
    """The application of v2beta1, as pages call it."""
    pod_logs: Path = Path()
    """Where the node keeps what pods said."""

    async def call(
        self, method: str, path: str, body: Any = None, *, user: str = "editor", prefix: str = PATHS[0], **more: Any
    ) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {user}"} if user else {}
        if body is not None:
            more["json"] = body
        async with self.session.request(method, f"{self.url}{prefix}{path}", headers=headers, **more) as response:
            assert response.content_type == "application/json"
            return response.status, await response.json()

    async def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        status, answer = await self.call(method, path, body, **more)
        assert status == 200, answer
        return answer

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, int, str]:
        """HTTP status, google.rpc code and message of an error; its shape is checked here, for every test."""
        status, answer = await self.call(method, path, body, **more)
        assert set(answer) == {"error", "code", "message", "details"}
        assert answer["error"] == answer["message"]
        assert answer["details"] == [
            {
                "@type": "type.googleapis.com/google.rpc.Status",
                "code": answer["code"],
                "message": answer["message"],
            }
        ]
        return status, answer["code"], answer["message"]

    async def start_run(self, *, user: str = "editor", **more: Any) -> Any:
        given = {"display_name": "a run", "pipeline_spec": SPEC, "runtime_config": {"parameters": {"who": "world"}}}
        return await self.ok("POST", "/runs", given | more, user=user)


class BearerTable:
    """What the gateway does: 401 without a known token, the user in the scope with one."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        token = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
        if token not in USERS:
            await JSONResponse({"error": "no token", "code": 16, "message": "no token"}, 401)(scope, receive, send)
            return
        scope["state"] = {**(scope.get("state") or {}), "user": USERS[token]}
        await self._app(scope, receive, send)


def _binding(name: str, namespace: str, role: str, *users: User) -> RoleBinding:
    return RoleBinding(
        metadata=ObjectMeta(name=name, namespace=namespace),
        role_ref=RoleRef(kind="ClusterRole", name=role),
        subjects=[Subject(kind="User", name=u.name, api_group="rbac.authorization.k8s.io") for u in users],
    )


@contextlib.asynccontextmanager
async def serve(
    database_url: str, s3: str = "http://127.0.0.1:1", allowed: Callable[[str], bool] | None = None
) -> AsyncIterator[Api]:
    kinds = (PipelineObject, PipelineVersionObject)
    async with embedded_cluster(kinds, namespaces=("kubeflow", HOME, OTHER)) as cluster:
        for role in objects(cluster.settings):
            await cluster.client.apply(_wire.convert(ClusterRole, role))
        edit, view = "kubeflow-pipelines-edit", "kubeflow-pipelines-view"
        await cluster.client.apply(_binding("edit", HOME, edit, USERS["editor"], USERS["person"]))
        await cluster.client.apply(_binding("view", HOME, view, USERS["viewer"]))
        await cluster.client.apply(_binding("edit", OTHER, edit, USERS["other"]))
        me = component("pipelines")
        reviews = PolicyRule(verbs=["create"], api_groups=["authorization.k8s.io"], resources=["subjectaccessreviews"])
        await cluster.client.apply(ClusterRole(metadata=ObjectMeta(name="reviewer"), rules=[reviews]))
        await cluster.client.apply(
            ClusterRoleBinding(
                metadata=ObjectMeta(name="reviewer"),
                role_ref=RoleRef(kind="ClusterRole", name="reviewer"),
                subjects=[Subject(kind="User", name=me.name)],
            )
        )
        database = Database(database_url)
        await database.open(migrations.upgrade)
        clock = SystemClock()
        catalog, runs = Catalog(database, clock), RunRepository(database, clock)
        recurring = RecurringRuns(database, clock, runs)
        home = tempfile.TemporaryDirectory()
        node = Settings(home=Path(home.name))
        store = Objects(cluster.client, clock, s3)
        packages = Packages(store, allowed or is_public)
        app, old = build_apps(
            Services(
                catalog=catalog,
                runs=runs,
                recurring=recurring,
                access=Access(cluster.client_for(me)),
                objects=store,
                metrics=Metrics(database),
                lineage=Lineage(database, clock),
                packages=packages,
                forget=partial(forget, cluster.client),
                logs=NodeLogs(node, clock, lambda _key: None, lambda _uid, _name: None),
            )
        )
        outer = Starlette(routes=[*(Mount(p, app) for p in PATHS), *(Mount(p, old) for p in V1_PATHS)])
        server = Server(BearerTable(outer), "127.0.0.1", 0)
        await server.start()
        async with aiohttp.ClientSession() as session:
            api = Api(f"http://127.0.0.1:{server.address[1]}", catalog, runs, recurring, database, session, cluster)
            api.app, api.pod_logs = app, node.logs / "pods"
            runs.subscribe(api.changes.append)
            try:
                yield api
            finally:
                await server.stop()
                await database.close()
                home.cleanup()

"""The component as the platform builds it: two mounts, a service, and runs that become pods, also after a restart."""

from __future__ import annotations

import contextlib

import pytest
from pipelines_harness import HOME, SPEC

from headrace.api import _wire
from headrace.api.core import Pod, ServiceAccount
from headrace.api.identity import ADMIN, component
from headrace.api.meta import ObjectMeta
from headrace.api.rbac import ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject
from headrace.components.pipelines.component import COMPONENT
from headrace.machinery.clock import SystemClock
from headrace.machinery.component import Context
from headrace.machinery.settings import Settings
from headrace.testing import embedded_cluster, eventually

RULES = [
    PolicyRule(
        verbs=["get", "list", "watch", "create", "update", "patch", "delete"],
        api_groups=[""],
        resources=["pods", "events", "secrets", "configmaps", "persistentvolumeclaims", "serviceaccounts"],
    ),
    PolicyRule(verbs=["list"], api_groups=[""], resources=["nodes"]),
    PolicyRule(verbs=["create"], api_groups=["authorization.k8s.io"], resources=["subjectaccessreviews"]),
]
"""What the component needs to be allowed."""


@pytest.fixture
async def cluster(tmp_path):
    async with embedded_cluster(settings=Settings(home=tmp_path)) as running:
        (tmp_path / "state").mkdir()
        await running.client.apply(ServiceAccount(metadata=ObjectMeta(name="default-editor", namespace=HOME)))
        await running.client.apply(ClusterRole(metadata=ObjectMeta(name="component"), rules=RULES))
        await running.client.apply(
            ClusterRoleBinding(
                metadata=ObjectMeta(name="component"),
                role_ref=RoleRef(kind="ClusterRole", name="component"),
                subjects=[Subject(kind="User", name=component("pipelines").name)],
            )
        )
        yield running


@contextlib.asynccontextmanager
async def started(cluster):
    """The component, as `platform` starts it."""
    context = Context(
        COMPONENT.name, cluster.settings, cluster.client_for(component("pipelines")), SystemClock(), None, None
    )
    parts = COMPONENT.build(context)
    await parts.start()
    try:
        yield parts
    finally:
        await parts.stop()


async def call(app, method: str, path: str, body: object = None) -> tuple[int, dict]:
    """One request into the mounted app, as an administrator."""
    sent: list[dict] = []
    raw = b"" if body is None else _wire.encode(body)

    async def receive() -> dict:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": f"/apis/v2beta1{path}",
        "root_path": "/apis/v2beta1",
        "query_string": f"namespace={HOME}".encode(),
        "headers": [],
        "state": {"user": ADMIN},
    }
    await app(scope, receive, send)
    return sent[0]["status"], _wire.decode_any(b"".join(m.get("body", b"") for m in sent))


async def test_a_run_becomes_a_pod_and_goes_on_after_a_restart(cluster):
    body = {"display_name": "r", "pipeline_spec": SPEC, "runtime_config": {"parameters": {"who": "x"}}}
    async with started(cluster) as parts:
        paths = ["/apis/v2beta1", "/pipeline/apis/v2beta1", "/apis/v1beta1", "/pipeline/apis/v1beta1"]
        assert [m.path for m in parts.mounts] == paths
        assert [(s.name, s.namespace, s.port) for s in parts.services] == [("ml-pipeline", "kubeflow", 8888)]
        app = parts.mounts[0].app
        status, run = await call(app, "POST", "/runs", body)
        assert status == 200, run

        async def pods() -> list[Pod]:
            return (await cluster.client.list(Pod, HOME)).items

        async def has_one() -> bool:
            return len(await pods()) == 1

        await eventually(has_one)
        pod = (await pods())[0]
        assert pod.spec.service_account_name == "default-editor"
    async with started(cluster) as parts:
        status, again = await call(parts.mounts[1].app, "GET", f"/runs/{run['run_id']}")
        assert (status, again["state"]) == (200, "RUNNING")
        names = [task["display_name"] for task in again["run_details"]["task_details"]]
        assert "say" in names
        assert [p.metadata.uid for p in await pods()] == [pod.metadata.uid]

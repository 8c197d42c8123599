"""Ephemeral containers and shared processes: looking into a pod that runs."""

from __future__ import annotations

import pytest

from headrace.api.core import Pod
from headrace.api.errors import Invalid
from headrace.api.identity import ADMIN
from headrace.client.base import PatchType
from headrace.testing import eventually

from .conftest import shell

pytestmark = pytest.mark.node


async def add(node, pod, **container):
    body = {"spec": {"ephemeralContainers": [{"image": "busybox", **container}]}}
    await node.cluster.registry.patch(
        ADMIN,
        Pod.INFO,
        pod,
        body,
        "default",
        patch_type=PatchType.STRATEGIC,
        subresource="ephemeralcontainers",
    )


async def state_of(node, pod, container, kind):
    async def there():
        found = await node.pod(pod)
        held = [s for s in found.status.ephemeral_container_statuses if s.name == container]
        assert held, found.status
        value = getattr(held[0].state, kind)
        assert value is not None, held
        return value

    return await eventually(there, timeout=30)


async def test_a_debugger_sees_the_processes_of_its_target(node):
    await node.run("web", shell("while :; do sleep 0.1; done; : the-target"))
    await node.phase("web", "Running", timeout=30)
    see = "tr '\\0' ' ' < /proc/1/cmdline; echo; hostname"
    await add(node, "web", name="debugger", command=["sh", "-c", see], targetContainerName="main")
    ended = await state_of(node, "web", "debugger", "terminated")
    assert (ended.exit_code, ended.reason) == (0, "Completed")
    log = await node.log("web", "debugger")
    assert "the-target" in log
    assert log.splitlines()[-1] == "web"
    assert (await node.pod("web")).status.phase == "Running"
    # A second one beside it, which outlives the first and ends with the pod.
    await add(node, "web", name="second", command=["sh", "-c", "test ! -e /proc/2 && sleep 1000"])
    await state_of(node, "web", "second", "running")
    session = await node.agent.streams.exec(await node.pod("web"), "second", ("echo", "hi"), stdin=False, tty=False)
    assert await session.read(1) == b"hi\n"
    await session.close()
    await node.client.delete(Pod, "web", "default", grace_period_seconds=1)
    await node.gone("web", timeout=30)


async def test_a_debugger_survives_a_restart_of_the_control_plane(node):
    await node.run("web", shell("sleep 1000"))
    await node.phase("web", "Running", timeout=30)
    await add(node, "web", name="debugger", command=["sleep", "1000"], targetContainerName="main")
    first = await state_of(node, "web", "debugger", "running")
    await node.down()
    await node.up()
    again = await state_of(node, "web", "debugger", "running")
    assert again.started_at == first.started_at
    await add(node, "web", name="late", command=["sh", "-c", "exit 3"])
    assert (await state_of(node, "web", "late", "terminated")).exit_code == 3


async def test_what_an_ephemeral_container_may_be(node):
    await node.run("web", shell("sleep 1000"))
    await node.phase("web", "Running", timeout=30)
    await add(node, "web", name="one", command=["true"])
    for fields, why in (
        ({"name": "main"}, "Duplicate value"),
        ({"name": "x", "ports": [{"containerPort": 1}]}, "cannot be set for an Ephemeral Container"),
        ({"name": "x", "targetContainerName": "nobody"}, "targetContainerName"),
        ({"name": "one", "command": ["false"]}, "may not be changed"),
    ):
        with pytest.raises(Invalid, match=why):
            await add(node, "web", **fields)
    with pytest.raises(Invalid, match="may not be removed"):
        await node.cluster.registry.patch(
            ADMIN, Pod.INFO, "web", {"spec": {"ephemeralContainers": []}}, "default", subresource="ephemeralcontainers"
        )
    body = {"spec": {"ephemeralContainers": [{"name": "x", "image": "busybox"}]}}
    with pytest.raises(Invalid, match="pod updates may not change fields"):
        await node.client.patch(Pod, "web", body, "default")


async def test_containers_of_a_pod_may_share_their_processes(node):
    look = "until grep -q long-nam[e] /proc/[0-9]*/cmdline 2>/dev/null; do sleep 0.05; done; cat /proc/1/comm"
    await node.run(
        "shared",
        shell("sleep 1000; : long-name", "main"),
        shell(look, "side"),
        share_process_namespace=True,
    )

    async def done():
        found = await node.pod("shared")
        held = {s.name: s.state for s in found.status.container_statuses}
        assert "side" in held, found.status
        assert held["side"].terminated is not None, held
        assert held["main"].running is not None, held
        return True

    await eventually(done, timeout=30)
    assert await node.log("shared", "side") == "pause\n"

"""Pods of images as they are, which podman runs. They are made here; nothing is fetched."""

from __future__ import annotations

import os
import shutil

import pytest

from headrace.api.core import (
    Capabilities,
    ConfigMap,
    ConfigMapVolumeSource,
    Container,
    EnvVar,
    ExecAction,
    Probe,
    SecurityContext,
    Volume,
    VolumeMount,
)
from headrace.api.meta import ObjectMeta
from headrace.node.runtime.engines import Engines, EngineUnavailable
from headrace.testing import eventually

from ..runtime import realimage  # noqa: TID252

pytestmark = pytest.mark.node

ASK = """
import socket, time
while True:
    try:
        print(socket.create_connection(("127.0.0.1", 8077)).recv(99).decode().strip())
        break
    except OSError:
        time.sleep(0.1)
"""


@pytest.fixture
async def image(node):
    """An image that nothing in the catalogue stands for."""
    if shutil.which("busybox") is None:
        pytest.skip("busybox is not installed: there is nothing to make an image of")
    try:
        await Engines().ready()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    name = f"localhost/headrace-test-real-{os.getpid()}:1"
    lines = ('ENTRYPOINT ["/bin/echo", "entry"]', 'CMD ["command"]', "ENV COLOR=blue", "WORKDIR /etc")
    yield realimage.busybox(name, *lines)
    realimage.remove(name)


async def waits(node, name):
    """What the pod's container waits with, as soon as it is about its image."""

    async def told():
        for found in (await node.pod(name)).status.container_statuses:
            if found.state.waiting is not None and "Pull" in found.state.waiting.reason:
                return found.state.waiting
        return None

    return await eventually(told, timeout=60)


async def test_a_pod_of_an_image_as_it_is(node, image):
    await node.client.create(
        ConfigMap(metadata=ObjectMeta(name="words", namespace="default"), data={"w": "from a map"})
    )
    script = (
        'pwd; echo "$COLOR $OWN"; cat /words/w; echo; id -u; hostname; ls /; touch /etc/new && echo writable; exit 4'
    )
    mapped = VolumeMount(name="words", mount_path="/words")
    volumes = [Volume(name="words", config_map=ConfigMapVolumeSource(name="words"))]
    own = [EnvVar(name="OWN", value="a\tb, * =$(NOT)")]
    mine = Container(name="main", image=image, command=["sh", "-c", script], env=own, volume_mounts=[mapped])
    await node.run("plain", Container(name="main", image=image))
    await node.run("args", Container(name="main", image=image, args=["more"]))
    launcher = Container(name="main", image=image, command=["python3", "/opt/headrace/kfp_launcher"])
    await node.run("mine", mine, volumes=volumes)
    await node.run("launcher", launcher)
    await node.phase("plain", "Succeeded", timeout=60)
    await node.phase("args", "Succeeded", timeout=60)
    await node.phase("launcher", "Failed", timeout=60)
    assert "The step has no usable task document" in await node.log("launcher"), (
        "the platform's own interpreter is there"
    )
    found = await node.phase("mine", "Failed", timeout=60)
    assert await node.log("plain") == "entry command\n"
    assert await node.log("args") == "entry more\n"
    said = (await node.log("mine")).splitlines()
    assert said[:6] == ["/etc", "blue a\tb, * =$(NOT)", "from a map", "0", "mine", "bin"]
    assert "home" not in said, "the machine's files are not there"
    assert said[-1] == "writable"
    ended = found.status.container_statuses[0].state.terminated
    assert (ended.exit_code, ended.reason) == (4, "Error")
    assert found.status.container_statuses[0].image_id.startswith(f"{image}@sha256:")


async def test_both_kinds_share_a_pod_and_its_network(node, image):
    """A sidecar of the machine's own asks the other one by the pod's address; its probe runs in it."""
    serve = "while :; do echo hello from podman | nc -l -p 8077; done"
    probe = Probe(exec=ExecAction(command=["sh", "-c", "test $COLOR$HOME = blue/etc && test $(id -u) = 1234"]))
    secured = SecurityContext(run_as_user=1234, read_only_root_filesystem=True, capabilities=Capabilities(drop=["ALL"]))
    server = Container(
        name="main", image=image, command=["sh", "-c", serve], readiness_probe=probe, security_context=secured
    )
    asker = Container(name="asker", image="python:3", args=["python", "-c", ASK])
    await node.run("both", server, asker)

    async def ended():
        found = (await node.pod("both")).status.container_statuses
        return any(s.name == "asker" and s.state.terminated is not None for s in found)

    await eventually(ended, timeout=60)
    assert await node.log("both", "asker") == "hello from podman\n"

    async def ready():
        return {s.name: s.ready for s in (await node.pod("both")).status.container_statuses}["main"]

    await eventually(ready, timeout=60)


@pytest.mark.parametrize(
    ("policy", "reason", "message"),
    [
        ("Never", "ErrImageNeverPull", "is not present with pull policy of Never"),
        ("IfNotPresent", "ErrImagePull", "headrace image build"),
    ],
)
async def test_an_image_that_is_nowhere(node, image, policy, reason, message):
    nowhere = "registry.invalid/none:1"
    await node.run("none", Container(name="main", image=nowhere, image_pull_policy=policy))
    waiting = await waits(node, "none")
    assert waiting.reason == reason
    assert message in waiting.message
    assert policy == "Never" or "registry.invalid" in waiting.message.partition("Podman could not pull it")[2]


async def test_what_a_container_of_podmans_cannot_have(node, image):
    await node.run("shared", Container(name="main", image=image), share_process_namespace=True)
    found = await node.phase("shared", "Failed", timeout=60)
    assert "leave shareProcessNamespace out" in found.status.container_statuses[0].state.terminated.message


async def test_it_outlives_the_control_plane(node, image):
    await node.run("stays", Container(name="main", image=image, command=["sh", "-c", "sleep 3; echo over; exit 0"]))
    await node.phase("stays", "Running", timeout=60)
    await node.down()
    await node.up()
    found = await node.phase("stays", "Succeeded", timeout=60)
    assert found.status.container_statuses[0].restart_count == 0
    assert await node.log("stays") == "over\n"

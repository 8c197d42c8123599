"""Pods that ask for GPUs, on a machine whose driver's files are in a folder."""

from __future__ import annotations

import pytest

from headrace.api.core import Node, Pod, ResourceRequirements
from headrace.testing import eventually

from ..test_devices import machine  # noqa: TID252
from .conftest import shell

pytestmark = pytest.mark.node

ONE = ResourceRequirements(limits={"nvidia.com/gpu": "1"}, requests={"nvidia.com/gpu": "1"})


async def test_gpus_are_offered_and_given(node, tmp_path):
    node.root = machine(tmp_path / "machine", 1)
    await node.down()
    await node.up()

    async def offered():
        found = await node.client.get(Node, node.settings.node_name)
        return found.status.allocatable.get("nvidia.com/gpu") == "1"

    await eventually(offered, timeout=30)
    labels = (await node.client.get(Node, node.settings.node_name)).metadata.labels
    assert labels["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    look = "cat /dev/nvidia0; echo; ls /dev | grep -c nvidia; echo $NVIDIA_VISIBLE_DEVICES"
    await node.run("one", shell(f"{look}; sleep 1000", resources=ONE), termination_grace_period_seconds=0)
    await node.phase("one", "Running", timeout=30)

    async def said():
        return await node.log("one") == "device 0\n3\nGPU-0\n"

    await eventually(said, timeout=30)
    await node.run("none", shell("ls /dev | grep nvidia; echo [$CUDA_VISIBLE_DEVICES]"))
    await node.phase("none", "Succeeded", timeout=30)
    assert await node.log("none") == "[]\n"
    await node.run("two", shell("cat /dev/nvidia0", resources=ONE))

    async def waits():
        found = await node.pod("two")
        return any(c.message.endswith("1 Insufficient nvidia.com/gpu.") for c in found.status.conditions)

    await eventually(waits, timeout=30)
    await node.client.delete(Pod, "one", "default", grace_period_seconds=0)
    await node.phase("two", "Succeeded", timeout=30)

"""The machine starts anew: nothing of what ran is left but what was on disk."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from headrace.api.core import EmptyDirVolumeSource, Volume, VolumeMount
from headrace.node.runtime.records import BOOT
from headrace.testing import eventually

from .conftest import shell

pytestmark = pytest.mark.node


def cut_power(node) -> None:
    """Every process of the node ends at once, and the kernel that comes up has another boot id."""
    run = node.settings.run
    records = [run / "spawner.json", run / "network.json", *run.glob("pods/*/containers/*/state.json")]
    for record in records:
        found = json.loads(record.read_text())
        if not (record.parent / "exit.json").exists():
            # A container ends with its supervisor, which then writes nothing more.
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.get("supervisor", found["pid"]), signal.SIGKILL)
    (run / BOOT).write_text("another boot\n")


async def test_after_a_reboot(node):
    mount = VolumeMount(name="kept", mount_path="/kept")
    kept = Volume(name="kept", empty_dir=EmptyDirVolumeSource())
    prepare = shell("echo prepared >> /kept/init", name="prepare", volume_mounts=[mount])
    work = "echo started >> /kept/log; cat /kept/log; sleep 1000"
    for policy in ("Always", "OnFailure", "Never"):
        await node.run(
            policy.lower(),
            shell(work, volume_mounts=[mount]),
            init_containers=[prepare],
            restart_policy=policy,
            volumes=[kept],
        )
        await node.condition(policy.lower(), "Ready")
    await node.run("done", shell("true"))
    await node.phase("done", "Succeeded", timeout=30)
    before = {name: await node.pod(name) for name in ("always", "onfailure", "never")}
    await node.manager.stop()
    await node.agent.stop()
    await node.runtime.stop(pods=False)
    cut_power(node)
    await node.up()
    failed = await node.phase("never", "Failed", timeout=30)
    ended = failed.status.container_statuses[0].state.terminated
    assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")
    for name in ("always", "onfailure"):

        async def again(name=name):
            found = await node.pod(name)
            (held,) = found.status.container_statuses
            return held.restart_count == 1 and held.ready and found.status.phase == "Running"

        await eventually(again, timeout=30)
        found = await node.pod(name)
        assert found.status.pod_ip == before[name].status.pod_ip
        assert found.status.container_statuses[0].last_state.terminated.reason == "ContainerStatusUnknown"

        async def wrote(name=name):
            return await node.log(name) == "started\nstarted\n"

        await eventually(wrote, timeout=30)
        uid = found.metadata.uid
        prepared = await node.runtime.exec(uid, "main-1", ("cat", "/kept/init"))
        assert prepared.output == b"prepared\nprepared\n", "a new sandbox is prepared again"
    assert (await node.pod("done")).status.phase == "Succeeded"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    assert (node.settings.run / BOOT).read_text().strip() == boot.strip()

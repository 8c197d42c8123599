"""Real pods through the agent: starting, restarting, ending."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING, Any

import pytest
from tests.node.agent.conftest import shell

from headrace.api import _wire
from headrace.api.core import (
    ConfigMap,
    ConfigMapVolumeSource,
    ContainerStatus,
    EmptyDirVolumeSource,
    ExecAction,
    HostPathVolumeSource,
    HTTPGetAction,
    Lifecycle,
    LifecycleHandler,
    Pod,
    PodReadinessGate,
    Probe,
    ResourceRequirements,
    TCPSocketAction,
    Volume,
    VolumeMount,
)
from headrace.api.errors import BadRequest, NotFound, ServiceUnavailable
from headrace.api.meta import ObjectMeta
from headrace.node.runtime.base import PodSandbox
from headrace.testing import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.node.agent.conftest import Node

    from headrace.client.base import Client

pytestmark = pytest.mark.node

SHARED = Volume(name="shared", empty_dir=EmptyDirVolumeSource())
MOUNT = VolumeMount(name="shared", mount_path="/shared")


async def first(node: Node, name: str) -> ContainerStatus:
    """The status of a pod's first container, once there is one."""

    async def there() -> list[ContainerStatus]:
        return (await node.pod(name)).status.container_statuses

    return (await eventually(there))[0]


def conditions(pod: Pod) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in pod.status.conditions}


async def test_success(node: Node) -> None:
    await node.run("one", shell("echo hello; echo bye >&2"))
    pod = await node.phase("one", "Succeeded")
    assert pod.spec.node_name == "headrace"
    held = pod.status.container_statuses[0]
    assert held.state.terminated is not None
    assert (held.state.terminated.exit_code, held.state.terminated.reason) == (0, "Completed")
    assert await node.log("one") == "hello\nbye\n"
    assert pod.status.pod_ip.startswith("10.199.")
    assert pod.status.qos_class == "BestEffort"
    assert conditions(pod) == {
        "PodReadyToStartContainers": ("False", ""),
        "Initialized": ("True", "PodCompleted"),
        "Ready": ("False", "PodCompleted"),
        "ContainersReady": ("False", "PodCompleted"),
        "PodScheduled": ("True", ""),
    }

    async def told() -> bool:
        return set(await node.events("one")) == {
            "Scheduled: Successfully assigned default/one to headrace",
            'Pulled: Container image "busybox" already present on machine',
            "Created: Created container: main",
            "Started: Started container main",
        }

    await eventually(told)
    await eventually(lambda: not node.agent._host.folders.all())


async def test_failure(node: Node) -> None:
    await node.run("one", shell("exit 3"), shell("sleep 60", "other"), termination_grace_period_seconds=1)
    await node.client.delete(Pod, "one", "default", grace_period_seconds=0)
    await node.gone("one")
    await node.run("two", shell("echo why; exit 3", termination_message_policy="FallbackToLogsOnError"))
    pod = await node.phase("two", "Failed")
    ended = pod.status.container_statuses[0].state.terminated
    assert ended is not None
    assert (ended.exit_code, ended.reason, ended.message) == (3, "Error", "why\n")
    assert conditions(pod)["Ready"] == ("False", "PodFailed")


async def test_termination_message(node: Node) -> None:
    await node.run("one", shell("echo -n done > /dev/termination-log"))
    ended = (await node.phase("one", "Succeeded")).status.container_statuses[0].state.terminated
    assert ended is not None
    assert ended.message == "done"


async def test_on_failure_starts_again_until_success(node: Node) -> None:
    script = "echo x >> /shared/count; test $(wc -l < /shared/count) -ge 2"
    await node.run("one", shell(script, volume_mounts=[MOUNT]), volumes=[SHARED], restart_policy="OnFailure")
    pod = await node.phase("one", "Succeeded")
    held = pod.status.container_statuses[0]
    assert held.restart_count == 1
    assert held.last_state.terminated is not None
    assert held.last_state.terminated.exit_code == 1


async def test_a_crashing_container_backs_off(node: Node) -> None:
    await node.run("one", shell("echo again; exit 1"), restart_policy="Always")

    async def waits() -> Pod | None:
        waiting = (await first(node, "one")).state.waiting
        return await node.pod("one") if waiting is not None and waiting.reason == "CrashLoopBackOff" else None

    pod = await eventually(waits)
    assert pod is not None
    held = pod.status.container_statuses[0]
    assert held.state.waiting is not None
    where = f"pod=one_default({pod.metadata.uid})"
    assert held.state.waiting.message == f"back-off 10s restarting failed container=main {where}"
    assert held.restart_count == 1
    assert pod.status.phase == "Running"
    assert await node.log("one") == "again\n"
    assert await node.log("one", previous=True) == "again\n"


async def test_init_containers_run_in_order(node: Node) -> None:
    await node.run(
        "one",
        shell("cat /shared/order", volume_mounts=[MOUNT]),
        init_containers=[
            shell("sleep 0.1; echo first > /shared/order", "a", volume_mounts=[MOUNT]),
            shell("echo second >> /shared/order", "b", volume_mounts=[MOUNT]),
        ],
        volumes=[SHARED],
    )
    pod = await node.phase("one", "Succeeded")
    assert await node.log("one") == "first\nsecond\n"
    assert [s.ready for s in pod.status.init_container_statuses] == [True, True]


async def test_a_failed_init_container_fails_the_pod(node: Node) -> None:
    await node.run("one", shell("true"), init_containers=[shell("exit 4", "a"), shell("true", "b")])
    pod = await node.phase("one", "Failed")
    assert conditions(pod)["Initialized"] == ("False", "ContainersNotInitialized")
    waiting = pod.status.container_statuses[0].state.waiting
    assert waiting is not None
    assert waiting.reason == "PodInitializing"


async def test_a_sidecar_runs_beside_and_ends_after(node: Node) -> None:
    script = "trap 'echo bye >> /shared/said; exit 0' TERM; echo hi >> /shared/said; while :; do sleep 0.05; done"
    await node.run(
        "one",
        shell("sleep 0.1; cat /shared/said", volume_mounts=[MOUNT]),
        init_containers=[shell(script, "side", volume_mounts=[MOUNT], restart_policy="Always")],
        volumes=[SHARED],
    )
    pod = await node.phase("one", "Succeeded")
    assert await node.log("one") == "hi\n"
    ended = pod.status.init_container_statuses[0].state.terminated
    assert ended is not None
    assert ended.exit_code == 0


async def test_no_such_program(node: Node) -> None:
    await node.run("one", shell("true").__class__(name="main", image="busybox", command=["no-such-program"]))
    ended = (await node.phase("one", "Failed")).status.container_statuses[0].state.terminated
    assert ended is not None
    assert (ended.exit_code, ended.reason) == (128, "StartError")
    assert "no-such-program" in ended.message


async def test_an_unknown_image_waits_and_says_what_to_do(node: Node) -> None:
    await node.run("one", shell("true", image="acme/model:1"))

    async def waits() -> str:
        waiting = (await first(node, "one")).state.waiting
        return waiting.message if waiting is not None and waiting.reason == "ErrImagePull" else ""

    assert "headrace.dev/requirements" in await eventually(waits)
    pod = await node.pod("one")
    assert pod.status.phase == "Pending"
    with pytest.raises(BadRequest, match="waiting to start: trying and failing to pull image"):
        await node.log("one")
    main = {**_wire.to_builtins(pod.spec.containers[0]), "image": "busybox"}
    await node.client.patch(Pod, "one", {"spec": {"containers": [main]}}, "default")
    await node.phase("one", "Succeeded")


async def test_deletion_is_graceful(node: Node) -> None:
    script = "trap 'sleep 0.2; echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    pod = await node.run("one", shell(script), termination_grace_period_seconds=20)
    await node.condition("one", "Ready")
    await eventually(lambda: node.log("one"))
    await node.client.delete(Pod, "one", "default")
    assert (await node.pod("one")).metadata.deletion_timestamp is not None
    await node.gone("one")
    assert await node.log("one", uid=pod.metadata.uid) == "up\nbye\n"
    with pytest.raises(NotFound):
        await node.log("one")


async def test_the_grace_period_ends(node: Node) -> None:
    await node.run("one", shell("trap '' TERM; sleep 600"), termination_grace_period_seconds=1)
    await node.condition("one", "Ready")
    await node.client.delete(Pod, "one", "default")
    await asyncio.sleep(0.3)
    assert await node.pod("one")
    await node.gone("one")


async def test_a_shorter_grace_period_overrides(node: Node) -> None:
    await node.run("one", shell("trap '' TERM; sleep 600"), termination_grace_period_seconds=600)
    await node.condition("one", "Ready")
    await node.client.delete(Pod, "one", "default")
    await node.client.delete(Pod, "one", "default", grace_period_seconds=0)
    await node.gone("one")
    await eventually(lambda: not node.agent._workers)
    assert await node.runtime.containers() == []


async def test_hooks(node: Node) -> None:
    hooks = Lifecycle(
        post_start=LifecycleHandler(exec=ExecAction(command=["sh", "-c", "echo started > /shared/hook"])),
        pre_stop=LifecycleHandler(exec=ExecAction(command=["sh", "-c", "echo stopping >> /shared/hook"])),
    )
    script = "trap 'cat /shared/hook; exit 0' TERM; while :; do sleep 0.05; done"
    main = shell(script, volume_mounts=[MOUNT], lifecycle=hooks)
    pod = await node.run("one", main, volumes=[SHARED])
    await node.condition("one", "Ready")
    await asyncio.sleep(0.1)
    await node.client.delete(Pod, "one", "default")
    await node.gone("one")
    assert await node.log("one", uid=pod.metadata.uid) == "started\nstopping\n"


async def test_active_deadline(node: Node) -> None:
    await node.run("one", shell("sleep 600"), active_deadline_seconds=1, termination_grace_period_seconds=0)
    pod = await node.phase("one", "Failed")
    assert pod.status.reason == "DeadlineExceeded"
    ended = pod.status.container_statuses[0].state.terminated
    assert ended is not None
    assert ended.exit_code == 137


async def test_readiness(node: Node) -> None:
    probe = Probe(http_get=HTTPGetAction(port=8080, path="/ready"), period_seconds=1, failure_threshold=1)
    script = "mkdir -p /tmp/w; cd /tmp/w; (sleep 0.3; touch ready) & exec python3 -m http.server 8080"
    await node.run("one", shell(script, image="python:3", readiness_probe=probe))
    pod = await node.phase("one", "Running")
    assert conditions(pod)["Ready"] == ("False", "ContainersNotReady")
    await node.condition("one", "Ready")
    pod = await node.pod("one")
    uid = pod.metadata.uid
    await node.runtime.exec(uid, "main-0", ("rm", "/tmp/w/ready"))
    pod = await node.condition("one", "Ready", "False")
    assert pod.status.phase == "Running"

    async def told() -> bool:
        said = await node.events("one")
        return any(
            e.startswith("Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 404") for e in said
        )

    await eventually(told)


async def test_liveness_restarts(node: Node) -> None:
    probe = Probe(exec=ExecAction(command=["test", "-e", "/shared/alive"]), period_seconds=1, failure_threshold=1)
    probe.initial_delay_seconds = 1
    once = "touch /shared/second; sleep 1.2; rm /shared/alive; sleep 600"
    script = f"touch /shared/alive; test -e /shared/second && sleep 600; {once}"
    await node.run(
        "one",
        shell(script, volume_mounts=[MOUNT], liveness_probe=probe),
        volumes=[SHARED],
        restart_policy="Always",
        termination_grace_period_seconds=0,
    )

    async def again() -> bool:
        held = await first(node, "one")
        return held.restart_count == 1 and held.ready

    await eventually(again, timeout=60)


async def test_startup_probe_holds_readiness_back(node: Node) -> None:
    probe = Probe(tcp_socket=TCPSocketAction(port=9999), period_seconds=1, failure_threshold=1)
    await node.run("one", shell("sleep 600", startup_probe=probe), termination_grace_period_seconds=0)
    pod = await node.phase("one", "Running")
    assert pod.status.container_statuses[0].started is False
    pod = await node.phase("one", "Failed")
    ended = pod.status.container_statuses[0].state.terminated
    assert ended is not None
    assert ended.exit_code == 137


async def test_readiness_gates(node: Node) -> None:
    await node.run("one", shell("sleep 600"), readiness_gates=[PodReadinessGate(condition_type="example.com/open")])
    await node.condition("one", "ContainersReady")
    assert conditions(await node.pod("one"))["Ready"] == ("False", "ReadinessGatesNotReady")
    pod = await node.pod("one")
    opened = [*_wire.to_builtins(pod.status.conditions), {"type": "example.com/open", "status": "True"}]
    await node.client.patch(Pod, "one", {"status": {"conditions": opened}}, "default", subresource="status")
    pod = await node.condition("one", "Ready")
    assert conditions(pod)["example.com/open"] == ("True", "")


async def test_no_room_then_room(node: Node) -> None:
    import os

    cpus = len(os.sched_getaffinity(0))
    most = ResourceRequirements(requests={"cpu": str(cpus)})
    await node.run("first", shell("sleep 600", resources=most), termination_grace_period_seconds=0)
    await node.condition("first", "Ready")
    await node.run("second", shell("true", resources=ResourceRequirements(requests={"cpu": "500m"})))
    pod = await node.condition("second", "PodScheduled", "False")
    condition = next(c for c in pod.status.conditions if c.type == "PodScheduled")
    assert condition.reason == "Unschedulable"
    assert condition.message == "0/1 nodes are available: 1 Insufficient cpu."
    assert pod.spec.node_name == ""
    await node.client.delete(Pod, "first", "default", grace_period_seconds=0)
    await node.phase("second", "Succeeded")


async def test_adoption_restarts_nothing(node: Node) -> None:
    await node.run("runs", shell("echo up; sleep 600"), restart_policy="Always", termination_grace_period_seconds=0)
    await node.run("ends", shell("sleep 1; echo over; exit 5"))
    await node.condition("runs", "Ready")
    before = await node.condition("ends", "Ready")
    await node.down()
    await asyncio.sleep(1.2)
    await node.up()
    pod = await node.phase("ends", "Failed")
    ended = pod.status.container_statuses[0].state.terminated
    assert ended is not None
    assert ended.exit_code == 5
    assert pod.status.container_statuses[0].container_id == before.status.container_statuses[0].container_id
    assert await node.log("ends") == "over\n"
    runs = await node.pod("runs")
    assert runs.status.container_statuses[0].restart_count == 0
    assert conditions(runs)["Ready"] == ("True", "")
    assert await node.log("runs") == "up\n"
    await node.client.delete(Pod, "runs", "default")
    await node.gone("runs")


async def test_a_crash_before_any_write_starts_nothing_twice(node: Node, tmp_path: Path) -> None:
    class Mute:
        """A client whose writes to pods do not arrive."""

        def __init__(self, real: Client) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        async def patch(self, kind: type[Any], *args: Any, **options: Any) -> Any:
            if kind is Pod:
                raise ServiceUnavailable("not now")
            return await self._real.patch(kind, *args, **options)

    real = node.client
    await node.down()
    node.client = Mute(real)  # type: ignore[assignment]
    await node.up()
    count = tmp_path / "count"
    count.mkdir()
    volume = Volume(name="count", host_path=HostPathVolumeSource(path=str(count)))
    mount = VolumeMount(name="count", mount_path="/count")
    script = "echo x >> /count/starts; sleep 1"
    await node.run("one", shell(script, volume_mounts=[mount]), volumes=[volume])
    await eventually((count / "starts").exists)
    assert (await node.pod("one")).status.container_statuses == [], "the process did not wait for the API server"
    await node.down()
    node.client = real
    await node.up()
    pod = await node.phase("one", "Succeeded")
    assert (count / "starts").read_text() == "x\n"
    assert pod.spec.node_name == "headrace"
    assert pod.status.container_statuses[0].restart_count == 0


async def test_what_vanished_fails_or_comes_back(node: Node) -> None:
    await node.run("never", shell("sleep 600"))
    await node.run("always", shell("echo up; sleep 600"), restart_policy="Always", termination_grace_period_seconds=0)
    await node.condition("never", "Ready")
    await node.condition("always", "Ready")
    await node.down(pods=True)
    await node.up()
    pod = await node.phase("never", "Failed")
    ended = pod.status.container_statuses[0].state.terminated
    assert ended is not None
    assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")

    async def back() -> bool:
        held = (await node.pod("always")).status.container_statuses[0]
        return held.restart_count == 1 and held.ready

    await eventually(back, timeout=60)


async def test_orphans_are_removed(node: Node) -> None:
    await node.run("one", shell("sleep 600"))
    await node.condition("one", "Ready")
    await node.manager.stop()
    await node.agent.stop()
    await node.client.delete(Pod, "one", "default", grace_period_seconds=0)
    await node.runtime.stop(pods=False)
    await node.up()

    async def none() -> bool:
        return await node.runtime.containers() == []

    await eventually(none, timeout=30)


async def test_a_pod_that_a_crash_left_half_made_or_half_removed_is_removed(node: Node) -> None:
    """Its network and files are there, but no container tells of it."""
    await node.run("one", shell("true"))
    pod = await node.phase("one", "Succeeded")
    await node.manager.stop()
    await node.agent.stop()
    address = str(ipaddress.ip_network(node.settings.pod_cidr)[77])
    await node.runtime.create_pod(PodSandbox("made", "default", "made", "made", address))
    await node.runtime.stop(pods=False)
    half = node.settings.run / "pods" / pod.metadata.uid
    half.mkdir(parents=True, exist_ok=True)
    assert sorted(await node.runtime.pods()) == sorted(["made", pod.metadata.uid])
    await node.up()

    async def none() -> bool:
        return await node.runtime.pods() == []

    await eventually(none, timeout=30)


async def test_following_a_log(node: Node) -> None:
    await node.run("one", shell("for i in 1 2 3; do echo line $i; sleep 0.2; done"))
    await node.condition("one", "Ready")
    seen = await node.log("one", follow=True)
    assert seen == "line 1\nline 2\nline 3\n"
    assert await node.log("one", tail=1) == "line 3\n"
    assert await node.log("one", tail=0) == ""
    assert await node.log("one", limit_bytes=8) == "line 1\nl"
    assert await node.log("one", since_seconds=3600) == seen
    assert await node.log("one", since_seconds=0) == ""
    stamped = await node.log("one", timestamps=True, tail=1)
    assert stamped.endswith("Z line 3\n")
    with pytest.raises(BadRequest, match="container nobody is not valid for pod one"):
        await node.log("one", "nobody")
    with pytest.raises(BadRequest, match='previous terminated container "main" in pod "one" not found'):
        await node.log("one", previous=True)
    assert await node.log("one", "") == seen


async def test_a_missing_volume_source_waits(node: Node) -> None:
    wanted = Volume(name="shared", config_map=ConfigMapVolumeSource(name="late"))
    await node.run("one", shell("cat /shared/key", volume_mounts=[MOUNT]), volumes=[wanted])

    async def told() -> bool:
        said = await node.events("one")
        return 'FailedMount: MountVolume.SetUp failed for volume "shared" : configmap "late" not found' in said

    await eventually(told)
    assert (await node.pod("one")).status.phase == "Pending"
    await node.client.create(ConfigMap(metadata=ObjectMeta(name="late", namespace="default"), data={"key": "value"}))
    await node.phase("one", "Succeeded")
    assert await node.log("one") == "value"

"""Who has to leave: under pressure, for a taint, for a more important pod."""

from __future__ import annotations

import os
import time

import pytest

from headrace.api.core import (
    Container,
    EmptyDirVolumeSource,
    Event,
    Node,
    Pod,
    PodSpec,
    ResourceRequirements,
    Volume,
    VolumeMount,
)
from headrace.api.meta import ObjectMeta
from headrace.api.scheduling import PriorityClass
from headrace.node.agent import departures, preemption, pressure, scheduling
from headrace.node.agent.evictor import used_bytes
from headrace.node.agent.pressure import DISK, MEMORY, Amount, BadThreshold, Candidate, Crossing
from headrace.testing import eventually

from .conftest import shell

MI = 1 << 20
PLENTY = {MEMORY.name: Amount(8 << 30, 16 << 30), DISK.name: Amount(500 << 30, 1000 << 30)}


def test_thresholds_are_written_as_the_kubelets():
    text = "memory.available<100Mi, nodefs.available<5%"
    wanted = pressure.thresholds(text)
    seen = {MEMORY.name: Amount(90 * MI, 1000 * MI), DISK.name: Amount(60 * MI, 1000 * MI)}
    assert pressure.crossings(wanted, seen) == [Crossing(MEMORY, 100 * MI, 90 * MI)]
    seen = {DISK.name: Amount(40 * MI, 1000 * MI)}
    assert pressure.crossings(wanted, seen) == [Crossing(DISK, 50 * MI, 40 * MI)]
    assert pressure.thresholds("") == {}
    for bad in ("memory<1", "memory.available>1Mi", "memory.available<lots"):
        with pytest.raises(BadThreshold):
            pressure.thresholds(bad)


def candidate(name, used, request="0", priority=0):
    resources = ResourceRequirements(requests={"memory": request, "ephemeral-storage": request})
    spec = PodSpec(containers=[Container(name="main", resources=resources)], priority=priority)
    return Candidate(Pod(metadata=ObjectMeta(name=name), spec=spec), used, (("main", used),))


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        ([], None),
        ([candidate("small", MI), candidate("large", 9 * MI)], "large"),
        ([candidate("within", 9 * MI, "10Mi"), candidate("beyond", 2 * MI, "1Mi")], "beyond"),
        ([candidate("important", 9 * MI, priority=10), candidate("common", MI)], "common"),
        ([candidate("critical", 9 * MI, priority=2_000_001_000)], None),
        ([candidate("a", 5 * MI, "4Mi"), candidate("b", 9 * MI, "7Mi")], "b"),
    ],
)
def test_who_goes_first(candidates, expected):
    found = pressure.first_to_go(MEMORY, candidates)
    assert (found.pod.metadata.name if found is not None else None) == expected


def test_the_message_is_the_kubelets():
    found = pressure.message(Crossing(MEMORY, 100 * MI, 90 * MI), candidate("a", 5 * MI, "1Mi"))
    assert found == (
        "The node was low on resource: memory. Threshold quantity: 102400Ki, available: 92160Ki. "
        "Container main was using 5120Ki, request is 1024Ki, has larger consumption of memory. "
    )


def test_limits_of_the_disk():
    limited = Pod(
        spec=PodSpec(
            containers=[Container(name="c", resources=ResourceRequirements(limits={"ephemeral-storage": "1Mi"}))],
            volumes=[Volume(name="v", empty_dir=EmptyDirVolumeSource(size_limit="1Ki"))],
        )
    )
    assert pressure.storage_problem(limited, {"v": 1024}, 1 << 20) == ""
    told = 'Usage of EmptyDir volume "v" exceeds the limit "1Ki". '
    assert pressure.storage_problem(limited, {"v": 1025}, 1025) == told
    told = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "
    assert pressure.storage_problem(limited, {}, (1 << 20) + 1) == told
    assert pressure.storage_problem(Pod(spec=PodSpec(containers=[Container(name="c")])), {}, 1 << 40) == ""


def test_used_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("/usr")
    assert 100_000 <= used_bytes(tmp_path) < 200_000
    assert used_bytes(tmp_path / "missing") == 0


def tolerating(*tolerations):
    return Pod(spec=PodSpec(tolerations=list(tolerations)))


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (tolerating(), 0.0),
        (tolerating({"key": "other", "operator": "Exists"}), 0.0),
        (tolerating({"key": "k", "operator": "Exists"}), None),
        (tolerating({"key": "k", "operator": "Exists", "tolerationSeconds": 60}), 60.0),
        (tolerating({"key": "k", "operator": "Exists", "tolerationSeconds": -5}), 0.0),
        (
            tolerating(
                {"operator": "Exists", "tolerationSeconds": 90}, {"key": "k", "value": "v", "tolerationSeconds": 30}
            ),
            30.0,
        ),
    ],
)
def test_how_long_a_pod_stays(pod, expected):
    taints = [{"key": "k", "value": "v", "effect": "NoExecute"}, {"key": "else", "effect": "NoSchedule"}]
    assert departures.stays_for(pod, taints) == expected
    assert departures.stays_for(pod, taints[1:]) is None


def asking(name, cpu, priority=0, **spec):
    resources = ResourceRequirements(requests={"cpu": cpu})
    return Pod(
        metadata=ObjectMeta(name=name, uid=name),
        spec=PodSpec(containers=[Container(name="c", resources=resources)], priority=priority, **spec),
    )


NODE = Node()
NODE.status.allocatable = {"cpu": "4", "pods": "10"}


@pytest.mark.parametrize(
    ("pod", "others", "expected"),
    [
        (asking("p", "2", 10), [asking("a", "1"), asking("b", "2"), asking("c", "1")], ["b"]),
        (asking("p", "2", 10), [asking("a", "3", 5), asking("b", "1")], ["a"]),
        (asking("p", "1", 10), [asking("a", "2", 5), asking("b", "2", 1)], ["b"]),
        (asking("p", "4", 10), [asking("a", "2", 20), asking("b", "1")], []),
        (asking("p", "2", 0), [asking("a", "3")], []),
        (asking("p", "2", 10, preemption_policy="Never"), [asking("a", "3")], []),
        (asking("p", "2", 10, node_selector={"x": "y"}), [asking("a", "3")], []),
    ],
)
def test_who_makes_room(pod, others, expected):
    assert [v.metadata.name for v in preemption.victims(pod, NODE, others)] == expected


def test_memory_pressure_keeps_only_those_away_that_ask_for_nothing():
    node = Node()
    node.status.allocatable = {"memory": "1Gi", "pods": "10"}
    node.spec.taints = [{"key": MEMORY.taint, "effect": "NoSchedule"}]
    modest = Pod(spec=PodSpec(containers=[Container(name="c")]))
    found = scheduling.reasons(modest, node, [])
    assert found == ["node(s) had untolerated taint {node.kubernetes.io/memory-pressure: }"]
    asks = ResourceRequirements(requests={"memory": "1Mi"})
    assert scheduling.reasons(Pod(spec=PodSpec(containers=[Container(name="c", resources=asks)])), node, []) == []


# With real pods.


async def evicted(node, name):
    found = await node.phase(name, "Failed", timeout=30)
    assert found.status.reason == "Evicted"
    (condition,) = [c for c in found.status.conditions if c.type == "DisruptionTarget"]
    assert condition.reason == "TerminationByKubelet"
    return found


def now_has(node, **amounts):
    node.agent.evictor.look_at = lambda _settings: {**PLENTY, **amounts}


@pytest.mark.node
async def test_memory_pressure(node):
    now_has(node)
    await node.run("modest", shell("sleep 1000"))
    await node.run("greedy", shell("x=$(head -c 30000000 /dev/zero | tr '\\0' x); echo ready; sleep 1000"))
    await node.phase("modest", "Running", timeout=30)

    async def ready():
        return "ready" in await node.log("greedy")

    await node.phase("greedy", "Running", timeout=30)
    await eventually(ready, timeout=30)
    now_has(node, **{MEMORY.name: Amount(50 * MI, 16 << 30)})
    await node.agent.evictor.look()
    found = await evicted(node, "greedy")
    assert found.status.message.startswith("The node was low on resource: memory. Threshold quantity: 102400Ki, ")
    assert "Container main was using " in found.status.message
    assert (await node.pod("modest")).status.phase == "Running"

    async def told():
        stored = await node.client.get(Node, node.settings.node_name)
        (condition,) = [c for c in stored.status.conditions if c.type == "MemoryPressure"]
        return condition.status == "True" and [t["key"] for t in stored.spec.taints] == [MEMORY.taint]

    await eventually(told, timeout=30)
    await node.run("late", shell("true"))
    sentence = "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/memory-pressure: }."

    async def waits():
        return any(c.message == sentence for c in (await node.pod("late")).status.conditions)

    await eventually(waits, timeout=30)

    async def noted():
        events = await node.events("greedy")
        return any(text.startswith("Evicted: The node was low on resource: memory") for text in events)

    await eventually(noted, timeout=30)


@pytest.mark.node
async def test_a_volume_beyond_its_size(node):
    now_has(node)
    mount = VolumeMount(name="cache", mount_path="/cache")
    volume = Volume(name="cache", empty_dir=EmptyDirVolumeSource(size_limit="1Mi"))
    script = "head -c 100000 /dev/zero > /cache/a; echo ready; until [ -e /cache/go ]; do sleep 0.05; done; "
    script += "head -c 3000000 /dev/zero > /cache/b; echo done; sleep 1000"
    await node.run("one", shell(script, volume_mounts=[mount]), volumes=[volume])
    await node.phase("one", "Running", timeout=30)

    async def said(word):
        return word in await node.log("one")

    await eventually(lambda: said("ready"), timeout=30)
    await node.agent.evictor.look()
    assert (await node.pod("one")).status.phase == "Running"
    uid = (await node.pod("one")).metadata.uid
    await node.runtime.exec(uid, "main-0", ("touch", "/cache/go"))
    await eventually(lambda: said("done"), timeout=30)
    await node.agent.evictor.look()
    found = await evicted(node, "one")
    assert found.status.message == 'Usage of EmptyDir volume "cache" exceeds the limit "1Mi". '


@pytest.mark.node
async def test_environments_that_nobody_uses_go_before_a_pod_has_to(node, tmp_path):
    now_has(node)
    await node.run("stays", shell("sleep 1000", image="python:3"))
    await node.phase("stays", "Running", timeout=60)
    environments = node.settings.cache / "environments"
    (used,) = (path.name for path in environments.iterdir() if not path.name.startswith("."))
    long_ago = time.time() - 3600
    for name, at in (("old", long_ago), ("new", time.time())):
        made = environments / name
        made.mkdir()
        (made / "requirements.txt").write_text("")
        (made / "headrace.json").write_text('{"packages": [], "size": 1, "python": "/usr/bin/python3"}')
        os.utime(made / "headrace.json", (at, at))
    os.utime(environments / used / "headrace.json", (long_ago, long_ago))
    kept = node.settings.cache / "uv" / "archive-v0" / "x"
    kept.mkdir(parents=True, exist_ok=True)

    now_has(node, **{DISK.name: Amount(50 * MI, 1000 << 30)})
    await node.agent.evictor.look()
    assert sorted(path.name for path in environments.iterdir()) == sorted([used, "new"])
    assert not kept.exists()
    assert (await node.pod("stays")).status.phase == "Running"

    async def told():
        events = (await node.client.list(Event, "default")).items
        return any(e.reason == "ImageGCUnderDiskPressure" and "removed 1 environments" in e.message for e in events)

    await eventually(told, timeout=30)
    await node.agent.evictor.look()
    await evicted(node, "stays")


@pytest.mark.node
async def test_a_taint_sends_pods_away(node):
    now_has(node)
    key = {"key": "k", "operator": "Exists"}
    await node.run("stays", shell("sleep 1000"), tolerations=[key])
    await node.run("later", shell("sleep 1000"), tolerations=[{**key, "tolerationSeconds": 3600}])
    await node.run("leaves", shell("sleep 1000"), termination_grace_period_seconds=0)
    for name in ("stays", "later", "leaves"):
        await node.phase(name, "Running", timeout=30)
    taint = {"key": "k", "value": "v", "effect": "NoExecute"}
    await node.client.patch(Node, node.settings.node_name, {"spec": {"taints": [taint]}})
    await node.gone("leaves", timeout=30)
    for name in ("stays", "later"):
        found = await node.pod(name)
        assert (found.status.phase, found.metadata.deletion_timestamp) == ("Running", None)

    async def told():
        return "TaintManagerEviction: Marking for deletion Pod default/leaves" in await node.events("leaves")

    await eventually(told, timeout=30)


@pytest.mark.node
async def test_a_more_important_pod_takes_the_room(node):
    now_has(node)
    await node.client.create(PriorityClass(metadata=ObjectMeta(name="high"), value=1000))
    stored = await node.client.get(Node, node.settings.node_name)
    all_of_it = ResourceRequirements(requests={"cpu": stored.status.allocatable["cpu"]})
    await node.run("low", shell("sleep 1000", resources=all_of_it), termination_grace_period_seconds=0)
    await node.phase("low", "Running", timeout=30)
    await node.run("equal", shell("sleep 1000", resources=all_of_it))
    await node.run("high", shell("sleep 1000", resources=all_of_it), priority_class_name="high", priority=1000)
    await node.phase("high", "Running", timeout=30)
    await node.gone("low", timeout=30)
    assert (await node.pod("equal")).status.phase == "Pending"

    async def told():
        return any(text.startswith("Preempted: ") for text in await node.events("low"))

    await eventually(told, timeout=30)

"""The agent's decisions, by tables."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from headrace.api.core import (
    Container,
    ContainerPort,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Node,
    NodeSpec,
    NodeStatus,
    Pod,
    PodCondition,
    PodReadinessGate,
    PodSpec,
    PodStatus,
    ResourceFieldSelector,
    ResourceRequirements,
    Service,
    ServicePort,
    ServiceSpec,
)
from headrace.api.meta import ObjectMeta
from headrace.node import downward
from headrace.node.agent import command, scheduling, status, variables
from headrace.node.agent.addresses import AddressPool, NoAddress
from headrace.node.agent.restarts import Backoff, restarts
from headrace.node.expansion import expand
from headrace.node.images.service import Environment

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
EARLIER = NOW - dt.timedelta(minutes=1)
WAITING = ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))
RUNNING = ContainerState(running=ContainerStateRunning(started_at=EARLIER))


def ended(code: int = 0) -> ContainerState:
    return ContainerState(terminated=ContainerStateTerminated(exit_code=code))


def held(
    name: str, state: ContainerState, *, last: ContainerState | None = None, ready: bool = False
) -> ContainerStatus:
    return ContainerStatus(name=name, image="i", state=state, last_state=last or ContainerState(), ready=ready)


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [
        ("Never", 0, False),
        ("Never", 1, False),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Always", 0, True),
        ("Always", 1, True),
    ],
)
def test_restarts(policy: str, code: int, expected: bool) -> None:
    assert restarts(policy, code) is expected


def test_backoff_doubles_to_five_minutes_and_is_forgotten() -> None:
    backoff, now, delays = Backoff(), 1000.0, []
    for _ in range(8):
        delay = backoff.after_exit(now, now)
        delays.append(delay)
        now += delay
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]
    assert backoff.after_exit(now + 250, now + 300) == 250, "time since the exit counts"
    assert backoff.after_exit(now + 2000, now + 2000) == 0, "ten quiet minutes forget"
    failures = Backoff()
    assert [failures.after_failure(t) for t in range(7)] == [10, 20, 40, 80, 160, 300, 300]


@pytest.mark.parametrize(
    ("policy", "main", "expected"),
    [
        ("Never", [held("a", WAITING)], "Pending"),
        ("Never", [held("a", RUNNING), held("b", WAITING)], "Pending"),
        ("Never", [held("a", RUNNING), held("b", ended(1))], "Running"),
        ("Never", [held("a", ended()), held("b", ended())], "Succeeded"),
        ("Never", [held("a", ended()), held("b", ended(1))], "Failed"),
        ("OnFailure", [held("a", ended()), held("b", ended())], "Succeeded"),
        ("OnFailure", [held("a", ended()), held("b", ended(1))], "Running"),
        ("OnFailure", [held("a", WAITING, last=ended(1))], "Running"),
        ("Always", [held("a", ended())], "Running"),
        ("Always", [held("a", WAITING, last=ended(1))], "Running"),
    ],
)
def test_phase(policy: str, main: list[ContainerStatus], expected: str) -> None:
    pod = Pod(spec=PodSpec(containers=[Container(name=s.name) for s in main], restart_policy=policy))
    assert status.phase(pod, status.Facts(init=[], main=main)) == expected


@pytest.mark.parametrize(
    ("policy", "init", "main", "expected"),
    [
        ("Never", [held("i", WAITING)], [held("a", WAITING)], "Pending"),
        ("Never", [held("i", RUNNING)], [held("a", WAITING)], "Pending"),
        ("Never", [held("i", ended(1))], [held("a", WAITING)], "Failed"),
        ("Always", [held("i", ended(1))], [held("a", WAITING)], "Pending"),
        ("OnFailure", [held("i", WAITING, last=ended(1))], [held("a", WAITING)], "Pending"),
        ("Never", [held("i", ended())], [held("a", WAITING)], "Pending"),
        ("Never", [held("i", ended())], [held("a", RUNNING)], "Running"),
        ("Never", [held("i", ended())], [held("a", ended())], "Succeeded"),
    ],
)
def test_phase_with_init_containers(
    policy: str, init: list[ContainerStatus], main: list[ContainerStatus], expected: str
) -> None:
    spec = PodSpec(containers=[Container(name="a")], init_containers=[Container(name="i")], restart_policy=policy)
    assert status.phase(Pod(spec=spec), status.Facts(init=init, main=main)) == expected


def test_phase_at_the_end() -> None:
    side = Container(name="s", restart_policy="Always")
    pod = Pod(spec=PodSpec(containers=[Container(name="a")], init_containers=[side], restart_policy="Never"))
    facts = status.Facts(init=[held("s", RUNNING)], main=[held("a", ended())])
    assert status.phase(pod, facts) == "Running", "a sidecar runs still"
    facts.init = [held("s", ended(143))]
    assert status.phase(pod, facts) == "Succeeded"
    always = Pod(spec=PodSpec(containers=[Container(name="a")]))
    over = status.Facts(init=[], main=[held("a", ended(143))], ended=True)
    assert status.phase(always, over) == "Failed", "nothing starts again in a pod that is being deleted"
    late = status.Facts(
        init=[], main=[held("a", RUNNING)], verdict=status.Verdict("Failed", "DeadlineExceeded", "late")
    )
    assert status.phase(always, late) == "Running"
    late.main = [held("a", ended(137))]
    assert status.phase(always, late) == "Failed"
    always.status.phase = "Succeeded"
    assert status.phase(always, late) == "Succeeded", "an end is final"


def test_conditions_keep_their_times_and_those_of_others() -> None:
    before = PodStatus(
        conditions=[
            PodCondition(type="PodScheduled", status="True", last_transition_time=EARLIER),
            PodCondition(type="Ready", status="False", last_transition_time=EARLIER),
            PodCondition(type="example.com/x", status="True", last_transition_time=EARLIER),
        ]
    )
    pod = Pod(spec=PodSpec(containers=[Container(name="a")]), status=before)
    facts = status.Facts(
        init=[],
        main=[held("a", RUNNING, ready=True)],
        scheduled=True,
        sandboxed=True,
        ip="10.0.0.9",
        start_time=EARLIER,
    )
    result = status.pod_status(pod, facts, NOW)
    found = {c.type: (c.status, c.last_transition_time) for c in result.conditions}
    assert found == {
        "example.com/x": ("True", EARLIER),
        "PodReadyToStartContainers": ("True", NOW),
        "Initialized": ("True", NOW),
        "Ready": ("True", NOW),
        "ContainersReady": ("True", NOW),
        "PodScheduled": ("True", EARLIER),
    }
    assert (result.phase, result.pod_ip, result.qos_class) == ("Running", "10.0.0.9", "BestEffort")
    facts.main = [held("a", RUNNING)]
    ready = next(c for c in status.pod_status(pod, facts, NOW).conditions if c.type == "Ready")
    assert (ready.reason, ready.message) == ("ContainersNotReady", "containers with unready status: [a]")
    assert ready.last_transition_time == EARLIER


def test_an_unscheduled_pod_says_why() -> None:
    pod = Pod(spec=PodSpec(containers=[Container(name="a")]))
    facts = status.Facts(
        init=[], main=[held("a", WAITING)], unscheduled_reason="Unschedulable", unscheduled_message="no room"
    )
    found = status.pod_status(pod, facts, NOW)
    assert [(c.type, c.status, c.reason, c.message) for c in found.conditions] == [
        ("PodScheduled", "False", "Unschedulable", "no room")
    ]
    assert found.phase == "Pending"
    assert found.container_statuses == found.init_container_statuses == [], "kubectl would show ContainerCreating"


def test_readiness_gates() -> None:
    spec = PodSpec(containers=[Container(name="a")], readiness_gates=[PodReadinessGate(condition_type="g")])
    facts = status.Facts(init=[], main=[held("a", RUNNING, ready=True)], scheduled=True)
    pod = Pod(spec=spec)

    def ready() -> PodCondition:
        return next(c for c in status.pod_status(pod, facts, NOW).conditions if c.type == "Ready")

    assert ready().message == 'corresponding condition of pod readiness gate "g" does not exist.'
    pod.status.conditions = [PodCondition(type="g", status="False")]
    assert ready().message == 'the status of pod readiness gate "g" is not "True", but False'
    pod.status.conditions = [PodCondition(type="g", status="True")]
    assert ready().status == "True"


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_qos(resources: dict[str, dict[str, str]], expected: str) -> None:
    container = Container(name="a", resources=ResourceRequirements(**resources))
    assert status.qos(PodSpec(containers=[container])) == expected


def asks(**requests: str) -> Container:
    return Container(name="c", resources=ResourceRequirements(requests=requests))


def sidecar(**requests: str) -> Container:
    return Container(name="s", restart_policy="Always", resources=ResourceRequirements(requests=requests))


@pytest.mark.parametrize(
    ("init", "main", "cpu"),
    [
        ([], [asks(cpu="1"), asks(cpu="500m")], "1.5"),
        ([asks(cpu="2")], [asks(cpu="1")], "2"),
        ([asks(cpu="1")], [asks(cpu="2")], "2"),
        ([sidecar(cpu="1"), asks(cpu="2")], [asks(cpu="1")], "3"),
        ([asks(cpu="2"), sidecar(cpu="1")], [asks(cpu="2")], "3"),
    ],
)
def test_requests(init: list[Container], main: list[Container], cpu: str) -> None:
    found = scheduling.requests(Pod(spec=PodSpec(containers=main, init_containers=init)))
    assert found == {"cpu": Decimal(cpu), "pods": Decimal(1)}


def test_limits_stand_for_requests() -> None:
    container = Container(name="c", resources=ResourceRequirements(limits={"cpu": "1", "memory": "1Ki"}))
    found = scheduling.requests(Pod(spec=PodSpec(containers=[container])))
    assert found == {"cpu": Decimal(1), "memory": Decimal(1024), "pods": Decimal(1)}


NODE = Node(
    metadata=ObjectMeta(name="n", labels={"kubernetes.io/os": "linux", "size": "7"}),
    status=NodeStatus(allocatable={"cpu": "2", "memory": "1Gi", "pods": "2"}),
)


def affinity(*expressions: dict[str, object]) -> dict[str, object]:
    terms = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


@pytest.mark.parametrize(
    ("spec", "used", "expected"),
    [
        (PodSpec(containers=[asks(cpu="2")]), [], []),
        (PodSpec(containers=[asks(cpu="2")]), [asks(cpu="1")], ["Insufficient cpu"]),
        (PodSpec(containers=[asks(cpu="3", memory="2Gi")]), [], ["Insufficient cpu", "Insufficient memory"]),
        (PodSpec(containers=[asks(**{"nvidia.com/gpu": "1"})]), [], ["Insufficient nvidia.com/gpu"]),
        (PodSpec(containers=[asks()]), [asks(), asks()], ["Too many pods"]),
        (PodSpec(node_selector={"kubernetes.io/os": "linux"}), [], []),
        (PodSpec(node_selector={"disk": "ssd"}), [], ["node(s) didn't match Pod's node affinity/selector"]),
        (PodSpec(affinity=affinity({"key": "size", "operator": "Gt", "values": ["5"]})), [], []),
        (PodSpec(affinity=affinity({"key": "size", "operator": "Exists"})), [], []),
        (
            PodSpec(affinity=affinity({"key": "size", "operator": "NotIn", "values": ["7"]})),
            [],
            ["node(s) didn't match Pod's node affinity/selector"],
        ),
        (PodSpec(host_pid=True), [], ["node(s) did not support hostPID"]),
        (
            PodSpec(containers=[Container(name="c", ports=[ContainerPort(container_port=80, host_port=80)])]),
            [Container(name="d", ports=[ContainerPort(container_port=8080, host_port=80)])],
            ["node(s) didn't have free ports for the requested pod ports"],
        ),
        (
            PodSpec(containers=[Container(name="c", ports=[ContainerPort(container_port=80, host_port=80)])]),
            [Container(name="d", ports=[ContainerPort(container_port=80, host_port=80, protocol="UDP")])],
            [],
        ),
        (PodSpec(containers=[Container(name="c", ports=[ContainerPort(container_port=80)])]), [], []),
    ],
)
def test_room(spec: PodSpec, used: list[Container], expected: list[str]) -> None:
    others = [Pod(spec=PodSpec(containers=[container])) for container in used]
    assert scheduling.reasons(Pod(spec=spec), NODE, others) == expected


def labelled(app: str, namespace: str = "ns", **rules: object) -> Pod:
    required = {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms} for kind, terms in rules.items()}
    spec = PodSpec(affinity=required or None)
    return Pod(metadata=ObjectMeta(name=app, namespace=namespace, labels={"app": app}), spec=spec)


def term(app: str, **fields: object) -> dict[str, object]:
    selector = {"matchLabels": {"app": app}}
    return {"labelSelector": selector, "topologyKey": "kubernetes.io/hostname", **fields}


APART, EXISTING = (
    "node(s) didn't match pod anti-affinity rules",
    "node(s) didn't satisfy existing pods anti-affinity rules",
)


@pytest.mark.parametrize(
    ("pod", "others", "expected"),
    [
        (labelled("a", podAffinity=[term("b")]), [labelled("b")], []),
        (labelled("a", podAffinity=[term("b")]), [], ["node(s) didn't match pod affinity rules"]),
        (labelled("a", podAffinity=[term("a")]), [], []),
        (labelled("a", podAntiAffinity=[term("b")]), [labelled("c")], []),
        (labelled("a", podAntiAffinity=[term("b")]), [labelled("b")], [APART]),
        (labelled("a", podAntiAffinity=[term("b")]), [labelled("b", "other")], []),
        (labelled("a", podAntiAffinity=[term("b", namespaces=["other"])]), [labelled("b", "other")], [APART]),
        (labelled("a", podAntiAffinity=[term("b", namespaceSelector={})]), [labelled("b", "other")], [APART]),
        (labelled("a"), [labelled("b", podAntiAffinity=[term("a")])], [EXISTING]),
    ],
)
def test_affinity_between_pods(pod: Pod, others: list[Pod], expected: list[str]) -> None:
    assert scheduling.reasons(pod, NODE, others) == expected


@pytest.mark.parametrize(
    ("taint", "tolerations", "runs"),
    [
        ({"key": "a", "value": "b", "effect": "NoSchedule"}, [], False),
        ({"key": "a", "value": "b", "effect": "NoExecute"}, [], False),
        ({"key": "a", "value": "b", "effect": "PreferNoSchedule"}, [], True),
        (
            {"key": "a", "value": "b", "effect": "NoSchedule"},
            [{"key": "a", "value": "b", "effect": "NoSchedule"}],
            True,
        ),
        ({"key": "a", "value": "b", "effect": "NoSchedule"}, [{"key": "a", "value": "b", "operator": "Equal"}], True),
        ({"key": "a", "value": "b", "effect": "NoSchedule"}, [{"key": "a", "value": "c"}], False),
        ({"key": "a", "value": "b", "effect": "NoSchedule"}, [{"key": "a", "operator": "Exists"}], True),
        (
            {"key": "a", "value": "b", "effect": "NoSchedule"},
            [{"key": "a", "value": "b", "effect": "NoExecute"}],
            False,
        ),
        ({"key": "a", "value": "b", "effect": "NoSchedule"}, [{"operator": "Exists"}], True),
        ({"key": "a", "effect": "NoSchedule"}, [{"key": "a"}], True),
    ],
)
def test_taints(taint: dict[str, str], tolerations: list[dict[str, object]], runs: bool) -> None:
    node = Node(metadata=NODE.metadata, spec=NodeSpec(taints=[taint]), status=NODE.status)
    found = scheduling.reasons(Pod(spec=PodSpec(tolerations=tolerations)), node, [])
    assert found == ([] if runs else [f"node(s) had untolerated taint {{a: {taint.get('value', '')}}}"])


def test_a_cordon_is_tolerated_like_a_taint() -> None:
    closed = Node(metadata=NODE.metadata, spec=NodeSpec(unschedulable=True), status=NODE.status)
    tolerant = PodSpec(tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}])
    assert scheduling.reasons(Pod(spec=tolerant), closed, []) == []


def test_the_schedulers_sentence() -> None:
    closed = Node(metadata=NODE.metadata, spec=NodeSpec(unschedulable=True), status=NODE.status)
    found = scheduling.reasons(Pod(spec=PodSpec(containers=[asks(cpu="9")])), closed, [])
    assert scheduling.sentence(found) == "0/1 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "a"),
        ("x$(A)y$(B)", "xay2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$a"),
        ("$(NONE)", "$(NONE)"),
        ("$A ${A} $", "$A ${A} $"),
        ("$()", "$()"),
        ("$(A", "$(A"),
    ],
)
def test_expand(text: str, expected: str) -> None:
    assert expand(text, {"A": "a"}, {"A": "hidden", "B": "2"}) == expected


POD = Pod(
    metadata=ObjectMeta(
        name="p", namespace="ns", uid="u", labels={"app": "x"}, annotations={"k": 'say "hi"\n', "a.b/c": "d"}
    ),
    spec=PodSpec(service_account_name="sa"),
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "p"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u"),
        ("metadata.labels['app']", "x"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['a.b/c']", "d"),
        ("metadata.labels", 'app="x"'),
        ("metadata.annotations", 'a.b/c="d"\nk="say \\"hi\\"\\n"'),
        ("spec.serviceAccountName", "sa"),
        ("spec.nodeName", "node"),
        ("status.podIP", "1.2.3.4"),
        ("status.hostIP", "1.1.1.1"),
    ],
)
def test_fields(path: str, expected: str) -> None:
    assert downward.field(POD, path, pod_ip="1.2.3.4", host_ip="1.1.1.1", node_name="node") == expected


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(downward.UnsupportedField, match=r"unsupported fieldPath: status\.phase"):
        downward.field(POD, "status.phase", pod_ip="", host_ip="", node_name="")


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (ResourceFieldSelector(resource="limits.cpu"), "2"),
        (ResourceFieldSelector(resource="limits.cpu", divisor="1m"), "1500"),
        (ResourceFieldSelector(resource="requests.memory", divisor="1Mi"), "1"),
        (ResourceFieldSelector(resource="limits.memory"), "1024"),
        (ResourceFieldSelector(resource="requests.cpu"), "2"),
    ],
)
def test_resources(selector: ResourceFieldSelector, expected: str) -> None:
    own = ResourceRequirements(limits={"cpu": "1500m"}, requests={"memory": "1Ki"})
    assert downward.resource(selector, Container(name="c", resources=own), {"memory": "1Ki"}) == expected


def test_service_links() -> None:
    def service(namespace: str, name: str, ip: str) -> Service:
        ports = [ServicePort(port=443, name="https"), ServicePort(port=53, protocol="UDP")]
        return Service(
            metadata=ObjectMeta(name=name, namespace=namespace), spec=ServiceSpec(cluster_ip=ip, ports=ports)
        )

    services = [
        service("default", "kubernetes", "10.0.0.1"),
        service("ns", "my-db", "10.0.0.2"),
        service("ns", "headless", "None"),
        service("other", "hidden", "10.0.0.3"),
    ]
    found = variables.service_links("ns", services, all_of_namespace=True)
    assert found["KUBERNETES_SERVICE_HOST"] == "10.0.0.1"
    assert {k: v for k, v in found.items() if k.startswith("MY_DB")} == {
        "MY_DB_SERVICE_HOST": "10.0.0.2",
        "MY_DB_SERVICE_PORT": "443",
        "MY_DB_SERVICE_PORT_HTTPS": "443",
        "MY_DB_PORT": "tcp://10.0.0.2:443",
        "MY_DB_PORT_443_TCP": "tcp://10.0.0.2:443",
        "MY_DB_PORT_443_TCP_PROTO": "tcp",
        "MY_DB_PORT_443_TCP_PORT": "443",
        "MY_DB_PORT_443_TCP_ADDR": "10.0.0.2",
        "MY_DB_PORT_53_UDP": "udp://10.0.0.2:53",
        "MY_DB_PORT_53_UDP_PROTO": "udp",
        "MY_DB_PORT_53_UDP_PORT": "53",
        "MY_DB_PORT_53_UDP_ADDR": "10.0.0.2",
    }
    assert not any(k.startswith(("HEADLESS", "HIDDEN")) for k in found)
    without = variables.service_links("ns", services, all_of_namespace=False)
    assert {k.partition("_")[0] for k in without} == {"KUBERNETES"}


PYTHON = Environment(
    "python:3.11",
    "id",
    python=Path("/env/bin/python3"),
    entrypoint=("python3", "/opt/headrace/server"),
    command=("--default",),
    env={"PYTHON_VERSION": "3.11.7"},
    packages=("numpy",),
)
USERLAND = Environment("busybox", "id", command=("sh",))


@pytest.mark.parametrize(
    ("container", "environment", "expected"),
    [
        (Container(name="c"), PYTHON, ("/env/bin/python3", "/opt/headrace/server", "--default")),
        (Container(name="c", args=["-x"]), PYTHON, ("/env/bin/python3", "/opt/headrace/server", "-x")),
        (Container(name="c", command=["run"]), PYTHON, ("run",)),
        (Container(name="c", command=["run"], args=["$(V)"]), PYTHON, ("run", "v")),
        (Container(name="c", command=["/usr/local/bin/python", "a"]), PYTHON, ("/env/bin/python3", "a")),
        (Container(name="c", command=["python3.11", "a"]), PYTHON, ("/env/bin/python3", "a")),
        (Container(name="c", command=["python3.12", "a"]), PYTHON, ("python3.12", "a")),
        (Container(name="c", command=["/usr/bin/python3", "a"]), PYTHON, ("/usr/bin/python3", "a")),
        (Container(name="c"), USERLAND, ("sh",)),
        (Container(name="c", command=["python3"]), USERLAND, ("python3",)),
    ],
)
def test_argv(container: Container, environment: Environment, expected: tuple[str, ...]) -> None:
    assert command.argv(container, environment, {"V": "v"}) == expected


def test_nothing_to_run() -> None:
    with pytest.raises(command.NoCommand, match="set the command of container c"):
        command.argv(Container(name="c", image="x"), Environment("x", "id"), {})


@pytest.mark.parametrize(
    ("words", "warm"),
    [
        (("/env/bin/python3", "/opt/headrace/kfp_launcher", "a"), True),
        (("/env/bin/python3", "script.py"), False),
        (("/env/bin/python3", "-c", "1"), False),
        (("/env/bin/python3",), False),
        (("sh", "/x"), False),
    ],
)
def test_warm(words: tuple[str, ...], warm: bool) -> None:
    found = command.warm(words, PYTHON, {})
    assert (found is not None) is warm
    if found is not None:
        assert (found.interpreter, found.preload) == ("/env/bin/python3", ("numpy",))
        assert command.warm(words, dataclasses.replace(PYTHON, packages=("pip",)), {}) is None


def test_addresses() -> None:
    pool = AddressPool("10.0.0.0/27")
    first = pool.take()
    assert first == "10.0.0.16"
    pool.release(first)
    assert pool.take() == "10.0.0.17", "a released address is used as late as possible"
    pool.hold("10.0.0.20")
    taken = [pool.take() for _ in range(13)]
    assert taken[0] == "10.0.0.21"
    assert first in taken
    with pytest.raises(NoAddress):
        pool.take()

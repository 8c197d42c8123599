"""What real pods find around them: variables, volumes, users, images."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.node.agent.conftest import shell

from headrace.api.core import (
    ConfigMap,
    ConfigMapVolumeSource,
    Container,
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    EmptyDirVolumeSource,
    EnvFromRef,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    HostPathVolumeSource,
    KeySelector,
    KeyToPath,
    ObjectFieldSelector,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    PersistentVolumeClaimStatus,
    PersistentVolumeClaimVolumeSource,
    PersistentVolumeSpec,
    Pod,
    PodSecurityContext,
    ResourceFieldSelector,
    ResourceRequirements,
    Secret,
    SecretVolumeSource,
    SecurityContext,
    Service,
    ServicePort,
    ServiceSpec,
    Volume,
    VolumeMount,
)
from headrace.api.identity import ADMIN
from headrace.api.meta import ObjectMeta
from headrace.testing import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.node.agent.conftest import Node

pytestmark = pytest.mark.node


def meta(name: str) -> ObjectMeta:
    return ObjectMeta(name=name, namespace="default")


def field(path: str) -> EnvVarSource:
    return EnvVarSource(field_ref=ObjectFieldSelector(field_path=path))


async def settings_objects(node: Node) -> None:
    await node.client.create(ConfigMap(metadata=meta("plain"), data={"A": "a", "B": "b"}))
    await node.client.create(Secret(metadata=meta("hidden"), data={"S": base64.b64encode(b"secret").decode()}))


async def test_variables(node: Node) -> None:
    await settings_objects(node)
    service = Service(
        metadata=meta("web-app"), spec=ServiceSpec(cluster_ip="10.199.128.9", ports=[ServicePort(port=80)])
    )
    await node.client.create(service)
    main = shell(
        "env",
        env_from=[
            EnvFromSource(prefix="P_", config_map_ref=EnvFromRef(name="plain")),
            EnvFromSource(secret_ref=EnvFromRef(name="absent", optional=True)),
        ],
        env=[
            EnvVar(name="NAME", value_from=field("metadata.name")),
            EnvVar(name="IP", value_from=field("status.podIP")),
            EnvVar(name="SECRET", value_from=EnvVarSource(secret_key_ref=KeySelector(name="hidden", key="S"))),
            EnvVar(name="JOINED", value="$(NAME)-$(P_A)-$(NOPE)-$$(NAME)"),
            EnvVar(
                name="CPUS", value_from=EnvVarSource(resource_field_ref=ResourceFieldSelector(resource="limits.cpu"))
            ),
        ],
        resources=ResourceRequirements(limits={"cpu": "1500m"}),
    )
    await node.run("one", main)
    pod = await node.phase("one", "Succeeded")
    found = dict(line.partition("=")[::2] for line in (await node.log("one")).splitlines())
    wanted = {
        "P_A": "a",
        "P_B": "b",
        "NAME": "one",
        "IP": pod.status.pod_ip,
        "SECRET": "secret",
        "JOINED": "one-a-$(NOPE)-$(NAME)",
        "CPUS": "2",
        "HOSTNAME": "one",
        "HOME": "/root",
        "WEB_APP_SERVICE_HOST": "10.199.128.9",
        "WEB_APP_PORT_80_TCP": "tcp://10.199.128.9:80",
        "HTTP_PROXY": f"http://{node.settings.node_ip}:3128",
    }
    assert wanted.items() <= found.items()
    assert ".default" in found["NO_PROXY"].split(",")
    assert "PYTHONPATH" not in found


async def test_a_missing_key_waits_until_it_is_there(node: Node) -> None:
    wanted = EnvVarSource(config_map_key_ref=KeySelector(name="late", key="k"))
    await node.run("one", shell("echo $V", env=[EnvVar(name="V", value_from=wanted)]))

    async def message(of: str) -> bool:
        statuses = (await node.pod("one")).status.container_statuses
        waiting = statuses[0].state.waiting if statuses else None
        return waiting is not None and (waiting.reason, waiting.message) == ("CreateContainerConfigError", of)

    await eventually(lambda: message('configmap "late" not found'))
    await node.client.create(ConfigMap(metadata=meta("late"), data={"other": "x"}))
    await eventually(lambda: message("couldn't find key k in ConfigMap default/late"))
    await node.client.patch(ConfigMap, "late", {"data": {"k": "now"}}, "default")
    await node.phase("one", "Succeeded")
    assert await node.log("one") == "now\n"


async def test_volumes_of_files(node: Node) -> None:
    await settings_objects(node)
    [KeyToPath(key="S", path="deep/s")]
    volumes = [
        Volume(name="plain", config_map=ConfigMapVolumeSource(name="plain")),
        Volume(
            name="hidden",
            secret=SecretVolumeSource(
                secret_name="hidden", items=[KeyToPath(key="S", path="deep/s")], default_mode=0o400
            ),
        ),
        Volume(
            name="self",
            downward_api=DownwardAPIVolumeSource(
                items=[DownwardAPIVolumeFile(path="name", field_ref=ObjectFieldSelector(field_path="metadata.name"))]
            ),
        ),
        Volume(name="none", config_map=ConfigMapVolumeSource(name="absent", optional=True)),
    ]
    script = """
    cat /plain/A /one/b /hidden/deep/s /self/name; echo
    stat -L -c %a /plain/A /hidden/deep/s
    ls /none
    (echo x > /plain/A) 2>/dev/null || echo read-only
    ls /var/run/secrets/kubernetes.io/serviceaccount
    """
    mounts = [
        VolumeMount(name="plain", mount_path="/plain"),
        VolumeMount(name="plain", mount_path="/one/b", sub_path="B"),
        VolumeMount(name="hidden", mount_path="/hidden"),
        VolumeMount(name="self", mount_path="/self"),
        VolumeMount(name="none", mount_path="/none"),
    ]
    await node.run("one", shell(script, volume_mounts=mounts), volumes=volumes)
    await node.phase("one", "Succeeded")
    assert await node.log("one") == "absecretone\n644\n400\nread-only\nca.crt\nnamespace\ntoken\n"


async def test_files_follow_their_objects(node: Node) -> None:
    await settings_objects(node)
    volume = Volume(name="plain", config_map=ConfigMapVolumeSource(name="plain"))
    script = "while ! grep -q new /plain/A; do sleep 0.05; done; cat /plain/A; ls /plain"
    main = shell(script, volume_mounts=[VolumeMount(name="plain", mount_path="/plain")])
    await node.run("one", main, volumes=[volume])
    await node.condition("one", "Ready")
    await node.client.patch(ConfigMap, "plain", {"data": {"A": "new\n", "B": None, "C": "c"}}, "default")
    await node.phase("one", "Succeeded")
    assert await node.log("one") == "new\nA\nC\n"


async def test_directories(node: Node, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "in").write_text("from the host\n")
    volumes = [
        Volume(name="disk", empty_dir=EmptyDirVolumeSource()),
        Volume(name="memory", empty_dir=EmptyDirVolumeSource(medium="Memory", size_limit="1Mi")),
        Volume(name="host", host_path=HostPathVolumeSource(path=str(outside), type="Directory")),
    ]
    mounts = [
        VolumeMount(name="disk", mount_path="/disk"),
        VolumeMount(name="memory", mount_path="/memory"),
        VolumeMount(name="host", mount_path=str(outside)),
        VolumeMount(name="disk", mount_path="/part", sub_path_expr="of-$(HOSTNAME)"),
    ]
    script = f"echo d > /disk/f; echo m > /memory/f; cat {outside}/in; echo out > {outside}/out; echo p > /part/f"
    writer = shell(script, "w", volume_mounts=mounts)
    reader = shell("cat /disk/f /memory/f /disk/of-one/f", volume_mounts=mounts)
    await node.run("one", reader, init_containers=[writer], volumes=volumes)
    await node.phase("one", "Succeeded")
    assert await node.log("one") == "d\nm\np\n"
    assert await node.log("one", "w") == "from the host\n"
    assert (outside / "out").read_text() == "out\n"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"hostPath": {"path": "/etc/passwd", "type": "Directory"}}, "/etc/passwd is not a directory"),
        ({"nfs": {"server": "far", "path": "/"}}, "its source is not supported on this node: use one of emptyDir"),
    ],
)
async def test_a_volume_that_cannot_be(node: Node, source: dict[str, Any], says: str) -> None:
    main = {"name": "main", "image": "busybox", "command": ["true"]}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one"},
        "spec": {"containers": [main], "volumes": [{"name": "v", **source}]},
    }
    await node.cluster.registry.create(ADMIN, Pod.INFO, body, "default")

    async def told() -> bool:
        said = await node.events("one")
        return any(e.startswith('FailedMount: MountVolume.SetUp failed for volume "v" : ') and says in e for e in said)

    async def shown() -> bool:
        pod = await node.pod("one")
        assert pod.status.phase == "Pending"
        waiting = [status.state.waiting for status in pod.status.container_statuses]
        return any(state is not None and says in state.message for state in waiting)

    await eventually(told)
    await eventually(shown)


async def test_sub_paths_do_not_escape(node: Node) -> None:
    volumes = [Volume(name="v", empty_dir=EmptyDirVolumeSource())]
    planted = shell("ln -s /etc /v/link", "plant", volume_mounts=[VolumeMount(name="v", mount_path="/v")])
    main = shell("true", volume_mounts=[VolumeMount(name="v", mount_path="/m", sub_path="link")])
    await node.run("one", main, init_containers=[planted], volumes=volumes)

    async def refused() -> bool:
        statuses = (await node.pod("one")).status.container_statuses
        waiting = statuses[0].state.waiting if statuses else None
        return waiting is not None and waiting.message == "subPath 'link' leads out of its volume"

    await eventually(refused)


async def test_claims(node: Node, tmp_path: Path) -> None:
    volume = Volume(name="data", persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name="data"))
    main = shell("echo kept > /data/f", volume_mounts=[VolumeMount(name="data", mount_path="/data")])
    await node.run("one", main, volumes=[volume])

    async def sentence() -> str:
        found = (await node.pod("one")).status.conditions
        return next((c.message for c in found if c.type == "PodScheduled" and c.status == "False"), "")

    async def says(text: str) -> bool:
        return await sentence() == text

    await eventually(lambda: says('0/1 nodes are available: persistentvolumeclaim "data" not found.'))
    spec = PersistentVolumeClaimSpec(
        access_modes=["ReadWriteOnce"],
        resources=ResourceRequirements(requests={"storage": "1Gi"}),
        volume_name="pv-1",
        storage_class_name="",
    )
    await node.client.create(PersistentVolumeClaim(metadata=meta("data"), spec=spec))
    await eventually(lambda: says("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."))
    await node.client.create(
        PersistentVolume(
            metadata=ObjectMeta(name="pv-1"),
            spec=PersistentVolumeSpec(
                capacity={"storage": "1Gi"},
                access_modes=["ReadWriteOnce"],
                host_path=HostPathVolumeSource(path=str(tmp_path / "pv"), type="DirectoryOrCreate"),
            ),
        )
    )
    bound = PersistentVolumeClaimStatus(phase="Bound")
    await node.client.patch(
        PersistentVolumeClaim, "data", {"status": {"phase": bound.phase}}, "default", subresource="status"
    )
    await node.phase("one", "Succeeded")
    assert (tmp_path / "pv" / "f").read_text() == "kept\n"


async def test_users(node: Node) -> None:
    await node.run("one", shell("id -u; id -g", security_context=SecurityContext(run_as_user=1234, run_as_group=55)))
    await node.phase("one", "Succeeded")
    assert await node.log("one") == "1234\n55\n"
    await settings_objects(node)
    hidden = Volume(name="hidden", secret=SecretVolumeSource(secret_name="hidden", default_mode=0o400))
    mount = VolumeMount(name="hidden", mount_path="/hidden")
    shared = PodSecurityContext(run_as_user=1234, fs_group=77)
    await node.run("group", shell("cat /hidden/S", volume_mounts=[mount]), volumes=[hidden], security_context=shared)
    await node.phase("group", "Succeeded")
    await node.run("two", shell("id -u", security_context=SecurityContext(run_as_non_root=True)))
    await node.phase("two", "Succeeded")
    assert await node.log("two") != "0\n"


async def test_python_has_pip_and_our_programs(node: Node) -> None:
    code = "import sys, pip, os; print(sys.prefix != sys.base_prefix, os.listdir('/opt/headrace') != [])"
    await node.run("one", Container(name="main", image="python:3", command=["/usr/local/bin/python3", "-c", code]))
    pod = await node.phase("one", "Succeeded")
    assert await node.log("one") == "True True\n"
    assert pod.status.container_statuses[0].image_id.startswith("headrace/python@sha256:")

    async def told() -> bool:
        return any(e.startswith('Pulled: Successfully pulled image "python:3" in ') for e in await node.events("one"))

    await eventually(told)


async def test_what_a_pod_installs_stays_in_the_pod(node: Node) -> None:
    where = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    use = "python3 -c 'import mine; print(mine.V)'"
    script = f"d=$(python3 -c \"{where}\"); ls $d/mine.py 2>/dev/null; echo 'V = 1' > $d/mine.py; {use}"
    for name in ("one", "two"):
        await node.run(name, shell(script, image="python:3"))
        await node.phase(name, "Succeeded")
        assert await node.log(name) == "1\n"


async def test_an_environment_that_cannot_be_built_is_said_in_the_status(node: Node) -> None:
    wanted = json.dumps(["no-such-package-anywhere==1"])
    await node.run("one", shell("true", image="python:3"), annotations={"headrace.dev/requirements": wanted})

    async def why() -> str:
        statuses = (await node.pod("one")).status.container_statuses
        waiting = statuses[0].state.waiting if statuses else None
        return waiting.message if waiting is not None and waiting.reason == "ErrImagePull" else ""

    assert "no-such-package-anywhere" in await eventually(why)
    await node.client.patch(Pod, "one", {"metadata": {"annotations": {"headrace.dev/requirements": "[]"}}}, "default")
    await node.phase("one", "Succeeded")


async def test_the_node(node: Node) -> None:
    from headrace.api.coordination import Lease
    from headrace.api.core import Node as NodeObject

    async def ready() -> NodeObject | None:
        found = await node.client.get(NodeObject, "headrace")
        assert {c.type: c.status for c in found.status.conditions} == {
            "Ready": "True",
            "MemoryPressure": "False",
            "DiskPressure": "False",
            "PIDPressure": "False",
            "NetworkUnavailable": "False",
            "SandboxIsolation": "True",
        }
        return found

    found = await eventually(ready)
    assert found is not None
    assert found.status.capacity["pods"] == "250"
    assert found.status.node_info is not None
    assert found.metadata.labels["kubernetes.io/hostname"] == "headrace"

    async def lease() -> bool:
        return (await node.client.get(Lease, "headrace", "kube-node-lease")).spec.holder_identity == "headrace"

    await eventually(lease)

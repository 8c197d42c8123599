"""What creation adds from what else exists."""

import ipaddress

import pytest

from headrace.api import _wire
from headrace.api.batch import Job
from headrace.api.core import PersistentVolumeClaim, Pod, Service, ServiceAccount
from headrace.api.errors import Forbidden, Invalid, NotFound
from headrace.api.identity import ADMIN
from headrace.api.meta import ObjectMeta
from headrace.api.storage import StorageClass
from headrace.testing import embedded_cluster

NS = "default"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture
async def cluster():
    async with embedded_cluster() as made:
        yield made


@pytest.fixture
def create(cluster):
    async def call(kind, spec, name="x", **top):
        body = {"metadata": {"name": name}, "spec": spec, **top}
        return _wire.decode_any(await cluster.registry.create(ADMIN, kind.INFO, body, NS))

    return call


def pod_spec(**more):
    return {"containers": [{"name": "c", "image": "i:1"}], **more}


async def test_a_pod_gets_its_token(create):
    spec = (await create(Pod, pod_spec(initContainers=[{"name": "i", "image": "i:1"}])))["spec"]
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    sources = volume["projected"]["sources"]
    assert [next(iter(s)) for s in sources] == ["serviceAccountToken", "configMap", "downwardAPI"]
    for container in (*spec["containers"], *spec["initContainers"]):
        assert container["volumeMounts"] == [{"name": volume["name"], "readOnly": True, "mountPath": TOKEN_PATH}]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    assert [t["key"].rpartition("/")[2] for t in spec["tolerations"]] == ["not-ready", "unreachable"]
    assert spec["priority"] == 0


async def test_a_pod_may_decline_its_token(create, cluster):
    assert "volumes" not in (await create(Pod, pod_spec(automountServiceAccountToken=False), "a"))["spec"]
    await cluster.client.create(
        ServiceAccount(metadata=ObjectMeta(name="quiet", namespace=NS), automount_service_account_token=False)
    )
    assert "volumes" not in (await create(Pod, pod_spec(serviceAccountName="quiet"), "b"))["spec"]
    loud = await create(Pod, pod_spec(serviceAccountName="quiet", automountServiceAccountToken=True), "c")
    assert loud["spec"]["volumes"]


async def test_a_mount_of_ones_own_is_respected(create):
    mount = {"name": "mine", "mountPath": TOKEN_PATH}
    container = {"name": "c", "image": "i:1", "volumeMounts": [mount]}
    made = await create(Pod, {"containers": [container], "volumes": [{"name": "mine", "emptyDir": {}}]})
    assert [v["name"] for v in made["spec"]["volumes"]] == ["mine"]


async def test_an_unknown_service_account_is_refused(create):
    with pytest.raises(Forbidden, match='error looking up service account default/ghost: serviceaccount "ghost"'):
        await create(Pod, pod_spec(serviceAccountName="ghost"))


async def test_an_unknown_namespace_is_refused(cluster):
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await cluster.registry.create(ADMIN, Pod.INFO, {"metadata": {"name": "x"}, "spec": pod_spec()}, "nowhere")


async def test_status_is_the_servers(create):
    made = await create(Pod, pod_spec(), status={"phase": "Running"})
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


async def test_a_job_selects_its_pods(create):
    made = await create(Job, {"template": {"spec": pod_spec(restartPolicy="Never")}})
    uid = made["metadata"]["uid"]
    assert made["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert made["spec"]["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": "x",
        "controller-uid": uid,
        "job-name": "x",
    }


@pytest.mark.parametrize("spec", [{}, {"template": {"spec": pod_spec(restartPolicy="Never")}}])
async def test_a_job_without_a_name_is_refused_like_everything_else(cluster, spec):
    with pytest.raises(Invalid, match="name or generateName is required"):
        await cluster.registry.create(ADMIN, Job.INFO, {"metadata": {}, "spec": spec}, "default")


async def test_a_claim_gets_the_default_class(create, cluster):
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    assert "storageClassName" not in (await create(PersistentVolumeClaim, dict(spec), "a"))["spec"]
    mark = {"storageclass.kubernetes.io/is-default-class": "true"}
    await cluster.client.create(StorageClass(metadata=ObjectMeta(name="plain"), provisioner="p"))
    await cluster.client.create(StorageClass(metadata=ObjectMeta(name="standard", annotations=mark), provisioner="p"))
    assert (await create(PersistentVolumeClaim, dict(spec), "b"))["spec"]["storageClassName"] == "standard"
    own = await create(PersistentVolumeClaim, {**spec, "storageClassName": ""}, "c")
    assert own["spec"]["storageClassName"] == ""


class TestAddresses:
    async def test_each_service_has_its_own(self, create, cluster):
        made = [await create(Service, {"ports": [{"port": 80}]}, f"s{i}") for i in range(20)]
        addresses = [s["spec"]["clusterIP"] for s in made]
        network = ipaddress.ip_network(cluster.settings.service_cidr)
        assert len(set(addresses)) == 20
        assert all(ipaddress.ip_address(a) in network for a in addresses)
        assert all(s["spec"]["clusterIPs"] == [s["spec"]["clusterIP"]] for s in made)

    async def test_a_chosen_one_must_be_free_and_inside(self, create):
        made = await create(Service, {"ports": [{"port": 80}], "clusterIP": "10.199.128.77"}, "a")
        assert made["spec"]["clusterIP"] == "10.199.128.77"
        for wrong, why in {
            "10.199.128.77": "already allocated",
            "1.2.3.4": "not in the range",
            "x": "valid IP",
        }.items():
            with pytest.raises(Invalid, match=why):
                await create(Service, {"ports": [{"port": 80}], "clusterIP": wrong}, "b")

    async def test_a_freed_one_can_be_taken(self, create, cluster):
        spec = {"ports": [{"port": 80}], "clusterIP": "10.199.128.77"}
        await create(Service, dict(spec), "a")
        await cluster.client.delete(Service, "a", NS)
        await create(Service, dict(spec), "b")

    async def test_headless_and_external(self, create):
        headless = await create(Service, {"clusterIP": "None", "selector": {"a": "b"}}, "a")
        assert headless["spec"]["clusterIPs"] == ["None"]
        external = await create(Service, {"type": "ExternalName", "externalName": "example.com"}, "b")
        assert "clusterIP" not in external["spec"]

    async def test_an_update_keeps_it(self, create, cluster):
        made = await create(Service, {"ports": [{"port": 80}]}, "a")
        body = {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 81}]}}
        updated = _wire.decode_any(await cluster.registry.update(ADMIN, Service.INFO, "a", body, NS))
        assert updated["spec"]["clusterIP"] == made["spec"]["clusterIP"]
        with pytest.raises(Invalid, match="may not change once set"):
            await cluster.client.patch(Service, "a", {"spec": {"clusterIP": "10.199.128.99"}}, NS)

    async def test_node_ports(self, create, cluster):
        made = [await create(Service, {"type": "NodePort", "ports": [{"port": 80}]}, f"s{i}") for i in range(5)]
        ports = {s["spec"]["ports"][0]["nodePort"] for s in made}
        assert len(ports) == 5
        assert all(30000 <= p < 32768 for p in ports)
        again = await cluster.client.patch(Service, "s0", {"metadata": {"labels": {"a": "b"}}}, NS)
        assert again.spec.ports[0].node_port == made[0]["spec"]["ports"][0]["nodePort"]
        inside = await cluster.client.patch(Service, "s0", {"spec": {"type": "ClusterIP"}}, NS)
        assert inside.spec.ports[0].node_port == 0

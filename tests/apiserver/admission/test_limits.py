"""ResourceQuota and LimitRange at admission, in the real server's words."""

import asyncio

import pytest

from headrace.api import _wire
from headrace.api.core import ConfigMap, PersistentVolumeClaim, Pod, Service
from headrace.api.errors import Forbidden, Invalid
from headrace.api.identity import ADMIN
from headrace.api.limits import LimitRange, ResourceQuota
from headrace.testing import embedded_cluster

NS = "default"


@pytest.fixture
async def cluster():
    async with embedded_cluster() as made:
        yield made


@pytest.fixture
def create(cluster):
    async def call(kind, spec, name="x", namespace=NS, **top):
        body = {"metadata": {"name": name}, **top}
        if spec is not None:
            body["spec"] = spec
        return _wire.decode_any(await cluster.registry.create(ADMIN, kind.INFO, body, namespace))

    return call


@pytest.fixture
def quota(create):
    async def call(hard, **spec):
        return await create(ResourceQuota, {"hard": hard, **spec}, "q")

    return call


@pytest.fixture
def limit(create):
    async def call(*items):
        return await create(LimitRange, {"limits": list(items)}, "l")

    return call


def pod(requests=None, limits=None, **spec):
    resources = {k: v for k, v in (("requests", requests), ("limits", limits)) if v}
    return {"containers": [{"name": "c", "image": "i:1", "resources": resources}], **spec}


def claim(storage, **spec):
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}, **spec}


async def test_pods_are_counted(create, quota, cluster):
    await quota({"pods": "2"})
    await create(Pod, pod(), "a")
    await create(Pod, pod(), "b")
    with pytest.raises(Forbidden) as caught:
        await create(Pod, pod(), "c")
    assert caught.value.message == (
        'pods "c" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2'
    )
    await create(Pod, pod(), "c", "kube-system")
    await cluster.client.patch(Pod, "a", {"status": {"phase": "Succeeded"}}, NS, subresource="status")
    await create(Pod, pod(), "c")


async def test_two_at_once_do_not_share_the_last_place(create, quota, cluster):
    await quota({"pods": "3"})
    done = await asyncio.gather(*(create(Pod, pod(), f"p{i}") for i in range(10)), return_exceptions=True)
    assert sum(isinstance(d, dict) for d in done) == 3
    assert sum(isinstance(d, Forbidden) for d in done) == 7
    assert len((await cluster.client.list(Pod, NS)).items) == 3


async def test_a_dry_run_takes_nothing(create, quota, cluster):
    await quota({"configmaps": "1"})
    body = {"metadata": {"name": "dry"}}
    for _ in range(3):
        await cluster.registry.create(ADMIN, ConfigMap.INFO, body, NS, dry_run=True)
    await create(ConfigMap, None, "one")
    with pytest.raises(Forbidden):
        await cluster.registry.create(ADMIN, ConfigMap.INFO, body, NS, dry_run=True)


async def test_a_refused_create_takes_nothing(create, quota):
    await quota({"pods": "1"})
    for _ in range(3):
        with pytest.raises(Invalid):
            await create(Pod, {"containers": []}, "bad")
    await create(Pod, pod(), "good")


async def test_compute(create, quota):
    await quota({"requests.cpu": "1", "limits.memory": "1Gi"})
    with pytest.raises(Forbidden) as caught:
        await create(Pod, pod(requests={"cpu": "1"}), "silent")
    assert caught.value.message == 'pods "silent" is forbidden: failed quota: q: must specify limits.memory for: c'
    await create(Pod, pod({"cpu": "900m"}, {"memory": "512Mi"}), "a")
    with pytest.raises(Forbidden) as caught:
        await create(Pod, pod({"cpu": "200m"}, {"memory": "768Mi"}), "b")
    assert caught.value.message == (
        'pods "b" is forbidden: exceeded quota: q, requested: limits.memory=768Mi,requests.cpu=200m, '
        "used: limits.memory=512Mi,requests.cpu=900m, limited: limits.memory=1Gi,requests.cpu=1"
    )


async def test_init_containers_count_when_they_need_more(create, quota):
    await quota({"cpu": "1"})
    init = [{"name": "i", "image": "i:1", "resources": {"requests": {"cpu": "2"}}}]
    with pytest.raises(Forbidden, match="requested: cpu=2,"):
        await create(Pod, pod({"cpu": "1"}, initContainers=init), "a")


async def test_storage_also_when_a_claim_grows(create, quota, cluster):
    await quota({"requests.storage": "3Gi", "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "1"})
    await create(PersistentVolumeClaim, claim("2Gi", storageClassName="fast"), "a")
    with pytest.raises(Forbidden, match="exceeded quota: q, requested: fast"):
        await create(PersistentVolumeClaim, claim("512Mi", storageClassName="fast"), "b")
    await cluster.client.patch(PersistentVolumeClaim, "a", {"status": {"phase": "Bound"}}, NS, subresource="status")

    async def grow(size):
        patch = {"spec": {"resources": {"requests": {"storage": size}}}}
        return await cluster.client.patch(PersistentVolumeClaim, "a", patch, NS)

    with pytest.raises(Forbidden, match=r"requested: requests.storage=2Gi, used: requests.storage=2Gi, limited: .*3Gi"):
        await grow("4Gi")
    await grow("3Gi")


async def test_services_and_any_kind(create, quota, cluster):
    await quota({"services.nodeports": "1", "count/configmaps": "1"})
    await create(Service, {"type": "NodePort", "ports": [{"port": 80}]}, "a")
    await create(Service, {"ports": [{"port": 80}]}, "b")
    with pytest.raises(Forbidden, match=r"services.nodeports=1, used: services.nodeports=1"):
        await cluster.client.patch(Service, "b", {"spec": {"type": "NodePort"}}, NS)
    await create(ConfigMap, None, "c")
    with pytest.raises(Forbidden, match="count/configmaps=1"):
        await create(ConfigMap, None, "d")


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
TERM = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}
ANYWHERE = {**TERM, "namespaceSelector": {}}


@pytest.mark.parametrize(
    ("scope", "spec", "counts"),
    [
        ("BestEffort", pod(), True),
        ("BestEffort", pod({"cpu": "1"}), False),
        ("NotBestEffort", pod({"cpu": "1"}), True),
        ("Terminating", pod(activeDeadlineSeconds=5), True),
        ("Terminating", pod(), False),
        ("NotTerminating", pod(), True),
        ("PriorityClass", pod(), False),
        ("CrossNamespacePodAffinity", pod(), False),
        ("CrossNamespacePodAffinity", pod(affinity={"podAffinity": {REQUIRED: [TERM]}}), False),
        ("CrossNamespacePodAffinity", pod(affinity={"podAffinity": {REQUIRED: [{**TERM, "namespaces": ["a"]}]}}), True),
        (
            "CrossNamespacePodAffinity",
            pod(affinity={"podAntiAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": ANYWHERE}]}}),
            True,
        ),
    ],
)
async def test_scopes(create, quota, scope, spec, counts):
    await quota({"pods": "0"}, scopes=[scope])
    if counts:
        with pytest.raises(Forbidden):
            await create(Pod, spec)
    else:
        await create(Pod, spec)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"hard": {"pods": "-1"}}, "spec.hard.pods"),
        ({"hard": {"apples": "1"}}, "spec.hard"),
        ({"hard": {"pods": "1"}, "scopes": ["Everything"]}, "spec.scopes[0]"),
        ({"hard": {"services": "1"}, "scopes": ["BestEffort"]}, "spec.scopes"),
    ],
)
async def test_bad_quotas(create, spec, field):
    with pytest.raises(Invalid) as caught:
        await create(ResourceQuota, spec)
    assert [c.field for c in caught.value.causes] == [field]


async def test_defaults_of_containers(create, limit):
    made = await limit(
        {"type": "Container", "default": {"memory": "512Mi"}, "max": {"cpu": "2"}, "min": {"cpu": "0.1"}}
    )
    (item,) = made["spec"]["limits"]
    assert item["default"] == {"cpu": "2", "memory": "512Mi"}
    assert item["defaultRequest"] == {"cpu": "2", "memory": "512Mi"}
    found = await create(Pod, pod(requests={"cpu": "1"}))
    assert found["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "1", "memory": "512Mi"},
        "limits": {"cpu": "2", "memory": "512Mi"},
    }
    assert found["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: memory request for container c; cpu, memory limit for container c"
    )
    assert found["status"]["qosClass"] == "Burstable"


@pytest.mark.parametrize(
    ("item", "spec", "why"),
    [
        (
            {"type": "Container", "min": {"cpu": "200m"}},
            pod({"cpu": "100m"}),
            "minimum cpu usage per Container is 200m, but request is 100m",
        ),
        (
            {"type": "Container", "max": {"cpu": "1"}},
            pod(limits={"cpu": "2"}),
            "maximum cpu usage per Container is 1, but limit is 2",
        ),
        (
            {"type": "Pod", "max": {"memory": "1Gi"}},
            pod(),
            "maximum memory usage per Pod is 1Gi.  No limit is specified",
        ),
        (
            {"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}},
            pod({"cpu": "1"}, {"cpu": "3"}),
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
    ],
)
async def test_least_and_most(create, limit, item, spec, why):
    await limit(item)
    with pytest.raises(Forbidden) as caught:
        await create(Pod, spec)
    assert caught.value.message == f'pods "x" is forbidden: {why}'


async def test_those_that_say_nothing_limit_nothing(create):
    await create(ResourceQuota, None, "q")
    await create(LimitRange, None, "l")
    await create(Pod, pod())
    await create(PersistentVolumeClaim, claim("1Gi"))


async def test_claims(create, limit):
    await limit({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}})
    await create(PersistentVolumeClaim, claim("1Gi"), "good")
    with pytest.raises(Forbidden, match="minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"):
        await create(PersistentVolumeClaim, claim("1Mi"))
    with pytest.raises(Forbidden, match="maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"):
        await create(PersistentVolumeClaim, claim("3Gi"))


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"type": "Box"}, "spec.limits[0].type"),
        ({"type": "Pod", "default": {"cpu": "1"}}, "spec.limits[0].default"),
        ({"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}}, "spec.limits[0].min[cpu]"),
        ({"type": "PersistentVolumeClaim"}, "spec.limits[0].limits"),
    ],
)
async def test_bad_limit_ranges(limit, item, field):
    with pytest.raises(Invalid) as caught:
        await limit(item)
    assert [c.field for c in caught.value.causes] == [field]

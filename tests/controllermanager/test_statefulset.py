"""StatefulSets on an embedded cluster: names, order, claims, updates, history."""

import copy

import pytest

from headrace.api.apps import ClaimRetention, ControllerRevision, StatefulSet, StatefulSetSpec
from headrace.api.core import Endpoints, PersistentVolumeClaim, Pod, Service, ServicePort, ServiceSpec
from headrace.api.errors import Invalid, NotFound
from headrace.api.meta import LabelSelector, ObjectMeta
from headrace.controllermanager.types import PodManifest

from .conftest import NS, TEMPLATE

CLAIM = {
    "metadata": {"name": "data", "labels": {"kind": "data"}},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


def stateful_set(**spec):
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["nodeName"] = "headrace"  # so that deleted pods stay until their node has ended them
    if spec.get("volume_claim_templates"):
        template["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return StatefulSet(
        metadata=ObjectMeta(name="web", namespace=NS),
        spec=StatefulSetSpec(
            selector=LabelSelector(match_labels={"app": "web"}), template=template, service_name="web", **spec
        ),
    )


async def names(world):
    await world.quiet()
    return [p.metadata.name for p in await world.pods() if p.metadata.deletion_timestamp is None]


async def pod(world, name):
    return await world.until(lambda: world.client.get(Pod, name, NS))


async def run(world, *numbers):
    for number in numbers:
        await world.set_phase(await pod(world, f"web-{number}"), "Running")
    await world.quiet()


async def get(world):
    await world.quiet()
    return await world.client.get(StatefulSet, "web", NS)


async def change(world, **spec):
    await world.client.patch(StatefulSet, "web", {"spec": spec}, NS)
    await world.quiet()


async def new_image(world, image):
    containers = [{"name": "main", "image": image}]
    await change(world, template={"spec": {"containers": containers}})


async def ended(world, name):
    """The agent ends the pod that is being deleted."""

    async def terminating():
        found = await world.client.get(Pod, name, NS)
        return found if found.metadata.deletion_timestamp is not None else None

    await world.finish_deletion(await world.until(terminating))
    await world.quiet()


async def images(world):
    found = {}
    for one in await world.pods():
        manifest = await world.client.get(PodManifest, one.metadata.name, NS)
        found[one.metadata.name] = manifest.spec["containers"][0]["image"]
    return found


async def revisions(world):
    found = (await world.client.list(ControllerRevision, NS)).items
    return sorted(found, key=lambda r: r.revision)


async def test_one_after_the_other(world):
    await world.client.create(stateful_set(replicas=3))
    assert await names(world) == ["web-0"]
    await run(world, 0)
    assert await names(world) == ["web-0", "web-1"]
    await run(world, 1)
    assert await names(world) == ["web-0", "web-1", "web-2"]
    await run(world, 2)
    status = (await get(world)).status
    assert (status.replicas, status.ready_replicas, status.available_replicas) == (3, 3, 3)
    assert (status.current_replicas, status.updated_replicas, status.observed_generation) == (3, 3, 1)
    (revision,) = await revisions(world)
    assert status.current_revision == status.update_revision == revision.metadata.name


async def test_what_a_pod_is_called(world):
    await world.client.create(stateful_set(replicas=1))
    await names(world)
    made = await world.client.get(PodManifest, "web-0", NS)
    (revision,) = await revisions(world)
    assert made.metadata.labels == {
        "app": "web",
        "statefulset.kubernetes.io/pod-name": "web-0",
        "apps.kubernetes.io/pod-index": "0",
        "controller-revision-hash": revision.metadata.name,
    }
    assert (made.spec["hostname"], made.spec["subdomain"]) == ("web-0", "web")


async def test_a_headless_service_knows_each_by_name(world):
    spec = ServiceSpec(cluster_ip="None", selector={"app": "web"}, ports=[ServicePort(port=80)])
    await world.client.create(Service(metadata=ObjectMeta(name="web", namespace=NS), spec=spec))
    await world.client.create(stateful_set(replicas=2))
    await run(world, 0)
    await run(world, 1)

    async def addresses():
        found = await world.client.get(Endpoints, "web", NS)
        return [a.hostname for s in found.subsets for a in s.addresses] == ["web-0", "web-1"]

    await world.until(addresses)


async def test_parallel(world):
    await world.client.create(stateful_set(replicas=3, pod_management_policy="Parallel"))
    assert await names(world) == ["web-0", "web-1", "web-2"]
    await change(world, replicas=0)
    assert await names(world) == []


async def test_scaled_down_from_the_end(world):
    await world.client.create(stateful_set(replicas=3, pod_management_policy="Parallel"))
    await names(world)
    await run(world, 0, 1, 2)
    found = await get(world)
    assert found.status.ready_replicas == 3
    await world.client.delete(StatefulSet, "web", NS, propagation="Orphan")
    await world.gone(StatefulSet, "web")
    await world.client.create(stateful_set(replicas=1))  # takes over the three, in order from now on
    assert await names(world) == ["web-0", "web-1"]
    await ended(world, "web-2")
    assert await names(world) == ["web-0"]
    await ended(world, "web-1")
    assert (await get(world)).status.replicas == 1


async def test_the_first_number(world):
    made = stateful_set(replicas=2, pod_management_policy="Parallel")
    made.spec.ordinals.start = 5
    await world.client.create(made)
    assert await names(world) == ["web-5", "web-6"]


async def test_a_failed_pod_is_made_again_under_its_name(world):
    await world.client.create(stateful_set(replicas=1))
    before = await pod(world, "web-0")
    await world.set_phase(before, "Failed", exit_code=1)

    async def another():
        found = await world.client.get(Pod, "web-0", NS)
        if found.metadata.deletion_timestamp is not None:
            await world.finish_deletion(found)
        return found.metadata.uid != before.metadata.uid

    await world.until(another)


async def test_updates_go_from_the_last_to_the_first_each_when_the_one_before_is_ready(world):
    await world.client.create(stateful_set(replicas=2, pod_management_policy="Parallel"))
    await names(world)
    await run(world, 0, 1)
    await new_image(world, "python:3.12")
    assert await names(world) == ["web-0"]
    await ended(world, "web-1")
    assert await images(world) == {"web-0": "python:3.11", "web-1": "python:3.12"}
    assert await names(world) == ["web-0", "web-1"]
    status = (await get(world)).status
    assert status.current_revision != status.update_revision
    assert (status.current_replicas, status.updated_replicas) == (1, 1)
    await run(world, 1)
    await ended(world, "web-0")
    await run(world, 0)
    status = (await get(world)).status
    assert status.current_revision == status.update_revision
    assert (status.current_replicas, status.updated_replicas) == (2, 2)
    assert set((await images(world)).values()) == {"python:3.12"}


async def test_a_partition_keeps_the_first_pods(world):
    await world.client.create(stateful_set(replicas=2, pod_management_policy="Parallel"))
    await names(world)
    await run(world, 0, 1)
    await change(world, updateStrategy={"rollingUpdate": {"partition": 1}})
    await new_image(world, "python:3.12")
    await ended(world, "web-1")
    await run(world, 1)
    assert await names(world) == ["web-0", "web-1"]
    await world.client.delete(Pod, "web-0", NS, grace_period_seconds=0)
    assert await names(world)
    assert await images(world) == {"web-0": "python:3.11", "web-1": "python:3.12"}
    status = (await get(world)).status
    assert status.current_revision != status.update_revision


async def test_on_delete_waits_for_a_person(world):
    made = stateful_set(replicas=1)
    made.spec.update_strategy.type = "OnDelete"
    await world.client.create(made)
    await run(world, 0)
    await new_image(world, "python:3.12")
    assert await images(world) == {"web-0": "python:3.11"}
    await world.client.delete(Pod, "web-0", NS, grace_period_seconds=0)
    assert await names(world)
    assert await images(world) == {"web-0": "python:3.12"}


async def test_a_rollback_is_the_old_revision_with_a_new_number(world):
    await world.client.create(stateful_set(replicas=0))
    await get(world)
    await new_image(world, "python:3.12")
    first, second = await revisions(world)
    assert (first.revision, second.revision) == (1, 2)
    assert first.data["spec"]["template"]["$patch"] == "replace"
    await new_image(world, "python:3.11")
    found = await revisions(world)
    assert [(r.metadata.name, r.revision) for r in found] == [(second.metadata.name, 2), (first.metadata.name, 3)]


async def test_the_history_is_kept_short(world):
    await world.client.create(stateful_set(replicas=0, revision_history_limit=1))
    for minor in range(12, 16):
        await new_image(world, f"python:3.{minor}")
    assert len(await revisions(world)) <= 2


async def test_each_pod_has_its_claims(world):
    await world.client.create(stateful_set(replicas=2, volume_claim_templates=[CLAIM]))
    await run(world, 0)
    await run(world, 1)
    claim = await world.client.get(PersistentVolumeClaim, "data-web-1", NS)
    assert claim.metadata.labels == {"app": "web", "kind": "data"}
    assert claim.metadata.owner_references == []
    made = await world.client.get(PodManifest, "web-1", NS)
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-1"}} in made.spec["volumes"]
    await change(world, replicas=1)
    await ended(world, "web-1")
    assert (await world.client.get(PersistentVolumeClaim, "data-web-1", NS)).metadata.uid == claim.metadata.uid


async def test_claims_that_go_with_their_pods_and_with_the_set(world):
    keep = ClaimRetention(when_deleted="Delete", when_scaled="Delete")
    made = stateful_set(replicas=2, volume_claim_templates=[CLAIM], persistent_volume_claim_retention_policy=keep)
    await world.client.create(made)
    await run(world, 0)
    await run(world, 1)
    await change(world, replicas=1)
    await ended(world, "web-1")
    await world.gone(PersistentVolumeClaim, "data-web-1")
    claim = await world.client.get(PersistentVolumeClaim, "data-web-0", NS)
    assert [r.kind for r in claim.metadata.owner_references] == ["StatefulSet"]
    await world.client.delete(StatefulSet, "web", NS)
    await ended(world, "web-0")
    await world.gone(PersistentVolumeClaim, "data-web-0")


async def test_ready_long_enough(world):
    await world.client.create(stateful_set(replicas=2, min_ready_seconds=10))
    await run(world, 0)
    assert await names(world) == ["web-0"]
    assert (await get(world)).status.available_replicas == 0
    world.clock.step(11)
    assert await names(world) == ["web-0", "web-1"]


async def test_scale(world):
    await world.client.create(stateful_set(replicas=1))
    await run(world, 0)
    await world.client.patch(StatefulSet, "web", {"spec": {"replicas": 2}}, NS, subresource="scale")
    assert await names(world) == ["web-0", "web-1"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda s: setattr(s, "pod_management_policy", "Whenever"), "spec.podManagementPolicy"),
        (lambda s: setattr(s.update_strategy, "type", "Recreate"), "spec.updateStrategy.type"),
        (lambda s: setattr(s, "replicas", -1), "spec.replicas"),
        (lambda s: setattr(s.ordinals, "start", -1), "spec.ordinals.start"),
        (lambda s: s.selector.match_labels.update(app="other"), "spec.template.metadata.labels"),
        (
            lambda s: setattr(s.persistent_volume_claim_retention_policy, "when_deleted", "Never"),
            "spec.persistentVolumeClaimRetentionPolicy.whenDeleted",
        ),
    ],
)
async def test_refused(world, change, field):
    made = stateful_set()
    change(made.spec)
    with pytest.raises(Invalid) as caught:
        await world.client.create(made)
    assert [c.field for c in caught.value.causes] == [field]


async def test_identity_is_fixed(world):
    await world.client.create(stateful_set(replicas=0))
    with pytest.raises(Invalid, match="updates to statefulset spec for fields other than 'replicas', 'ordinals'"):
        await change(world, serviceName="other")
    with pytest.raises(NotFound):
        await world.client.get(Pod, "web-0", NS)

"""Claims and volumes: binding, directories, the end of both."""

from pathlib import Path

import pytest

from headrace.api.core import (
    Event,
    HostPathVolumeSource,
    ObjectReference,
    PersistentVolumeClaimSpec,
    PersistentVolumeSpec,
    PersistentVolumeStatus,
    ResourceRequirements,
    TypedReference,
)
from headrace.api.core import PersistentVolume as Volume
from headrace.api.core import PersistentVolumeClaim as Claim
from headrace.api.meta import LabelSelector, ObjectMeta
from headrace.api.storage import StorageClass
from headrace.controllermanager import volume_policy as policy
from headrace.controllermanager.types import PodManifest

from .conftest import NS


def claim(name="data", size="1Gi", cls=None, **spec):
    return Claim(
        metadata=ObjectMeta(name=name, namespace=NS, uid="u" if name == "table" else ""),
        spec=PersistentVolumeClaimSpec(
            access_modes=["ReadWriteOnce"],
            resources=ResourceRequirements(requests={"storage": size}),
            storage_class_name=cls,
            **spec,
        ),
    )


def volume(name, path, size="5Gi", cls="manual", **spec):
    return Volume(
        metadata=ObjectMeta(name=name, labels=spec.pop("labels", {})),
        spec=PersistentVolumeSpec(
            capacity={"storage": size},
            access_modes=spec.pop("modes", ["ReadWriteOnce", "ReadWriteMany"]),
            storage_class_name=cls,
            persistent_volume_reclaim_policy=spec.pop("reclaim", "Retain"),
            host_path=HostPathVolumeSource(path=str(path)),
            **spec,
        ),
    )


async def bound(world, name="data"):
    async def check():
        found = await world.client.get(Claim, name, NS)
        return found if found.status.phase == "Bound" else None

    found = await world.until(check)
    return found, await world.client.get(Volume, found.spec.volume_name)


async def phase(world, name, wanted):
    async def check():
        return (await world.client.get(Volume, name)).status.phase == wanted

    await world.until(check)


async def event(world, reason):
    async def check():
        return next((e.message for e in (await world.client.list(Event, NS)).items if e.reason == reason), None)

    return await world.until(check)


async def use(world, name, claim_name):
    spec = {
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim_name}}],
    }
    await world.client.create(PodManifest(metadata=ObjectMeta(name=name, namespace=NS), spec=spec))
    return (await world.pods())[0]


async def test_a_claim_gets_a_directory_and_loses_it(world):
    made = await world.client.create(claim())
    found, pv = await bound(world)
    assert found.status.capacity == {"storage": "1Gi"}
    assert found.status.access_modes == ["ReadWriteOnce"]
    assert pv.metadata.name == f"pvc-{made.metadata.uid}"
    assert pv.spec.storage_class_name == "standard"
    path = Path(pv.spec.host_path.path)
    assert path.parent == world.cluster.settings.volumes
    assert path.name == f"default-data-{made.metadata.uid}"
    await phase(world, pv.metadata.name, "Bound")
    (path / "sub").mkdir()
    (path / "sub" / "file").write_text("x")
    outside = world.cluster.settings.home / "outside"
    outside.mkdir()
    (path / "link").symlink_to(outside)
    await world.client.delete(Claim, "data", NS)
    await world.gone(Claim, "data")
    await world.gone(Volume, pv.metadata.name, None)
    assert not path.exists()
    assert outside.exists()


async def test_a_claim_in_use_stays(world):
    await world.client.create(claim())
    _, pv = await bound(world)
    pod = await use(world, "user", "data")
    await world.client.delete(Claim, "data", NS)
    await world.quiet()
    assert Path(pv.spec.host_path.path).exists()
    await world.client.get(Claim, "data", NS)
    await world.set_phase(pod, "Succeeded")
    await world.gone(Claim, "data")
    await world.gone(Volume, pv.metadata.name, None)


async def test_a_deleted_volume_stays_as_long_as_its_claim(world):
    await world.client.create(claim())
    _, pv = await bound(world)
    await world.client.delete(Volume, pv.metadata.name)
    await world.quiet()
    await world.client.get(Volume, pv.metadata.name)
    await world.client.delete(Claim, "data", NS)
    await world.gone(Volume, pv.metadata.name, None)


async def test_retain_keeps_the_directory(world):
    retaining = StorageClass(metadata=ObjectMeta(name="keep"), provisioner=policy.PROVISIONER, reclaim_policy="Retain")
    await world.client.create(retaining)
    await world.client.create(claim(cls="keep"))
    _, pv = await bound(world)
    await world.client.delete(Claim, "data", NS)
    await world.gone(Claim, "data")
    await phase(world, pv.metadata.name, "Released")
    assert Path(pv.spec.host_path.path).exists()
    await world.client.delete(Volume, pv.metadata.name)
    await world.gone(Volume, pv.metadata.name, None)
    assert Path(pv.spec.host_path.path).exists()


async def test_a_volume_that_somebody_made_is_bound_and_never_deleted_with_its_data(world, tmp_path):
    (tmp_path / "own").mkdir()
    await world.client.create(volume("big", tmp_path / "own", "50Gi"))
    await world.client.create(volume("own", tmp_path / "own", "5Gi", reclaim="Delete"))
    await phase(world, "own", "Available")
    await world.client.create(claim(cls="manual"))
    found, pv = await bound(world)
    assert pv.metadata.name == "own"
    assert found.status.capacity == {"storage": "5Gi"}
    assert pv.spec.claim_ref.uid == found.metadata.uid
    await world.client.delete(Claim, "data", NS)
    await phase(world, "own", "Failed")
    assert (tmp_path / "own").exists()
    await phase(world, "big", "Available")


async def test_two_claims_do_not_share_a_volume(world, tmp_path):
    await world.client.create(volume("one", tmp_path))
    for name in ("a", "b"):
        await world.client.create(claim(name, cls="manual"))

    async def one_bound():
        phases = [(await world.client.get(Claim, n, NS)).status.phase for n in ("a", "b")]
        return sorted(phases) == ["Bound", "Pending"]

    await world.until(one_bound)
    await world.client.create(volume("two", tmp_path))
    await bound(world, "a")
    await bound(world, "b")


async def test_a_claim_begins_as_a_copy_of_another(world):
    await world.client.create(claim("source"))
    _, pv = await bound(world, "source")
    (Path(pv.spec.host_path.path) / "file").write_text("kept")
    await world.client.create(claim("copy", "2Gi", data_source=TypedReference("PersistentVolumeClaim", "source")))
    made, copied = await bound(world, "copy")
    assert made.spec.data_source_ref == TypedReference("PersistentVolumeClaim", "source")
    folder = Path(copied.spec.host_path.path)
    assert (folder / "file").read_text() == "kept"
    (folder / "file").write_text("changed")
    assert (Path(pv.spec.host_path.path) / "file").read_text() == "kept"
    assert copied.spec.capacity == {"storage": "2Gi"}
    await world.client.delete(Claim, "copy", NS)
    await world.gone(Volume, copied.metadata.name, None)
    assert sorted(p.name for p in folder.parent.iterdir()) == [Path(pv.spec.host_path.path).name]


async def test_a_copy_waits_for_its_source_and_takes_no_other_volume(world, tmp_path):
    await world.client.create(volume("free", tmp_path, cls="standard"))
    await world.client.create(claim("copy", data_source_ref=TypedReference("PersistentVolumeClaim", "source")))
    assert "'source', which is to be copied, is not found" in await event(world, "ProvisioningFailed")
    await phase(world, "free", "Available")
    await world.client.create(claim("source", size="6Gi"))
    await bound(world, "source")

    async def too_small():
        events = (await world.client.list(Event, NS)).items
        return any("at least its size, 6Gi, and asks for 1Gi" in e.message for e in events)

    await world.until(too_small)
    await world.client.create(claim("large", "6Gi", data_source=TypedReference("PersistentVolumeClaim", "source")))
    await bound(world, "large")
    assert (await world.client.get(Claim, "copy", NS)).status.phase == "Pending"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (TypedReference("VolumeSnapshot", "s", "snapshot.storage.k8s.io"), "VolumeSnapshot.snapshot.storage.k8s.io"),
        (TypedReference("PersistentVolumeClaim", "s", namespace="other"), "claims of another namespace (other)"),
    ],
)
async def test_other_sources_are_refused_in_words(world, source, words):
    await world.client.create(claim("copy", data_source_ref=source))
    assert words in await event(world, "ProvisioningFailed")
    assert (await world.client.get(Claim, "copy", NS)).status.phase == "Pending"


async def test_a_claim_waits_for_its_class_and_says_so(world):
    await world.client.create(claim(cls="later"))
    assert "not found" in await event(world, "ProvisioningFailed")
    await world.client.create(StorageClass(metadata=ObjectMeta(name="later"), provisioner=policy.PROVISIONER))
    await bound(world)


async def test_other_provisioners_do_not_run_here(world):
    await world.client.create(StorageClass(metadata=ObjectMeta(name="cloud"), provisioner="ebs.csi.aws.com"))
    await world.client.create(claim(cls="cloud"))
    assert "ebs.csi.aws.com" in await event(world, "ExternalProvisioning")
    assert (await world.client.get(Claim, "data", NS)).status.phase == "Pending"


async def test_wait_for_first_consumer(world):
    lazy = StorageClass(
        metadata=ObjectMeta(name="lazy"), provisioner=policy.PROVISIONER, volume_binding_mode=policy.WAIT
    )
    await world.client.create(lazy)
    await world.client.create(claim(cls="lazy"))
    await event(world, "WaitForFirstConsumer")
    assert (await world.client.list(Volume)).items == []
    await use(world, "user", "data")
    await bound(world)


async def test_block_devices_are_refused(world):
    await world.client.create(claim(volume_mode="Block"))
    assert "Block" in await event(world, "ProvisioningFailed")


async def test_a_claim_that_lost_its_volume(world):
    await world.client.create(claim())
    _, pv = await bound(world)
    await world.client.patch(Volume, pv.metadata.name, {"metadata": {"finalizers": None}})
    await world.client.delete(Volume, pv.metadata.name)

    async def lost():
        return (await world.client.get(Claim, "data", NS)).status.phase == "Lost"

    await world.until(lost)


TABLE = claim("table", cls="manual")
MINE = ObjectReference(namespace=NS, name="table")


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (volume("v", "/v"), True),
        (volume("v", "/v", "500Mi"), False),
        (volume("v", "/v", cls="standard"), False),
        (volume("v", "/v", modes=["ReadOnlyMany"]), False),
        (volume("v", "/v", volume_mode="Block"), False),
        (volume("v", "/v", claim_ref=MINE), True),
        (volume("v", "/v", claim_ref=ObjectReference(namespace=NS, name="table", uid="u")), True),
        (volume("v", "/v", claim_ref=ObjectReference(namespace=NS, name="table", uid="old")), False),
        (volume("v", "/v", claim_ref=ObjectReference(namespace="x", name="table")), False),
    ],
)
def test_what_fits(candidate, expected):
    assert policy.fits(TABLE, candidate) is expected


def test_released_volumes_do_not_fit():
    found = volume("v", "/v")
    found.status = PersistentVolumeStatus(phase="Released")
    assert not policy.fits(TABLE, found)


def test_the_reserved_then_the_smallest():
    reserved = volume("r", "/r", "50Gi", claim_ref=MINE)
    small, big = volume("z", "/z", "1Gi"), volume("a", "/a", "9Gi")
    assert policy.choose(TABLE, [big, small, reserved]) is reserved
    assert policy.choose(TABLE, [big, small]) is small
    assert policy.choose(TABLE, []) is None


def test_selectors():
    selecting = claim("table", cls="manual", selector=LabelSelector(match_labels={"disk": "fast"}))
    assert not policy.fits(selecting, volume("v", "/v"))
    assert policy.fits(selecting, volume("v", "/v", labels={"disk": "fast"}))

"""Which volume is for which claim, as pure functions (upstream: pkg/controller/volume/persistentvolume)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headrace.api import quantity

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from headrace.api.core import ObjectReference, PersistentVolume, PersistentVolumeClaim, TypedReference
    from headrace.api.storage import StorageClass

PROVISIONER = "headrace.dev/local"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
CLAIM_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION = "kubernetes.io/pv-protection"
WAIT = "WaitForFirstConsumer"


def requested(claim: PersistentVolumeClaim) -> Decimal:
    """Bytes that the claim asks for."""
    return quantity.parse(claim.spec.resources.requests.get("storage", 0))


def capacity(volume: PersistentVolume) -> Decimal:
    """Bytes that the volume has."""
    return quantity.parse(volume.spec.capacity.get("storage", 0))


def points_to(ref: ObjectReference | None, claim: PersistentVolumeClaim) -> bool:
    """Whether a volume's claimRef means this claim; without uid it is a reservation by name."""
    meta = claim.metadata
    return ref is not None and (ref.namespace, ref.name) == (meta.namespace, meta.name) and ref.uid in {"", meta.uid}


def fits(claim: PersistentVolumeClaim, volume: PersistentVolume) -> bool:
    """Whether the volume can serve the claim."""
    spec = volume.spec
    if volume.metadata.deletion_timestamp is not None or volume.status.phase in {"Released", "Failed"}:
        return False
    if spec.claim_ref is None and source_of(claim) is not None:
        return False  # it is to begin with certain data, which only a volume that is made for it has
    if spec.claim_ref is not None and not points_to(spec.claim_ref, claim):
        return False
    selector = claim.spec.selector
    return (
        (claim.spec.storage_class_name or "") == spec.storage_class_name
        and set(claim.spec.access_modes) <= set(spec.access_modes)
        and (claim.spec.volume_mode or "Filesystem") == (spec.volume_mode or "Filesystem")
        and capacity(volume) >= requested(claim)
        and (selector is None or selector.matches(volume.metadata.labels))
    )


def choose(claim: PersistentVolumeClaim, volumes: Iterable[PersistentVolume]) -> PersistentVolume | None:
    """The volume to bind: one that is reserved for the claim, else the smallest that fits."""
    candidates = [v for v in volumes if fits(claim, v)]
    return min(candidates, key=lambda v: (v.spec.claim_ref is None, capacity(v), v.metadata.name), default=None)


def class_of(claim: PersistentVolumeClaim, classes: Iterable[StorageClass]) -> tuple[StorageClass | None, str]:
    """(the claim's StorageClass, its name); a claim that names none gets the default."""
    found = list(classes)
    name = claim.spec.storage_class_name
    if name is None:
        defaults = [c for c in found if c.metadata.annotations.get(DEFAULT_CLASS) == "true"]
        chosen = max(defaults, key=lambda c: (str(c.metadata.creation_timestamp), c.metadata.name), default=None)
        return chosen, chosen.metadata.name if chosen else ""
    return next((c for c in found if c.metadata.name == name), None), name


def source_of(claim: PersistentVolumeClaim) -> TypedReference | None:
    """What the claim's volume is to begin with."""
    return claim.spec.data_source_ref or claim.spec.data_source


def source_refused(claim: PersistentVolumeClaim) -> str:
    """Why the claim can never begin with its data source; empty when it may."""
    source = source_of(claim)
    if source is None:
        return ""
    if source.kind != "PersistentVolumeClaim" or source.api_group:
        kind = f"{source.kind}.{source.api_group}" if source.api_group else source.kind
        return f"the data source {kind} {source.name!r} is not supported: a claim may begin as a copy of another claim"
    if source.namespace not in {"", claim.metadata.namespace}:
        return f"claims of another namespace ({source.namespace}) are not copied"
    return ""


def not_to_be_copied(
    claim: PersistentVolumeClaim, source: PersistentVolumeClaim, volume: PersistentVolume | None
) -> str:
    """Why the source cannot be copied for the claim as it is now; empty when it can."""
    name = source.metadata.name
    if source.metadata.deletion_timestamp is not None:
        return f"the claim {name!r}, which is to be copied, is being deleted"
    if source.status.phase != "Bound" or volume is None:
        return f"the claim {name!r}, which is to be copied, is not bound yet"
    if volume.metadata.annotations.get(PROVISIONED_BY) != PROVISIONER or volume.spec.host_path is None:
        return f"the claim {name!r} cannot be copied: its volume was not made by {PROVISIONER}"
    if requested(claim) < capacity(volume):
        return (
            f"the copy of claim {name!r} must ask for at least its size, {volume.spec.capacity.get('storage')}, and "
            f"asks for {claim.spec.resources.requests.get('storage')}"
        )
    return ""


def refused(claim: PersistentVolumeClaim) -> str:
    """Why no directory can serve this claim; empty when one can."""
    if claim.spec.volume_mode == "Block":
        return "volumeMode Block is not supported: volumes are directories of this machine; use Filesystem"
    if claim.spec.selector is not None:
        return "claim.spec.selector is not supported for dynamic provisioning"
    return source_refused(claim)


def folder_name(claim: PersistentVolumeClaim) -> str:
    """The directory of a claim: readable, and unique by the uid."""
    meta = claim.metadata
    return re.sub(r"[^a-z0-9.-]", "-", f"{meta.namespace}-{meta.name}-{meta.uid}")


def volume_name(claim: PersistentVolumeClaim) -> str:
    """The name of a claim's provisioned volume: deterministic."""
    return f"pvc-{claim.metadata.uid}"

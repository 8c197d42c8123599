"""Deletion: at once, after a grace period, or when the last finalizer is gone.

Owner references are followed by the garbage collector, not here. What the registry does for it is to set the
finalizer that makes it act: `foregroundDeletion` or `orphan`.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from headrace.api import _wire
from headrace.api.errors import NotFound
from headrace.api.identity import ADMIN
from headrace.apiserver.admission import metadata
from headrace.apiserver.admission.dynamic.gate import admit_delete
from headrace.apiserver.registry.writes import finished
from headrace.store.base import RevisionMismatch

if TYPE_CHECKING:
    from headrace.api.identity import User
    from headrace.apiserver.registry.core import Core, Json
    from headrace.apiserver.registry.kinds import Served
    from headrace.client.base import Propagation, Warnings

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Deletes:
    """The deleting verbs, after authorization."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def delete(
        self,
        served: Served,
        name: str,
        namespace: str,
        *,
        user: User = ADMIN,
        uid: str,
        resource_version: str,
        propagation: Propagation | None,
        grace_period_seconds: int | None,
        dry_run: bool,
        warnings: Warnings | None = None,
    ) -> bytes:
        """Begin or finish deletion."""
        core, info = self._core, served.info
        core.admission.delete(served, name)
        while True:
            record = core.record(served, namespace, name)
            old = await core.loaded(served, record)
            _check_preconditions(served, old, uid, resource_version)
            if core.gate.active:
                await admit_delete(core, user, served, old, dry_run=dry_run, warnings=warnings)
            new = begin_deletion(
                served, old, propagation=propagation, grace_period_seconds=grace_period_seconds, now=core.clock.now()
            )
            if dry_run or (new == old and not finished(new)):
                return _wire.encode(new)
            try:
                if finished(new):
                    written = await core.remove(
                        served, old if "deletionTimestamp" not in old["metadata"] else new, record.revision
                    )
                else:
                    written = await core.put(served, new, record.revision)
            except RevisionMismatch as error:
                if error.current is None:
                    raise NotFound.of(info, name) from error
                continue
            return core.present(served, written.value)


def _check_preconditions(served: Served, old: Json, uid: str, resource_version: str) -> None:
    meta = old["metadata"]
    if uid and uid != meta["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta['uid']}"
        raise metadata.conflict(served.info, meta["name"], why)
    if resource_version and resource_version != meta["resourceVersion"]:
        why = (
            f"Precondition failed: ResourceVersion in precondition: {resource_version}, ResourceVersion in object "
            f"meta: {meta['resourceVersion']}"
        )
        raise metadata.conflict(served.info, meta["name"], why)


def begin_deletion(
    served: Served, old: Json, *, propagation: Propagation | None, grace_period_seconds: int | None, now: dt.datetime
) -> Json:
    """The object after a delete request; `finished` says whether it is to be removed now."""
    new = {**old, "metadata": {**old["metadata"]}}
    meta = new["metadata"]
    _set_propagation(meta, propagation)
    grace = _grace(served, old, grace_period_seconds)
    if "deletionTimestamp" not in meta:
        meta["deletionTimestamp"] = metadata.timestamp(now + dt.timedelta(seconds=grace))
        meta["deletionGracePeriodSeconds"] = grace
        if metadata.has_generation(served.info, custom=served.custom):
            meta["generation"] = meta.get("generation", 0) + 1
        if _is_namespace(served):
            new["status"] = {**(old.get("status") or {}), "phase": "Terminating"}
    elif grace_period_seconds is not None and grace < meta.get("deletionGracePeriodSeconds", 0):
        meta["deletionTimestamp"] = metadata.timestamp(now + dt.timedelta(seconds=grace))
        meta["deletionGracePeriodSeconds"] = grace
    return new


def _set_propagation(meta: Json, propagation: Propagation | None) -> None:
    if propagation is None:
        return
    kept = [f for f in meta.get("finalizers") or () if f not in (FOREGROUND, ORPHAN)]
    if propagation != "Background":
        kept.append(FOREGROUND if propagation == "Foreground" else ORPHAN)
    if kept:
        meta["finalizers"] = kept
    else:
        meta.pop("finalizers", None)


def _grace(served: Served, obj: Json, asked: int | None) -> int:
    """Only pods end gracefully: those that a node runs and that have not ended by themselves."""
    if served.info.kind != "Pod" or served.info.group:
        return 0
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    wanted = spec.get("terminationGracePeriodSeconds", 30) if asked is None else asked
    return max(int(wanted), 0)


def _is_namespace(served: Served) -> bool:
    return served.info.kind == "Namespace" and not served.info.group

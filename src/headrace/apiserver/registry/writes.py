"""Create, update and patch: read, change, admit, write if nobody was faster, else again.

An update without resourceVersion, and every patch, is applied to whatever is there when it is written. A change
that changes nothing is not written. `status` and the other subresources each replace only their own part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headrace.api import _wire
from headrace.api.errors import AlreadyExists, BadRequest, Cause, Invalid, NotFound
from headrace.apiserver.admission import metadata
from headrace.apiserver.admission.chain import check_serving
from headrace.apiserver.admission.dynamic.attempt import CREATE, UPDATE, Attempt
from headrace.apiserver.admission.dynamic.gate import admit_create, admit_update
from headrace.apiserver.fieldmanager.tracking import manager_of
from headrace.apiserver.registry.scale import SCALE, ScalePaths, scale_of, with_replicas
from headrace.store.base import RevisionMismatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.identity import User
    from headrace.apiserver.registry.core import Core, Json
    from headrace.apiserver.registry.kinds import Served
    from headrace.client.base import Warnings
    from headrace.store.base import Record

GENERATE_ATTEMPTS = 8
_OWNED_AS = {"binding": "status"}
"""What is written together with the status belongs to who writes the status."""
_WITH_STATUS = frozenset({"apiVersion", "kind", "metadata", "status"})


class Asked(NamedTuple):
    """Who writes, and what they said besides what is written."""

    user: User
    subresource: str = ""
    dry_run: bool = False
    field_validation: str = "Ignore"
    warnings: Warnings | None = None
    """Gets what the server warns of; None where nobody listens."""
    field_manager: str = ""

    @property
    def manager(self) -> str:
        """Whose the fields are that change."""
        return self.field_manager or manager_of(self.user)


class Writes:
    """The writing verbs, after authorization."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def create(self, asked: Asked, served: Served, body: Json, namespace: str, *, applied: bool = False) -> bytes:
        """Create; what was `applied` has its managedFields already."""
        core, info = self._core, served.info
        user, warnings = asked.user, asked.warnings
        check_serving(served)
        obj = metadata.normalise(body, info)
        metadata.check_request_names(obj, "", namespace, info)
        namespace = obj["metadata"].get("namespace", "")
        obj = core.raised(served, obj, asked.field_validation, warnings)
        shown, served = served, core.hub(served)
        info = served.info
        metadata.prepare_create(
            obj,
            uid=metadata.new_uid(),
            now=core.clock.now(),
            generation=metadata.has_generation(info, custom=served.custom),
        )

        def own(new: Json) -> None:
            if applied:
                keep_managers(new, obj)
            else:
                core.fields.created(served, new, asked.manager)

        own(obj)
        meta = obj["metadata"]
        base = meta.get("generateName") if not meta.get("name") else None
        for attempt in range(GENERATE_ATTEMPTS):
            candidate = _wire.clone(obj) if base else obj
            if base:
                candidate["metadata"]["name"] = metadata.generate_name(base)
            if core.gate.active:
                request = Attempt(user, CREATE, served, candidate, dry_run=asked.dry_run, warnings=warnings)
                candidate = await admit_create(core, request, own)
            else:
                candidate = core.admission.create(user, served, candidate)
            if warnings is not None:
                core.admission.advise(info, candidate, None, warnings)
            name = candidate["metadata"]["name"]
            try:
                if asked.dry_run:
                    core.admission.written(info, candidate)
                    return core.present(shown, self._dry_create(served, candidate, namespace, name))
                record = await core.put(served, candidate, 0)
            except RevisionMismatch as error:
                if base and attempt + 1 < GENERATE_ATTEMPTS:
                    continue
                raise AlreadyExists.of(info, name) from error
            return core.present(shown, record.value)
        raise AssertionError  # pragma: no cover

    def _dry_create(self, served: Served, obj: Json, namespace: str, name: str) -> bytes:
        if self._core.store.get(served.key(namespace, name)) is not None:
            raise AlreadyExists.of(served.info, name)
        return _wire.encode(obj)

    async def update(self, asked: Asked, served: Served, name: str, body: Json, namespace: str) -> bytes:
        """Replace; with metadata.resourceVersion only if that is the current one."""
        if asked.subresource == "scale":
            return await self._scale(asked, served, name, namespace, lambda _: _wire.clone(body))
        info = served.info
        sent = metadata.normalise(body, info)
        metadata.check_request_names(sent, name, namespace, info)
        sent = self._core.raised(served, sent, asked.field_validation, asked.warnings)
        version = sent["metadata"].get("resourceVersion", "")
        if not version and served.custom:
            why = Cause("metadata.resourceVersion", "Invalid value: 0x0: must be specified for an update")
            raise Invalid.of(info, name, [why])

        def change(_old: Json) -> Json:
            return _wire.clone(sent)

        return await self._modify_as(asked, served, name, namespace, change)

    async def patch(
        self, asked: Asked, served: Served, name: str, namespace: str, change: Callable[[Json], Json]
    ) -> bytes:
        """Apply `change` (a patch, bound to its document) to the current object."""
        if asked.subresource == "scale":
            return await self._scale(asked, served, name, namespace, change)
        if asked.subresource == "binding" and self._core.gate.active:
            return await self._bound(asked, served, name, namespace, change)
        info = served.info

        def patched(old: Json) -> Json:
            new = metadata.normalise(change(self._core.lowered(served, old)), info)
            if new["metadata"].get("resourceVersion") == old["metadata"]["resourceVersion"]:
                del new["metadata"]["resourceVersion"]
            metadata.check_request_names(new, name, namespace, info)
            if (
                asked.subresource in {"status", "binding"}
                and asked.warnings is None
                and not served.custom
                and served.conversion is None
            ):
                # What the patch has left as it was needs no look again: of all this only the status and the node are
                # written.
                new = {k: v for k, v in new.items() if k in _WITH_STATUS or v is not old.get(k)}
                if asked.subresource == "binding" and isinstance(new.get("spec"), dict):
                    new["spec"] = {"containers": [], "nodeName": new["spec"].get("nodeName", "")}
            return self._core.raised(served, new, asked.field_validation, asked.warnings)

        return await self._modify_as(asked, served, name, namespace, patched)

    async def _modify_as(
        self, asked: Asked, served: Served, name: str, namespace: str, change: Callable[[Json], Json]
    ) -> bytes:
        """Change the object in the version that it is stored in; it comes back in the one that was asked for."""
        hub = self._core.hub(served)
        raw = await self.modify(asked, hub, name, namespace, change)
        return raw if hub is served else self._core.present(served, raw)

    async def _bound(
        self, asked: Asked, served: Served, name: str, namespace: str, change: Callable[[Json], Json]
    ) -> bytes:
        """A binding with a status as two writes: whoever is asked about pods, or about their status, is asked."""

        def anyway(old: Json) -> Json:
            new = change(old)
            return {**new, "metadata": {**new["metadata"], "resourceVersion": old["metadata"]["resourceVersion"]}}

        for part, changed in (("", change), ("status", anyway)):
            step = asked._replace(subresource=part, field_validation="Ignore")
            raw = await self.patch(step, served, name, namespace, changed)
        return raw

    async def _scale(
        self, asked: Asked, served: Served, name: str, namespace: str, change: Callable[[Json], Json]
    ) -> bytes:
        """Change an object's Scale; the Scale as it now is comes back."""
        paths = served.scale or ScalePaths()

        def scaled(old: Json) -> Json:
            before = scale_of(old, paths)
            after = metadata.normalise(change(before), SCALE)
            version = after["metadata"].get("resourceVersion", "")
            if version and version != before["metadata"]["resourceVersion"]:
                raise metadata.modified(served.info, name)
            new = with_replicas(old, after, paths)
            del new["metadata"]["resourceVersion"]
            return new

        whole = asked._replace(subresource="", warnings=None)
        raw = await self.modify(whole, served, name, namespace, scaled, scale=paths)
        return _wire.encode(scale_of(_wire.decode_any(raw), paths))

    async def modify(
        self,
        asked: Asked,
        served: Served,
        name: str,
        namespace: str,
        change: Callable[[Json], Json],
        *,
        applied: bool = False,
        scale: ScalePaths | None = None,
    ) -> bytes:
        """Change the current object, admit the result, write it; again when somebody else was faster.

        `change` gets the current object, must leave it as it is, and returns a new one. What changes belongs to the
        manager, unless it was `applied`: then the new object has its managedFields already. `scale` says where replicas
        are when it is they that are written.
        """
        core, info = self._core, served.info
        user, subresource, warnings, manager = asked.user, asked.subresource, asked.warnings, asked.manager
        while True:
            record = core.record(served, namespace, name)
            old = await core.loaded(served, record)
            sent = change(old)
            self._check_version(served, sent, record)
            new = merge_subresource(served, sent, old, subresource)
            metadata.prepare_update(new, old, info)
            new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]

            def own(new: Json, sent: Json = sent, old: Json = old) -> None:
                if applied:
                    keep_managers(new, sent)
                else:
                    core.fields.updated(
                        served, new, old, manager, "scale" if scale else _OWNED_AS.get(subresource, subresource)
                    )

            own(new)
            if core.gate.active:
                new = await admit_update(
                    core,
                    Attempt(user, UPDATE, served, new, old, subresource, dry_run=asked.dry_run, warnings=warnings),
                    own,
                    scale,
                )
            else:
                new = core.admission.update(user, served, new, old, subresource=subresource)
            if warnings is not None and subresource in {"", "ephemeralcontainers"}:
                core.admission.advise(info, new, old, warnings)
            if new == old:
                return core.present(served, record.value)
            if metadata.has_generation(info, custom=served.custom) and wanted_differs(served, new, old):
                new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
            if asked.dry_run:
                core.admission.written(info, new)
                return _wire.encode(new)
            try:
                if finished(new):
                    written = await core.remove(served, new, record.revision)
                else:
                    written = await core.put(served, new, record.revision)
            except RevisionMismatch as error:
                if error.current is None:
                    raise NotFound.of(info, name) from error
                continue
            return core.present(served, written.value)

    def _check_version(self, served: Served, sent: Json, record: Record) -> None:
        version = sent["metadata"].pop("resourceVersion", "")
        if version and version != str(record.revision):
            if not version.isdigit():
                raise BadRequest(f'metadata.resourceVersion: Invalid value: "{version}": must be a number')
            raise metadata.modified(served.info, sent["metadata"]["name"])


def merge_subresource(served: Served, sent: Json, old: Json, subresource: str) -> Json:
    """The whole object after a write to one of its parts: the rest stays as it is."""
    info = served.info
    if not subresource:
        new = dict(sent)
        if served.has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        if info.kind == "Namespace" and not info.group:
            new["spec"] = {**(sent.get("spec") or {}), "finalizers": (old.get("spec") or {}).get("finalizers", [])}
        return new
    # Only the part that is written and the metadata change; the rest is the old object's, and changed by nobody.
    new = {**old, "metadata": dict(old["metadata"])}
    if subresource == "ephemeralcontainers":
        added = (sent.get("spec") or {}).get("ephemeralContainers") or []
        new["spec"] = {**(old.get("spec") or {}), "ephemeralContainers": added}
    elif subresource == "binding":
        # The node that a pod has come to, and what it says of it, by the one who is scheduler and kubelet.
        new["spec"] = {**old["spec"], "nodeName": (sent.get("spec") or {}).get("nodeName", "")}
        new["status"] = sent.get("status") or {}
    elif subresource == "finalize":
        new["spec"] = {**(old.get("spec") or {}), "finalizers": (sent.get("spec") or {}).get("finalizers", [])}
    else:
        new.pop(subresource, None)
        if subresource in sent:
            new[subresource] = sent[subresource]
    meta = new["metadata"]
    if sent["metadata"].get("uid"):
        meta["uid"] = sent["metadata"]["uid"]
    return new


def keep_managers(new: Json, sent: Json) -> None:
    """The managedFields that were made for `sent`, also when only a part of it is written."""
    if metadata.MANAGED_FIELDS in sent["metadata"]:
        new["metadata"][metadata.MANAGED_FIELDS] = sent["metadata"][metadata.MANAGED_FIELDS]
    else:
        new["metadata"].pop(metadata.MANAGED_FIELDS, None)


def wanted_differs(served: Served, new: Json, old: Json) -> bool:
    """Whether what a person wants has changed: everything but metadata and, where it is a subresource, status."""
    aside = {"metadata", "apiVersion", "kind"} | ({"status"} if served.has_status else set())
    keys = (new.keys() | old.keys()) - aside
    deleted = ("deletionTimestamp" in new["metadata"]) != ("deletionTimestamp" in old["metadata"])
    return deleted or any(new.get(k) != old.get(k) for k in keys)


def finished(obj: Json) -> bool:
    """Whether a deletion that had begun has nothing left to wait for."""
    meta = obj["metadata"]
    if "deletionTimestamp" not in meta or meta.get("finalizers"):
        return False
    if obj["kind"] == "Namespace" and obj["apiVersion"] == "v1" and (obj.get("spec") or {}).get("finalizers"):
        return False
    return not meta.get("deletionGracePeriodSeconds")

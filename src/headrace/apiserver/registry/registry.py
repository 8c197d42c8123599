"""The registry: every verb of the Kubernetes API on every kind, over one store.

Each method authorizes first; the in-process client and the HTTP server stand on the same methods, so there is
no way around RBAC, validation or admission.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headrace.api import (
    _wire,
    admissionregistration,
    apiextensions,
    apiregistration,
    apps,
    autoscaling,
    batch,
    coordination,
    core,
    discovery,
    limits,
    networking,
    policy,
    rbac,
    scheduling,
    storage,
)
from headrace.api.errors import MethodNotAllowed, NotFound, ServiceUnavailable
from headrace.api.rbac import ClusterRole
from headrace.apiserver import patch as patches
from headrace.apiserver.admission.chain import Admission
from headrace.apiserver.admission.dynamic.gate import PREFIX as ADMISSION_PREFIX
from headrace.apiserver.admission.dynamic.gate import Gate
from headrace.apiserver.admission.lookup import StoreLookup
from headrace.apiserver.authz.rbac import GROUP as RBAC_GROUP
from headrace.apiserver.authz.rbac import Attributes, Authorizer
from headrace.apiserver.fieldmanager import FieldManagers
from headrace.apiserver.registry.apiservices import PREFIX as API_SERVICES_PREFIX
from headrace.apiserver.registry.apiservices import ApiServices
from headrace.apiserver.registry.applies import Applies
from headrace.apiserver.registry.conversions import CONVERTED
from headrace.apiserver.registry.converting import ConvertedWatch, shown
from headrace.apiserver.registry.core import Core
from headrace.apiserver.registry.definitions import Definitions
from headrace.apiserver.registry.deletes import Deletes
from headrace.apiserver.registry.kinds import KindCatalog, builtin, converted
from headrace.apiserver.registry.reads import Reads
from headrace.apiserver.registry.scale import ScalePaths, scale_of
from headrace.apiserver.registry.selectors import selected_name
from headrace.apiserver.registry.writes import Asked, Writes
from headrace.apiserver.schema import SchemaCatalog
from headrace.client.base import PatchType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from headrace.api.identity import User
    from headrace.api.meta import KindInfo
    from headrace.apiserver.registry.kinds import Served
    from headrace.client.base import Page, Propagation, RawEvent, RawObjects, Warnings
    from headrace.machinery.clock import Clock
    from headrace.machinery.settings import Settings
    from headrace.store.base import Change, Record, Store

_GROUPS = (
    *(core, limits, apps, batch, rbac, storage, networking, policy, scheduling, autoscaling, coordination),
    *(discovery, apiextensions, admissionregistration, apiregistration),
)
BUILTIN: tuple[KindInfo, ...] = tuple(kind.INFO for module in _GROUPS for kind in module.KINDS)
_WRITABLE_PARTS = frozenset({"", "status", "scale", "finalize", "ephemeralcontainers", "binding"})
_SCALE_HEAD = b'{"apiVersion":"autoscaling/'
_RBAC_PREFIX = f"/registry/{RBAC_GROUP}/"
_DEFINITIONS_PREFIX = "/registry/apiextensions.k8s.io/customresourcedefinitions/"


class Registry:
    """See `client.base.Registry`."""

    def __init__(self, store: Store, *, clock: Clock, settings: Settings, kinds: Iterable[KindInfo] = BUILTIN) -> None:
        self.store = store
        self.settings = settings
        self.kinds = KindCatalog()
        self.kinds.add([*builtin(kinds), *(converted(info, how) for info, how in CONVERTED.items())])
        self.services = ApiServices()
        self.schemas = SchemaCatalog(self.kinds)
        self.authorizer = Authorizer(self._stored)
        lookup = StoreLookup(store, self.kinds)
        admission = Admission(self.schemas, lookup, self.authorizer, clock, service_cidr=settings.service_cidr)
        fields = FieldManagers(self.schemas, self.kinds, clock)
        self.gate = Gate(lookup, self.authorizer, self.kinds)
        self.core = Core(store, self.kinds, self.schemas, clock, self.authorizer, admission, fields, self.gate)
        self._reads, self._writes, self._deletes = Reads(self.core), Writes(self.core), Deletes(self.core)
        self._applies = Applies(self.core, self._writes)
        self._definitions = Definitions(self.core, self._writes, self._deletes)
        store.on_change(self._changed)

    async def start(self) -> None:
        """Serve what the store's custom resource definitions name; the store is open."""
        self._definitions.start()
        for record in self.store.range(API_SERVICES_PREFIX):
            self.services.written(record.value, deleted=False)
        self.gate.changed()

    async def stop(self) -> None:
        """Interrupt what runs in the background; it goes on at the next start."""
        await self._definitions.stop()
        await self.gate.close()

    async def get(self, user: User, info: KindInfo, name: str, namespace: str = "", *, subresource: str = "") -> bytes:
        """See the protocol."""
        if self.core.served(info).converter is None:
            return self.read(user, info, name, namespace, subresource=subresource)
        self.core.authorize(user, "get", info, namespace, name, subresource=subresource)
        served = self._served(info, subresource)
        (raw,) = await shown(self.core, served, [self.core.record(served, namespace, name).value])
        if subresource == "scale":
            return _wire.encode(scale_of(_wire.decode_any(raw), served.scale or ScalePaths()))
        return raw

    def read(self, user: User, info: KindInfo, name: str, namespace: str = "", *, subresource: str = "") -> bytes:
        """As `get`, at once: nothing is waited for. Raises ServiceUnavailable where a webhook has to convert."""
        self.core.authorize(user, "get", info, namespace or self._self_scope(info, name), name, subresource=subresource)
        served = self._served(info, subresource)
        if served.converter is not None:
            raise ServiceUnavailable(f"{info.resource} are converted by a webhook, which has to be waited for")
        raw = self.core.present(served, self.core.record(served, namespace, name).value)
        if subresource == "scale":
            return _wire.encode(scale_of(_wire.decode_any(raw), served.scale or ScalePaths()))
        return self._aggregated(raw) if info == ClusterRole.INFO else raw

    def stored(self, info: KindInfo, name: str, namespace: str = "") -> bytes | None:
        """An object as the store has it, None when it is not there: for the server's own questions, as it authorizes
        nobody.
        """
        found = self.record(info, name, namespace)
        return found.value if found is not None else None

    def record(self, info: KindInfo, name: str, namespace: str = "") -> Record | None:
        """As `stored`, with its revision."""
        return self.store.get(self.core.served(info).key(namespace, name))

    async def list(
        self,
        user: User,
        info: KindInfo,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
        match: str = "",
    ) -> Page:
        """See the protocol. `match` is resourceVersionMatch: "", Exact or NotOlderThan."""
        self.core.authorize(user, "list", info, namespace, selected_name(fields))
        served = self.core.served(info)
        found = self._reads.list(
            served,
            namespace,
            labels=labels,
            fields=fields,
            limit=limit,
            continue_token=continue_token,
            resource_version=resource_version,
            match=match,
        )
        if served.converter is not None:
            return replace(found, items=await shown(self.core, served, found.items))
        return found

    def watch(
        self,
        user: User,
        info: KindInfo,
        namespace: str = "",
        *,
        resource_version: str = "",
        labels: str = "",
        fields: str = "",
        bookmarks: bool = False,
        send_initial_events: bool = False,
    ) -> AsyncIterator[RawEvent]:
        """See the protocol. Raises at once; the subscription begins with the call."""
        self.core.authorize(user, "watch", info, namespace, selected_name(fields))
        served = self.core.served(info)
        events = self._reads.watch(
            served,
            namespace,
            resource_version=resource_version,
            labels=labels,
            fields=fields,
            bookmarks=bookmarks,
            send_initial_events=send_initial_events,
        )
        return events if served.converter is None else ConvertedWatch(self.core, served, events)

    async def create(
        self,
        user: User,
        info: KindInfo,
        body: dict[str, Any],
        namespace: str = "",
        *,
        dry_run: bool = False,
        field_validation: str = "Ignore",
        warnings: Warnings | None = None,
        field_manager: str = "",
    ) -> bytes:
        """See the protocol."""
        self.core.authorize(user, "create", info, namespace)
        served = self.core.served(info)
        asked = Asked(user, "", dry_run, field_validation, warnings, field_manager)
        raw = await self._writes.create(asked, served, body, namespace)
        return await self._in_version(served, raw)

    async def update(
        self,
        user: User,
        info: KindInfo,
        name: str,
        body: dict[str, Any],
        namespace: str = "",
        *,
        subresource: str = "",
        dry_run: bool = False,
        field_validation: str = "Ignore",
        warnings: Warnings | None = None,
        field_manager: str = "",
    ) -> bytes:
        """See the protocol."""
        self.core.authorize(
            user, "update", info, namespace or self._self_scope(info, name), name, subresource=subresource
        )
        served = self._served(info, subresource)
        asked = Asked(user, subresource, dry_run, field_validation, warnings, field_manager)
        raw = await self._writes.update(asked, served, name, body, namespace)
        return await self._in_version(served, raw)

    async def patch(
        self,
        user: User,
        info: KindInfo,
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
        dry_run: bool = False,
        field_validation: str = "Ignore",
        warnings: Warnings | None = None,
        field_manager: str = "",
    ) -> bytes:
        """See the protocol."""
        self.core.authorize(
            user, "patch", info, namespace or self._self_scope(info, name), name, subresource=subresource
        )
        served = self._served(info, subresource)
        change = patches.bind(patch_type, patch, None if served.custom else self.schemas.node(info))
        asked = Asked(user, subresource, dry_run, field_validation, warnings, field_manager)
        raw = await self._writes.patch(asked, served, name, namespace, change)
        return await self._in_version(served, raw)

    async def apply(
        self,
        user: User,
        info: KindInfo,
        name: str,
        config: dict[str, Any],
        namespace: str = "",
        *,
        field_manager: str,
        force: bool = False,
        subresource: str = "",
        dry_run: bool = False,
        field_validation: str = "Ignore",
        warnings: Warnings | None = None,
    ) -> tuple[bytes, bool]:
        """Server-side apply: the object as it now is, and whether it is new."""
        self.core.authorize(
            user, "patch", info, namespace or self._self_scope(info, name), name, subresource=subresource
        )
        served = self._served(info, subresource)
        asked = Asked(user, subresource, dry_run, field_validation, warnings, field_manager)
        raw, created = await self._applies.apply(asked, served, name, config, namespace, force=force)
        return await self._in_version(served, raw), created

    async def delete(
        self,
        user: User,
        info: KindInfo,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: Propagation | None = None,
        grace_period_seconds: int | None = None,
        dry_run: bool = False,
        warnings: Warnings | None = None,
    ) -> bytes:
        """See the protocol."""
        self.core.authorize(user, "delete", info, namespace or self._self_scope(info, name), name)
        served = self.core.served(info)
        raw = await self._deletes.delete(
            served,
            name,
            namespace,
            user=user,
            uid=uid,
            resource_version=resource_version,
            propagation=propagation,
            grace_period_seconds=grace_period_seconds,
            dry_run=dry_run,
            warnings=warnings,
        )
        return await self._in_version(served, raw)

    async def delete_collection(
        self,
        user: User,
        info: KindInfo,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        propagation: Propagation | None = None,
        grace_period_seconds: int | None = None,
        dry_run: bool = False,
        warnings: Warnings | None = None,
    ) -> RawObjects:
        """Delete what the selectors match; what has gone meanwhile is left out."""
        self.core.authorize(user, "deletecollection", info, namespace)
        served = self.core.served(info)
        page = self._reads.list(
            served,
            namespace,
            labels=labels,
            fields=fields,
            limit=0,
            continue_token="",
            resource_version="",
            match="",
        )
        deleted = []
        for raw in page.items:
            meta = self._meta(raw)
            try:
                deleted.append(
                    await self._deletes.delete(
                        served,
                        meta["name"],
                        meta.get("namespace", ""),
                        user=user,
                        uid=meta["uid"],
                        resource_version="",
                        propagation=propagation,
                        grace_period_seconds=grace_period_seconds,
                        dry_run=dry_run,
                        warnings=warnings,
                    )
                )
            except NotFound:
                continue
        return await shown(self.core, served, deleted)

    async def _in_version(self, served: Served, raw: bytes) -> bytes:
        """What a write has left, in the version in which it was written; a Scale is one in every version."""
        if served.converter is None or raw.startswith(_SCALE_HEAD):
            return raw
        (made,) = await shown(self.core, served, [raw])
        return made

    async def authorize(
        self,
        user: User,
        verb: str,
        *,
        group: str = "",
        resource: str,
        subresource: str = "",
        namespace: str = "",
        name: str = "",
    ) -> bool:
        """See the protocol."""
        return self.authorizer.allows(user, Attributes(verb, group, resource, subresource, namespace, name))

    def _served(self, info: KindInfo, subresource: str) -> Served:
        served = self.core.served(info)
        if subresource and subresource not in info.subresources:
            raise NotFound("the server could not find the requested resource", kind=info.plural, group=info.group)
        if subresource not in _WRITABLE_PARTS:
            raise MethodNotAllowed(f"the subresource {info.plural}/{subresource} is not an object of its own")
        return served

    def _stored(self, info: KindInfo) -> Iterable[bytes]:
        found = self.kinds.lookup(info.group, info.version, info.plural)
        return [r.value for r in self.store.range(self.kinds.served(found).prefix)] if found else []

    def _changed(self, change: Change) -> None:
        key = change.record.key
        if key.startswith(_RBAC_PREFIX):
            self.authorizer.changed()
        elif key.startswith(ADMISSION_PREFIX):
            self.gate.changed()
        elif key.startswith(_DEFINITIONS_PREFIX):
            self._definitions.written(_wire.decode_any(change.record.value), deleted=change.deleted)
        elif key.startswith(API_SERVICES_PREFIX):
            self.services.written(change.record.value, deleted=change.deleted)

    def _aggregated(self, raw: bytes) -> bytes:
        """A ClusterRole that gathers others, with the rules that it has right now."""
        if b'"aggregationRule"' not in raw:
            return raw
        obj = _wire.decode_any(raw)
        rules = self.authorizer.role_rules("ClusterRole", obj["metadata"]["name"])
        obj["rules"] = [_wire.to_builtins(r) for r in rules or ()]
        return _wire.encode(obj)

    @staticmethod
    def _self_scope(info: KindInfo, name: str) -> str:
        return name if info.kind == "Namespace" and not info.group else ""

    @staticmethod
    def _meta(raw: bytes) -> dict[str, Any]:
        meta: dict[str, Any] = _wire.decode_any(raw)["metadata"]
        return meta

"""What reads, writes and deletions share: the store, the kinds, who may, and what follows a write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from headrace.api import _wire
from headrace.api.errors import Forbidden, InsufficientStorage, InternalError, NotFound
from headrace.apiserver.authz.rbac import Attributes
from headrace.apiserver.registry.converting import in_version, shown
from headrace.store.base import DiskRefused, RevisionMismatch, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.errors import StatusError
    from headrace.api.identity import User
    from headrace.api.meta import KindInfo
    from headrace.apiserver.admission.chain import Admission
    from headrace.apiserver.admission.dynamic.gate import Gate
    from headrace.apiserver.authz.rbac import Authorizer
    from headrace.apiserver.fieldmanager import FieldManagers
    from headrace.apiserver.registry.kinds import KindCatalog, Served
    from headrace.apiserver.schema.catalog import SchemaCatalog
    from headrace.client.base import Warnings
    from headrace.machinery.clock import Clock
    from headrace.store.base import Record, Store

Json = dict[str, Any]
FULL_ADVICE = "Make room on the disk that holds the platform's home, or make it writable, and try again"
_HEAD = '{"apiVersion":"'


class _Write(Protocol):
    """A method of the store."""

    async def __call__(self, key: str, encode: Callable[[int], bytes], *, expected: int) -> Record: ...


@dataclass(slots=True)
class Core:
    """The registry's parts, shared by its verbs."""

    store: Store
    kinds: KindCatalog
    schemas: SchemaCatalog
    clock: Clock
    authorizer: Authorizer
    admission: Admission
    fields: FieldManagers
    gate: Gate

    def authorize(
        self, user: User, verb: str, info: KindInfo, namespace: str, name: str = "", *, subresource: str = ""
    ) -> None:
        """Raises Forbidden in the real server's words."""
        scope = namespace if info.namespaced or info.kind == "Namespace" else ""
        asked = Attributes(verb, info.group, info.plural, subresource, scope, name)
        if not self.authorizer.allows(user, asked):
            raise forbidden(user, asked)

    def served(self, info: KindInfo) -> Served:
        """See KindCatalog."""
        return self.kinds.served(info)

    def record(self, served: Served, namespace: str, name: str) -> Record:
        """The stored object. Raises NotFound."""
        found = self.store.get(served.key(namespace, name))
        if found is None:
            raise NotFound.of(served.info, name)
        return found

    def present(self, served: Served, raw: bytes) -> bytes:
        """Stored JSON as the requested version shows it."""
        if served.conversion is not None:
            return _wire.encode(self.lowered(served, _wire.decode_any(raw)))
        if not served.custom or served.converter is not None:
            return raw  # what is converted by a webhook waits for it: see converting.py
        shown = relabel(raw, served.info.api_version)
        return self.schemas.filled(served.info, shown) if served.defaults else shown

    def lowered(self, served: Served, obj: Json) -> Json:
        """A stored object in the version of a kind that is stored as another one."""
        if served.conversion is None:
            return obj
        return {**served.conversion.down(obj), "apiVersion": served.info.api_version, "kind": served.info.kind}

    def hub(self, served: Served) -> Served:
        """The kind as which this one is stored; mostly the kind itself."""
        return served if served.conversion is None else self.kinds.served(served.conversion.hub)

    def raised(self, served: Served, obj: Json, field_validation: str, warnings: Warnings | None) -> Json:
        """What was sent, decoded, as the kind that is stored, with its defaults."""
        obj = self.admission.decode(served, obj, field_validation, warnings)
        if served.conversion is None:
            return obj
        hub = self.hub(served)
        lifted = {**served.conversion.up(obj), "apiVersion": hub.info.api_version, "kind": hub.info.kind}
        return self.admission.decode(hub, lifted, "Ignore", None)

    def load(self, served: Served, record: Record) -> Json:
        """The stored object, decoded, in the requested version."""
        obj: Json = _wire.decode_any(record.value)
        obj["apiVersion"] = served.info.api_version
        if served.defaults and (schema := self.schemas.custom(served.info)) is not None:
            return schema.default(obj)
        return obj

    async def loaded(self, served: Served, record: Record) -> Json:
        """The same of any kind, also where a webhook converts it. Raises InternalError."""
        if served.converter is None:
            return self.load(served, record)
        (raw,) = await shown(self, served, [record.value])
        found: Json = _wire.decode_any(raw)
        return found

    def encoder(self, served: Served, obj: Json) -> Callable[[int], bytes]:
        """Encodes `obj` in the storage version with the revision that the write gets."""
        group = served.info.group
        stored = {**obj, "apiVersion": f"{group}/{served.storage_version}" if group else served.storage_version}

        def encode(revision: int) -> bytes:
            stored["metadata"] = {**obj["metadata"], "resourceVersion": str(revision)}
            return _wire.encode_to_keep(stored)

        return encode

    async def put(self, served: Served, obj: Json, expected: int) -> Record:
        """Write durably. Raises RevisionMismatch, InsufficientStorage, InternalError."""
        try:
            return await self._write(self.store.put, served, obj, expected)
        finally:
            self.admission.written(served.info, obj)

    async def remove(self, served: Served, obj: Json, expected: int) -> Record:
        """Delete durably. Raises RevisionMismatch, InsufficientStorage, InternalError."""
        return await self._write(self.store.delete, served, obj, expected)

    async def _write(self, write: _Write, served: Served, obj: Json, expected: int) -> Record:
        meta = obj["metadata"]
        key = served.key(meta.get("namespace", ""), meta["name"])
        try:
            stored = obj
            if served.converter is not None:
                (stored,) = await in_version(self, served, [obj], served.storage_version)
            return await write(key, self.encoder(served, stored), expected=expected)
        except RevisionMismatch:
            raise
        except StoreError as error:
            raise not_stored(served.info, meta["name"], error) from error


def not_stored(info: KindInfo, name: str, error: StoreError) -> StatusError:
    """A write was refused; nothing has changed."""
    full = isinstance(error, DiskRefused)
    refusal, advice = (InsufficientStorage, FULL_ADVICE) if full else (InternalError, "The platform's log may say more")
    return refusal(
        f'{info.resource} "{name}" could not be stored, nothing was changed: {error}. {advice}',
        kind=info.plural,
        group=info.group,
        name=name,
    )


def relabel(raw: bytes, api_version: str) -> bytes:
    """Change the apiVersion with which every stored object begins, unless it is the wanted one."""
    wanted = f'{_HEAD}{api_version}"'.encode()
    if raw.startswith(wanted):
        return raw
    return wanted + raw[raw.index(b'"', len(_HEAD)) + 1 :]


def forbidden(user: User, asked: Attributes) -> Forbidden:
    """`pods "x" is forbidden: User "u" cannot get resource "pods" in API group "" in the namespace "n"`."""
    if asked.path:
        return Forbidden(f'forbidden: User "{user.name}" cannot {asked.verb} path "{asked.path}"')
    resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    qualified = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    named = f' "{asked.name}"' if asked.name else ""
    return Forbidden(
        f'{qualified}{named} is forbidden: User "{user.name}" cannot {asked.verb} resource "{resource}" '
        f'in API group "{asked.group}" {where}',
        kind=asked.resource,
        group=asked.group,
        name=asked.name,
    )

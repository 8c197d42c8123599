"""The client of the embedded cluster: in process, into the registry, under one identity.

Nothing is skipped: the registry authorizes, validates and admits what comes from here as it does for HTTP.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, Literal

from headrace.api import _wire
from headrace.api.errors import AlreadyExists, NotFound
from headrace.client.base import ObjectList, T, WatchEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from headrace.api.identity import User
    from headrace.client.base import Propagation, RawEvent, Registry, TokenIssuer

SERVER_OWNED = ("uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp")


def fields_to_apply(obj: object) -> dict[str, Any]:
    """What `apply` sends of an object: the fields that it sets, without status and what the server owns."""
    body: dict[str, Any] = _wire.to_builtins(obj)
    body.pop("status", None)
    meta = dict(body.get("metadata") or {})
    for key in SERVER_OWNED:
        meta.pop(key, None)
    return {**body, "metadata": meta}


class EmbeddedClient:
    """See `client.base.Client`."""

    def __init__(self, registry: Registry, user: User, tokens: TokenIssuer | None = None) -> None:
        self._registry, self._user, self._tokens = registry, user, tokens

    @property
    def user(self) -> User:
        """Under whose name this client acts."""
        return self._user

    async def get(
        self, kind: type[T], name: str, namespace: str | None = None, *, subresource: Literal["", "scale"] = ""
    ) -> T:
        """See Client."""
        return _wire.decode(
            kind, await self._registry.get(self._user, kind.INFO, name, namespace or "", subresource=subresource)
        )

    async def list(
        self, kind: type[T], namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> ObjectList[T]:
        """See Client."""
        page = await self._registry.list(self._user, kind.INFO, namespace or "", labels=labels, fields=fields)
        return ObjectList([_wire.decode(kind, raw) for raw in page.items], str(page.resource_version))

    def watch(
        self,
        kind: type[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        labels: str = "",
        fields: str = "",
    ) -> AsyncIterator[WatchEvent[T]]:
        """See Client. Raises at once; nothing that happens after the call is missed."""
        events = self._registry.watch(
            self._user,
            kind.INFO,
            namespace or "",
            resource_version=resource_version,
            labels=labels,
            fields=fields,
        )
        return _Watch(kind, events)

    async def create(self, obj: T) -> T:
        """See Client."""
        raw = await self._registry.create(self._user, obj.INFO, _wire.to_builtins(obj), obj.metadata.namespace)
        return _wire.decode(type(obj), raw)

    async def update(self, obj: T) -> T:
        """See Client."""
        meta = obj.metadata
        raw = await self._registry.update(self._user, obj.INFO, meta.name, _wire.to_builtins(obj), meta.namespace)
        return _wire.decode(type(obj), raw)

    async def patch(
        self,
        kind: type[T],
        name: str,
        patch: dict[str, Any],
        namespace: str | None = None,
        *,
        subresource: Literal["", "status", "scale", "finalize", "binding"] = "",
        resource_version: str = "",
    ) -> T:
        """See Client."""
        body = patch
        if resource_version:
            body = {**patch, "metadata": {**(patch.get("metadata") or {}), "resourceVersion": resource_version}}
        raw = await self._registry.patch(self._user, kind.INFO, name, body, namespace or "", subresource=subresource)
        if subresource == "scale":
            return await self.get(kind, name, namespace)
        return _wire.decode(kind, raw)

    async def apply(self, obj: T) -> T:
        """See Client."""
        kind, meta = type(obj), obj.metadata
        body = fields_to_apply(obj)
        while True:
            try:
                return await self.patch(kind, meta.name, body, meta.namespace or None)
            except NotFound as missing:
                if missing.kind != kind.INFO.plural:
                    raise
            try:
                raw = await self._registry.create(self._user, kind.INFO, body, meta.namespace)
            except AlreadyExists:
                continue
            return _wire.decode(kind, raw)

    async def delete(
        self,
        kind: type[T],
        name: str,
        namespace: str | None = None,
        *,
        uid: str = "",
        propagation: Propagation = "Background",
        grace_period_seconds: int | None = None,
    ) -> None:
        """See Client."""
        await self._registry.delete(
            self._user,
            kind.INFO,
            name,
            namespace or "",
            uid=uid,
            propagation=propagation,
            grace_period_seconds=grace_period_seconds,
        )

    async def request_token(
        self,
        namespace: str,
        service_account: str,
        *,
        audiences: Sequence[str] = (),
        expiration_seconds: int = 3600,
        pod_name: str = "",
        pod_uid: str = "",
    ) -> str:
        """See Client."""
        return await self._issuer().issue(
            self._user,
            namespace,
            service_account,
            audiences=audiences,
            expiration_seconds=expiration_seconds,
            pod_name=pod_name,
            pod_uid=pod_uid,
        )

    async def review_token(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """See Client."""
        return await self._issuer().review(token, audiences)

    async def review_access(
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
        """See Client."""
        return await self._registry.authorize(
            user, verb, group=group, resource=resource, subresource=subresource, namespace=namespace, name=name
        )

    def _issuer(self) -> TokenIssuer:
        if self._tokens is None:
            raise RuntimeError("this client was made without a token issuer: give one to EmbeddedClient")
        return self._tokens


class _Watch(Generic[T]):
    def __init__(self, kind: type[T], events: AsyncIterator[RawEvent]) -> None:
        self._kind, self._events = kind, events

    def __aiter__(self) -> _Watch[T]:
        return self

    async def __anext__(self) -> WatchEvent[T]:
        event = await anext(self._events)
        return WatchEvent(event.type, _seen(self._kind, event.object))


@lru_cache(maxsize=256)
def _seen(kind: type[T], raw: bytes) -> T:
    """What watchers of a kind see one after the other is decoded once."""
    return _wire.decode(kind, raw)

"""Fault injection: a client that does what a test says before it does what it was asked.

client = Intercepted(cluster.client)
client.fail("create", Pod, TooManyRequests("slow down"), times=2)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from headrace.api.errors import StatusError
    from headrace.api.identity import User
    from headrace.api.meta import Object
    from headrace.client.base import Client, ObjectList, Propagation, T, WatchEvent


@dataclass(frozen=True, slots=True)
class Call:
    """One call, before it is made."""

    verb: str
    """get, list, watch, create, update, patch, apply or delete."""
    kind: type[Object]
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(slots=True)
class _Fault:
    verb: str
    kind: type[Object] | None
    error: StatusError
    times: int

    def hits(self, call: Call) -> bool:
        return self.times > 0 and self.verb in ("*", call.verb) and self.kind in (None, call.kind)


class Intercepted:
    """See `client.base.Client`. `calls` lists everything that was asked."""

    def __init__(self, client: Client, before: Callable[[Call], Awaitable[None]] | None = None) -> None:
        self._client, self._before = client, before
        self._faults: list[_Fault] = []
        self.calls: list[Call] = []

    def fail(self, verb: str, kind: type[Object] | None, error: StatusError, *, times: int = 1) -> None:
        """Raise `error` instead of the next calls of a verb ("*": any) on a kind (None: any)."""
        self._faults.append(_Fault(verb, kind, error, times))

    async def get(
        self, kind: type[T], name: str, namespace: str | None = None, *, subresource: Literal["", "scale"] = ""
    ) -> T:
        """See Client."""
        await self._meet(Call("get", kind, namespace or "", name))
        return await self._client.get(kind, name, namespace, subresource=subresource)

    async def list(
        self, kind: type[T], namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> ObjectList[T]:
        """See Client."""
        await self._meet(Call("list", kind, namespace or ""))
        return await self._client.list(kind, namespace, labels=labels, fields=fields)

    def watch(
        self,
        kind: type[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        labels: str = "",
        fields: str = "",
    ) -> AsyncIterator[WatchEvent[T]]:
        """See Client. Faults are raised at once; `before` is not asked."""
        self._raise(Call("watch", kind, namespace or ""))
        return self._client.watch(kind, namespace, resource_version=resource_version, labels=labels, fields=fields)

    async def create(self, obj: T) -> T:
        """See Client."""
        await self._meet(Call("create", type(obj), obj.metadata.namespace, obj.metadata.name))
        return await self._client.create(obj)

    async def update(self, obj: T) -> T:
        """See Client."""
        await self._meet(Call("update", type(obj), obj.metadata.namespace, obj.metadata.name))
        return await self._client.update(obj)

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
        await self._meet(Call("patch", kind, namespace or "", name, subresource))
        return await self._client.patch(
            kind, name, patch, namespace, subresource=subresource, resource_version=resource_version
        )

    async def apply(self, obj: T) -> T:
        """See Client."""
        await self._meet(Call("apply", type(obj), obj.metadata.namespace, obj.metadata.name))
        return await self._client.apply(obj)

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
        await self._meet(Call("delete", kind, namespace or "", name))
        await self._client.delete(
            kind, name, namespace, uid=uid, propagation=propagation, grace_period_seconds=grace_period_seconds
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
        return await self._client.request_token(
            namespace,
            service_account,
            audiences=audiences,
            expiration_seconds=expiration_seconds,
            pod_name=pod_name,
            pod_uid=pod_uid,
        )

    async def review_token(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """See Client."""
        return await self._client.review_token(token, audiences)

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
        return await self._client.review_access(
            user, verb, group=group, resource=resource, subresource=subresource, namespace=namespace, name=name
        )

    async def _meet(self, call: Call) -> None:
        self._raise(call)
        if self._before is not None:
            await self._before(call)

    def _raise(self, call: Call) -> None:
        self.calls.append(call)
        for fault in self._faults:
            if fault.hits(call):
                fault.times -= 1
                raise fault.error

"""Who belongs to a controller: children are claimed by selector and released when their labels no longer match.

Decided from a live list, not from a cache: what this process has just created or deleted is seen, so that no
reconcile acts twice on the same need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from headrace.api import _wire
from headrace.api.errors import Conflict, NotFound
from headrace.api.meta import Object
from headrace.controllermanager import pods

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.meta import LabelSelector
    from headrace.client.base import Client

C = TypeVar("C", bound=Object)


async def claim(
    client: Client, kind: type[C], owner: Object, selector: LabelSelector, member: Callable[[C], bool] = lambda _: True
) -> list[C]:
    """The owner's children, after adopting orphans that match and releasing those that no longer do; `member` says
    what may be a child beside its labels.
    """
    listed = await client.list(kind, owner.metadata.namespace)
    claimed: list[C] = []
    for child in listed.items:
        ref = pods.controller_of(child)
        matches = selector.matches(child.metadata.labels) and member(child)
        if ref is not None:
            if ref.uid != owner.metadata.uid:
                continue
            if matches or owner.metadata.deletion_timestamp is not None:
                claimed.append(child)
            else:
                await _release(client, kind, child, owner)
        elif matches and owner.metadata.deletion_timestamp is None and child.metadata.deletion_timestamp is None:
            adopted = await _adopt(client, kind, child, owner)
            if adopted is not None:
                claimed.append(adopted)
    return claimed


async def _adopt(client: Client, kind: type[C], child: C, owner: Object) -> C | None:
    references = [*child.metadata.owner_references, owner.owner_reference()]
    return await _write(client, kind, child, references)


async def _release(client: Client, kind: type[C], child: C, owner: Object) -> None:
    references = [r for r in child.metadata.owner_references if r.uid != owner.metadata.uid]
    await _write(client, kind, child, references)


async def _write(client: Client, kind: type[C], child: C, references: list[Any]) -> C | None:
    meta = child.metadata
    patch = {"metadata": {"ownerReferences": _wire.to_builtins(references) or None}}
    try:
        return await client.patch(kind, meta.name, patch, meta.namespace, resource_version=meta.resource_version)
    except (Conflict, NotFound):
        return None  # it changed: the change wakes us again

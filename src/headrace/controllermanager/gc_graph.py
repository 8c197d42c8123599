"""Who owns whom, as a graph over all kinds, and what must happen to an object because of its owners.

Pure: the collector feeds it what it sees and asks. An owner that was never seen counts as unknown, not as gone: only
a look at the live object may say that it is gone (upstream: pkg/controller/garbagecollector).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.meta import KindInfo, Object, OwnerReference

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(slots=True)
class Node:
    """An object, as far as its deletion is concerned."""

    info: KindInfo
    namespace: str
    name: str
    uid: str
    owners: tuple[OwnerReference, ...] = ()
    deleting: bool = False
    finalizers: tuple[str, ...] = ()
    dependents: set[str] = field(default_factory=set)
    """Uids of objects that name this one as an owner."""

    @property
    def waits_for_dependents(self) -> bool:
        """Whether it goes only after those that block its deletion."""
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def orphans_dependents(self) -> bool:
        """Whether those that it owns are to be kept."""
        return self.deleting and ORPHAN in self.finalizers


class Graph:
    """Nodes by uid. Dependents are known also of owners that were not seen yet."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._waiting: dict[str, set[str]] = {}

    def get(self, uid: str) -> Node | None:
        """The node."""
        return self._nodes.get(uid)

    def put(self, info: KindInfo, obj: Object) -> list[str]:
        """An object was added or changed; uids that must be looked at."""
        meta = obj.metadata
        before = self._nodes.get(meta.uid)
        node = Node(
            info,
            meta.namespace,
            meta.name,
            meta.uid,
            tuple(meta.owner_references),
            meta.deletion_timestamp is not None,
            tuple(meta.finalizers),
            before.dependents if before else self._waiting.pop(meta.uid, set()),
        )
        self._nodes[meta.uid] = node
        now = {ref.uid for ref in node.owners}
        for uid in {ref.uid for ref in before.owners} - now if before else ():
            self._forget(uid, meta.uid)
        for uid in now:
            self._dependents_of(uid).add(meta.uid)
        touched = []
        if node.owners or node.waits_for_dependents or node.orphans_dependents:
            touched.append(meta.uid)
        # An owner that waits may wait no more, when this one stopped blocking it.
        owners = now | ({ref.uid for ref in before.owners} if before else set())
        touched += [u for u in owners if (o := self._nodes.get(u)) is not None and o.waits_for_dependents]
        if node.waits_for_dependents and not (before is not None and before.waits_for_dependents):
            touched += node.dependents
        return touched

    def remove(self, uid: str) -> list[str]:
        """An object is gone; uids that must be looked at: its dependents, and owners that waited for it."""
        node = self._nodes.pop(uid, None)
        if node is None:
            return []
        touched = list(node.dependents)
        if node.dependents:
            self._waiting[uid] = node.dependents
        for ref in node.owners:
            self._forget(ref.uid, uid)
            owner = self._nodes.get(ref.uid)
            if owner is not None and owner.waits_for_dependents:
                touched.append(ref.uid)
        return touched

    def dependents(self, uid: str) -> list[Node]:
        """Those that name this owner."""
        node = self._nodes.get(uid)
        found = node.dependents if node is not None else self._waiting.get(uid, ())
        return [self._nodes[d] for d in found if d in self._nodes]

    def blocking(self, node: Node) -> list[Node]:
        """Dependents that hold up a deletion in the foreground."""
        return [
            d
            for d in self.dependents(node.uid)
            if any(ref.uid == node.uid and ref.block_owner_deletion for ref in d.owners)
        ]

    def of_kind(self, group: str, plural: str) -> list[Node]:
        """All nodes of a kind."""
        return [n for n in self._nodes.values() if (n.info.group, n.info.plural) == (group, plural)]

    def _forget(self, owner: str, dependent: str) -> None:
        self._dependents_of(owner).discard(dependent)
        if not self._waiting.get(owner, True):
            del self._waiting[owner]

    def _dependents_of(self, uid: str) -> set[str]:
        node = self._nodes.get(uid)
        return node.dependents if node is not None else self._waiting.setdefault(uid, set())


class OwnerState(enum.Enum):
    """What is known of one owner."""

    SOLID = "it is there"
    GONE = "it is not there"
    WAITING = "it is being deleted and waits for this one"


class Verdict(enum.Enum):
    """What must happen to a dependent."""

    KEEP = "keep it"
    RELEASE = "keep it, and forget the owners that are gone"
    DELETE_FOREGROUND = "delete it after its own dependents"
    DELETE = "delete it"


def judge(node: Node, states: Iterable[OwnerState], *, has_dependents: bool) -> Verdict:
    """What must happen, given what is known of each owner."""
    if node.deleting:
        return Verdict.KEEP
    found = list(states)
    if not found:
        return Verdict.KEEP
    if OwnerState.SOLID in found:
        return Verdict.KEEP if all(s is OwnerState.SOLID for s in found) else Verdict.RELEASE
    if OwnerState.WAITING in found and has_dependents:
        return Verdict.DELETE_FOREGROUND
    return Verdict.DELETE

"""ResourceQuota at admission: a write that would take more than the namespace has left is refused.

What is used is counted from the objects that exist, not from `status.used`, which may lag. A write that was let in and
is not stored yet is kept in mind until it has ended, so that two at once cannot share the last place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api.errors import Forbidden
from headrace.api.limits import ResourceQuota
from headrace.machinery import quota as counting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.meta import KindInfo
    from headrace.apiserver.admission.lookup import Lookup

Json = dict[str, Any]


class Quotas:
    """Checks writes, and remembers those under way."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._pending: dict[str, tuple[str, str, Json]] = {}

    def admit(self, info: KindInfo, obj: Json, old: Json | None = None) -> None:
        """Let a new or changed object in. Raises Forbidden in the real server's words."""
        namespace = obj["metadata"].get("namespace", "")
        if not namespace:
            return
        quotas = self._lookup.within(ResourceQuota.INFO, namespace)
        kind, uid = info.resource, obj["metadata"]["uid"]
        tracked = [q for q in quotas if any(counting.kind_of(n) == kind for n in _hard(q))]
        for quota in tracked:
            self._check(quota, info, obj, old)
        if tracked:
            self._pending[uid] = (namespace, kind, obj)

    def release(self, obj: Json) -> None:
        """The write has ended: from now on the store knows."""
        self._pending.pop(obj["metadata"].get("uid", ""), None)

    def _check(self, quota: Json, info: KindInfo, obj: Json, old: Json | None) -> None:
        kind, meta = info.resource, obj["metadata"]
        hard = _hard(quota)
        if not counting.concerns(quota, kind, obj):
            return
        name = quota["metadata"]["name"]
        lacking = counting.unspecified(quota, obj) if kind == "pods" and old is None else []
        if lacking:
            listed = "; ".join(f"{resource} for: {','.join(names)}" for resource, names in lacking)
            raise _refused(info, meta, f"failed quota: {name}: must specify {listed}")
        before = counting.usage(kind, old) if old is not None and counting.concerns(quota, kind, old) else {}
        wanted = {n: v for n, v in counting.usage(kind, obj).items() if n in hard}
        zero = counting.Amount()
        more = {n: counting.Amount(v.number - before.get(n, zero).number, v.binary) for n, v in wanted.items()}
        growing = {n: v for n, v in more.items() if v.number > 0}
        if not growing:
            return
        used = counting.used(quota, kind, self._objects(info, meta["namespace"], meta["uid"], old))
        limited = {n: counting.amount(hard[n]) for n in growing}
        over = sorted(n for n, v in growing.items() if used[n].number + v.number > limited[n].number)
        if over:
            words = [",".join(f"{n}={values[n]}" for n in over) for values in (growing, used, limited)]
            raise _refused(
                info, meta, f"exceeded quota: {name}, requested: {words[0]}, used: {words[1]}, limited: {words[2]}"
            )

    def _objects(self, info: KindInfo, namespace: str, uid: str, old: Json | None) -> Iterable[Json]:
        """Everything of the kind as it will be when the writes under way have ended, and the object as it was."""
        pending = {
            key: obj
            for key, (where, kind, obj) in self._pending.items()
            if where == namespace and kind == info.resource and key != uid
        }
        for obj in self._lookup.within(info, namespace):
            if obj["metadata"]["uid"] not in {uid, *pending}:
                yield obj
        yield from pending.values()
        if old is not None:
            yield old


def _hard(quota: Json) -> Json:
    found: Json = (quota.get("spec") or {}).get("hard") or {}
    return found


def _refused(info: KindInfo, meta: Json, why: str) -> Forbidden:
    name = meta.get("name", "")
    return Forbidden(f'{info.resource} "{name}" is forbidden: {why}', kind=info.plural, group=info.group, name=name)

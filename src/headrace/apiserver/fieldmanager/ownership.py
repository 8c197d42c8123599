"""Who owns what after an update or an apply (structured-merge-diff's `merge.Updater`).

An update takes the fields that it changes; an apply owns what its configuration sets, shares what others own with
the same value, conflicts where it differs, and removes what it set before and sets no more unless others own it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.apiserver.fieldmanager import fieldsets, values
from headrace.apiserver.fieldmanager.fieldsets import FieldSet, difference, intersection, union
from headrace.apiserver.fieldmanager.managers import Entry, Identity, Managers, capped
from headrace.apiserver.fieldmanager.values import compare, fields_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.apiserver.fieldmanager.shapes import Shape

    ShapeOf = Callable[[str], Shape | None]
    """The object's type in a version; None for one that is not served (any more)."""

Json = dict[str, Any]

_UNTRACKED_META = frozenset(
    {
        fieldsets.SELF,
        *("f:name", "f:namespace", "f:creationTimestamp", "f:selfLink", "f:uid", "f:clusterName", "f:generation"),
        *("f:managedFields", "f:resourceVersion"),
    }
)
_META = "f:metadata"


class Conflicting(Exception):
    """An apply would change fields that others own; `by` has these fields by manager."""

    def __init__(self, by: Managers) -> None:
        super().__init__("conflicting managers")
        self.by = by


def stripped(fields: FieldSet) -> FieldSet:
    """The set without what nobody owns: names, versions and what the server alone writes."""
    out = {k: v for k, v in fields.items() if k not in ("f:apiVersion", "f:kind", _META)}
    meta = {k: v for k, v in fields.get(_META, {}).items() if k not in _UNTRACKED_META}
    if meta:
        out[_META] = meta
    return out


def plain(obj: Json) -> Json:
    """The object without its managedFields."""
    meta = obj.get("metadata") or {}
    return {**obj, "metadata": {k: v for k, v in meta.items() if k != "managedFields"}}


class Difference:
    """What a write changes and removes, as each version sees it; `ignored` fields are nobody's."""

    def __init__(self, old: Json, new: Json, shape_of: ShapeOf, ignored: FieldSet) -> None:
        self._old, self._new, self._shape_of, self._ignored = old, new, shape_of, ignored
        self._seen: dict[str, tuple[FieldSet, FieldSet] | None] = {}

    def seen(self, version: str) -> tuple[FieldSet, FieldSet] | None:
        """(added or changed, removed); None when the version is not served. Raises Unlike."""
        if version not in self._seen:
            shape = self._shape_of(version)
            self._seen[version] = None if shape is None else self._compare(shape)
        return self._seen[version]

    def _compare(self, shape: Shape) -> tuple[FieldSet, FieldSet]:
        changed, removed = compare(self._old, self._new, shape)
        if self._ignored:
            changed = fieldsets.recursive_difference(changed, self._ignored)
            removed = fieldsets.recursive_difference(removed, self._ignored)
        return changed, removed


def updated(managers: Managers, old: Json, new: Json, *, me: Entry, shape_of: ShapeOf) -> Managers:
    """The managers after `me` (whose fields are empty, and whose time is now) wrote `new` over `old`. Raises Unlike."""
    change = Difference(old, new, shape_of, {})
    found = change.seen(me.api_version)
    if found is None or found == ({}, {}):
        return managers
    out = _without(managers, change)
    mine = stripped(found[0])
    if mine:
        before = out.get(me.identity)
        out[me.identity] = me.owning(union(before.fields, mine) if before is not None else mine)
    return capped(out)


def _without(managers: Managers, change: Difference, *, skip: Identity | None = None) -> Managers:
    """The managers without the fields that were changed or removed under them."""
    out: Managers = {}
    for identity, entry in managers.items():
        if identity == skip:
            out[identity] = entry
            continue
        found = change.seen(entry.api_version)
        if found is None:
            continue
        changed, removed = found
        fields = entry.fields
        lost = intersection(fields, changed)
        if lost:
            fields = difference(fields, lost)
        if removed:
            fields = difference(fields, removed)
        if fields:
            out[identity] = entry if fields is entry.fields else entry.owning(fields)
    return out


def applied(
    managers: Managers,
    live: Json,
    config: Json,
    *,
    me: Entry,
    force: bool,
    shape_of: ShapeOf,
    ignored: FieldSet,
) -> tuple[Json, Managers]:
    """(the object, its managers) after `me` applied `config`. Raises Conflicting, Unlike."""
    shape = shape_of(me.api_version)
    if shape is None:
        raise values.Unlike("", f"version {me.api_version} is not served")
    managers = {
        identity: entry.owning(values.reconciled(entry.fields, known))
        for identity, entry in managers.items()
        if (known := shape_of(entry.api_version)) is not None
    }
    merged: Json = values.merge(live, config, shape)
    last = managers.get(me.identity)
    wanted = fields_of(config, shape)
    if ignored:
        wanted = fieldsets.recursive_difference(wanted, ignored)
    managers[me.identity] = me.owning(wanted)
    if last is not None and last.fields:
        merged = _pruned(merged, managers, last, shape_of)
    change = Difference(live, merged, shape_of, ignored)
    if not force:
        _refuse_conflicts(managers, me.identity, change)
    out = _without(managers, change, skip=me.identity)
    mine = stripped(wanted)
    if mine:
        out[me.identity] = me.owning(mine)
    else:
        del out[me.identity]
    return merged, out


def _refuse_conflicts(managers: Managers, me: Identity, change: Difference) -> None:
    conflicts: Managers = {}
    for identity, entry in managers.items():
        found = change.seen(entry.api_version) if identity != me else None
        both = intersection(entry.fields, found[0]) if found is not None else None
        if both:
            conflicts[identity] = entry.owning(both)
    if conflicts:
        raise Conflicting(conflicts)


def _pruned(merged: Json, managers: Managers, last: Entry, shape_of: ShapeOf) -> Json:
    """`merged` without what the applier set the last time and nobody sets now."""
    shape = shape_of(last.api_version)
    if shape is None:
        return merged
    pruned = values.remove(merged, values.with_named(last.fields, shape), shape) or {}
    owned: dict[str, FieldSet] = {}
    for entry in managers.values():
        owned[entry.api_version] = union(owned.get(entry.api_version, {}), entry.fields)
    for version in sorted(owned, key=lambda v: v != last.api_version):
        theirs = shape_of(version)
        if theirs is not None:
            pruned = _with_owned(merged, pruned, owned[version], theirs)
    # What hangs below the last set but was not part of it stays.
    before = values.with_named(fields_of(merged, shape), shape)
    after = values.with_named(fields_of(pruned, shape), shape)
    gone = intersection(difference(before, after), values.with_named(last.fields, shape))
    return values.remove(merged, gone, shape) or {}


def _with_owned(merged: Json, pruned: Json, owned: FieldSet, shape: Shape) -> Json:
    """`pruned` with everything of `merged` that somebody owns."""
    before = values.with_named(fields_of(merged, shape), shape)
    after = values.with_named(fields_of(pruned, shape), shape)
    kept = union(after, values.with_named(owned, shape))
    return values.remove(merged, difference(before, kept), shape) or {}

"""Field managers at work: what the registry asks for on every write.

Objects are tracked from their creation. One that has no managedFields (a client reset them) stays untracked until
it is applied to; then everything in it belongs to `before-first-apply`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api.errors import BadRequest, Cause, Conflict
from headrace.apiserver.admission.metadata import MANAGED_FIELDS as FIELD
from headrace.apiserver.admission.metadata import timestamp
from headrace.apiserver.fieldmanager import checking, lastapplied, managers, ownership, values
from headrace.apiserver.fieldmanager.fieldsets import LEAF, FieldSet, difference, paths, recursive_difference
from headrace.apiserver.fieldmanager.managers import APPLY, UNKNOWN, UPDATE, BadManagedFields, Entry, Managers
from headrace.apiserver.fieldmanager.ownership import Conflicting, plain
from headrace.apiserver.fieldmanager.shapes import Shape, Shapes
from headrace.apiserver.schema.catalog import META, definition_name

if TYPE_CHECKING:
    from headrace.api.identity import User
    from headrace.api.meta import KindInfo
    from headrace.apiserver.registry.kinds import KindCatalog, Served
    from headrace.apiserver.schema.catalog import SchemaCatalog
    from headrace.machinery.clock import Clock

Json = dict[str, Any]

_STATUS: FieldSet = {"f:status": LEAF}
_NODES = "system:node:"


def manager_of(user: User) -> str:
    """The manager's name of a write that names none: the last part of the user's, `kubelet` for nodes."""
    if user.name.startswith(_NODES):
        return "kubelet"
    return user.name.rpartition(":")[2] or UNKNOWN


class FieldManagers:
    """Keeps managedFields. `created` and `updated` change the metadata of the object that they are given."""

    def __init__(self, schemas: SchemaCatalog, kinds: KindCatalog, clock: Clock) -> None:
        self._schemas, self._kinds, self._clock = schemas, kinds, clock
        self._shapes = Shapes(schemas.definition)
        self._builtin: dict[KindInfo, Shape] = {}
        self._custom: dict[KindInfo, Shape] = {}
        kinds.on_change(self._custom.clear)

    def shape(self, served: Served) -> Shape:
        """The type of a kind's objects."""
        info = served.info
        cache = self._custom if served.custom else self._builtin
        found = cache.get(info)
        if found is None:
            if self._schemas.has(info) and not served.custom:
                found = self._shapes.named(definition_name(info))
            else:
                found = self._shapes.custom(served.schema, self._shapes.named(f"{META}ObjectMeta"))
            cache[info] = found
        return found

    def created(self, served: Served, obj: Json, manager: str) -> None:
        """A new object, its creationTimestamp set: all of it belongs to who creates it."""
        meta = obj["metadata"]
        meta.pop(FIELD, None)
        seen = obj
        if served.has_status and "status" in obj:
            seen = {k: v for k, v in obj.items() if k != "status"}
        try:
            fields = ownership.stripped(values.of_new(seen, self.shape(served)))
        except values.Unlike:  # admission says what is wrong with it
            return
        if fields:
            meta[FIELD] = [
                {
                    "manager": manager,
                    "operation": UPDATE,
                    "apiVersion": served.info.api_version,
                    "time": meta["creationTimestamp"],
                    "fieldsType": "FieldsV1",
                    "fieldsV1": fields,
                }
            ]

    def updated(self, served: Served, new: Json, old: Json, manager: str, subresource: str) -> None:
        """A changed object: what changed belongs to who changed it."""
        meta = new["metadata"]
        before = old["metadata"].get(FIELD)
        sent = before if subresource else meta.get(FIELD)
        if managers.is_reset(sent):
            del meta[FIELD]
            return
        known, raw = _known(sent, before)
        if not known:
            meta.pop(FIELD, None)
            return
        try:
            after = ownership.updated(
                known,
                plain(old),
                plain(new),
                me=self._entry(served, manager, UPDATE, subresource),
                shape_of=lambda version: self._in_version(served, version),
            )
        except values.Unlike:  # admission says what is wrong with it
            after = known
        encoded = raw if after is known and raw is not None else managers.encode(after)
        if encoded:
            meta[FIELD] = encoded
        else:
            meta.pop(FIELD, None)

    def applied(
        self, served: Served, live: Json | None, config: Json, *, manager: str, force: bool, subresource: str = ""
    ) -> Json:
        """The object after an apply, with its managedFields; `live` None makes a new one.

        Raises BadRequest for a configuration that is not of its type, Conflict when others own what it changes.
        """
        shape = self.shape(served)
        self.check(served, config)
        entry = self._entry(served, manager, APPLY, subresource)
        before = (live or {}).get("metadata", {}).get(FIELD)
        known = managers.decode(before, trusted=True)
        ignored = _ignored(served, subresource, live or {}, config)
        bare = plain(live) if live is not None else {}
        if live is not None and not known:
            first = self._entry(served, managers.BEFORE_FIRST_APPLY, UPDATE, subresource)
            fields = ownership.stripped(recursive_difference(values.of_new(bare, shape), ignored))
            known = {first.identity: first.owning(fields)} if fields else {}
        try:
            merged, after = self._merge(served, known, bare, config, entry, force=force, ignored=ignored)
        except values.Unlike as error:
            raise BadRequest(f"failed to merge the configuration: {error}") from error
        if manager == lastapplied.KUBECTL and live is not None:
            merged = lastapplied.renewed(merged, config)
        return _with_managers(merged, after, live, known, entry)

    def _merge(
        self, served: Served, known: Managers, live: Json, config: Json, entry: Entry, *, force: bool, ignored: FieldSet
    ) -> tuple[Json, Managers]:
        def attempt(*, force: bool) -> tuple[Json, Managers]:
            return ownership.applied(
                known,
                live,
                config,
                me=entry,
                force=force,
                shape_of=lambda version: self._in_version(served, version),
                ignored=ignored,
            )

        try:
            return attempt(force=force)
        except Conflicting as conflicting:
            conflicts = conflicting.by
            if entry.manager == lastapplied.KUBECTL:
                allowed = lastapplied.untouched(live, self.shape(served), entry.api_version)
                conflicts = {
                    identity: theirs.owning(left)
                    for identity, theirs in conflicts.items()
                    if (left := difference(theirs.fields, allowed))
                }
                if not conflicts:
                    return attempt(force=True)
            raise _conflict(conflicts) from conflicting

    def check(self, served: Served, config: Json) -> None:
        """That a configuration is of its type. Raises BadRequest."""
        info, meta, shape = served.info, config["metadata"], self.shape(served)
        if meta.get(FIELD) is not None:
            raise BadRequest("metadata.managedFields must be nil")
        try:
            checking.check({k: v for k, v in config.items() if k != "metadata"}, shape)
            checking.check({k: v for k, v in meta.items() if k != FIELD}, shape.fields["metadata"][1], ".metadata")
        except values.Unlike as error:
            gvk = f"{info.api_version}, Kind={info.kind}"
            named = f"{meta.get('namespace', '')}/{meta.get('name', '')}"
            raise BadRequest(f"failed to create typed patch object ({named}; {gvk}): {error}") from error

    def _entry(self, served: Served, manager: str, operation: str, subresource: str, fields: FieldSet = LEAF) -> Entry:
        time = timestamp(self._clock.now())
        return Entry(manager or UNKNOWN, operation, served.info.api_version, subresource, time, fields)

    def _in_version(self, served: Served, api_version: str) -> Shape | None:
        info = served.info
        if api_version == info.api_version:
            return self.shape(served)
        group, _, version = api_version.rpartition("/")
        if not served.custom or group != info.group:
            return None
        other = self._kinds.lookup(group, version, info.plural)
        return None if other is None else self.shape(self._kinds.served(other))


def _known(sent: Any, before: Any) -> tuple[Managers, Any]:
    """The managers to go on from, and how they are encoded: those that the client sent if they can be read, else
    those of the object as it is.
    """
    if sent and sent != before:
        try:
            found = managers.decode(sent, trusted=False)
        except BadManagedFields:
            found = {}
        if found:
            return found, None
    return managers.decode(before, trusted=True), before


def _ignored(served: Served, subresource: str, *objects: Json) -> FieldSet:
    """The fields that the endpoint does not write, whatever is sent."""
    if not subresource:
        return _STATUS if served.has_status else {}
    if subresource == "status":
        return {f"f:{name}": LEAF for obj in objects for name in obj if name != "status"}
    return {}


def _with_managers(merged: Json, after: Managers, live: Json | None, known: Managers, entry: Entry) -> Json:
    """The object with its managers; one whose fields and values are as before keeps its time."""
    mine, before = after.get(entry.identity), known.get(entry.identity)
    if live is not None and mine is not None and before is not None:
        unchanged = mine.fields == before.fields and mine.api_version == before.api_version
        if unchanged and plain(merged) == plain(live):
            after = {**after, entry.identity: mine.owning(mine.fields, before.time)}
    meta = {k: v for k, v in merged["metadata"].items() if k != FIELD}
    if after:
        meta[FIELD] = managers.encode(after)
    return {**merged, "metadata": meta}


def _conflict(conflicts: Managers) -> Conflict:
    """The 409 that kubectl explains: one cause a field."""
    found = [(entry, path) for entry in conflicts.values() for path in paths(entry.fields)]
    causes = [Cause(path, f"conflict with {managers.shown(entry)}", "FieldManagerConflict") for entry, path in found]
    if len(found) == 1:
        entry, path = found[0]
        message = f"Apply failed with 1 conflict: conflict with {managers.shown(entry)}: {path}"
    else:
        lines = []
        for entry in sorted(conflicts.values(), key=lambda e: e.identity):
            lines.append(f"conflicts with {managers.shown(entry)}:")
            lines += [f"- {path}" for path in paths(entry.fields)]
        message = f"Apply failed with {len(found)} conflicts: " + "\n".join(lines)
    return Conflict(message, causes=causes)

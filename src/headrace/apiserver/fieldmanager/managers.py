"""The managers of an object: `metadata.managedFields`, decoded, told apart, capped and encoded.

A manager is a name, what it did (Apply or Update), through which subresource, and for updates in which version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.apiserver.fieldmanager import fieldsets

if TYPE_CHECKING:
    from headrace.apiserver.fieldmanager.fieldsets import FieldSet

Json = dict[str, Any]
Identity = tuple[str, str, str, str]
"""Manager, operation, version (of updates), subresource."""

APPLY = "Apply"
UPDATE = "Update"
ANCIENT = "ancient-changes"
"""The manager into which the oldest updates go when there are too many."""
BEFORE_FIRST_APPLY = "before-first-apply"
"""The manager of everything in an object that nobody tracked before it was applied to."""
MAX_UPDATERS = 10
UNKNOWN = "unknown"


class BadManagedFields(ValueError):
    """managedFields that cannot be read: they are treated as if they were not there."""


@dataclass(slots=True)
class Entry:
    """What one manager owns. Never changed; not frozen, because that makes each of the many slower."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str
    fields: FieldSet

    @property
    def identity(self) -> Identity:
        """What makes it the same manager the next time."""
        version = "" if self.operation == APPLY else self.api_version
        return self.manager, self.operation, version, self.subresource

    def owning(self, fields: FieldSet, time: str | None = None) -> Entry:
        """The same manager with other fields."""
        return Entry(
            self.manager,
            self.operation,
            self.api_version,
            self.subresource,
            self.time if time is None else time,
            fields,
        )


Managers = dict[Identity, Entry]


def decode(raw: Any, *, trusted: bool) -> Managers:
    """The managers of `metadata.managedFields`. Raises BadManagedFields.

    `trusted` are those of the store: their field sets are as this module wrote them.
    """
    out: Managers = {}
    if not raw:
        return out
    if not isinstance(raw, list):
        raise BadManagedFields("managedFields must be a list")
    for i, item in enumerate(raw):
        if not isinstance(item, dict):
            raise BadManagedFields(f"managed fields entry {i} must be an object")
        fields = item.get("fieldsV1")
        if not trusted:
            _check(item, i)
            try:
                fields = fieldsets.parsed(fields or {})
            except fieldsets.BadPathElement as error:
                raise BadManagedFields(str(error)) from error
        entry = Entry(
            item.get("manager") or "",
            item["operation"],
            item["apiVersion"],
            item.get("subresource") or "",
            item.get("time") or "",
            fields or {},
        )
        out[entry.identity] = entry
    return out


def _check(item: Json, i: int) -> None:
    if item.get("operation") not in (APPLY, UPDATE):
        raise BadManagedFields("operation must be `Apply` or `Update`")
    if not item.get("apiVersion"):
        raise BadManagedFields("apiVersion must not be empty")
    if item.get("fieldsType") != "FieldsV1":
        raise BadManagedFields(f"invalid or missing fieldsType in managed fields entry {i}")
    if not all(isinstance(item.get(key) or "", str) for key in ("manager", "subresource", "time", "apiVersion")):
        raise BadManagedFields(f"managed fields entry {i} has something else than text where text must be")


def is_reset(raw: Any) -> bool:
    """Whether a client asks to forget all managers: `[]` or `[{}]`."""
    return raw in ([], [{}])


def encode(managers: Managers) -> list[Json]:
    """`metadata.managedFields`, in Kubernetes' order: applies first, then by time, name, version, subresource."""
    entries = sorted(managers.values(), key=lambda e: (e.operation, e.time, e.manager, e.api_version, e.subresource))
    return [_encoded(entry) for entry in entries]


def _encoded(entry: Entry) -> Json:
    out: Json = {"manager": entry.manager, "operation": entry.operation, "apiVersion": entry.api_version}
    if entry.time:
        out["time"] = entry.time
    out["fieldsType"] = "FieldsV1"
    out["fieldsV1"] = entry.fields
    if entry.subresource:
        out["subresource"] = entry.subresource
    return out


def capped(managers: Managers) -> Managers:
    """The managers with at most MAX_UPDATERS that update: the oldest become one of a name of its own."""
    if len(managers) <= MAX_UPDATERS:
        return managers
    updaters = sorted((e for e in managers.values() if e.operation == UPDATE), key=lambda e: (e.time, e.identity))
    length = len(updaters)
    if length <= MAX_UPDATERS:
        return managers
    out = dict(managers)
    first: dict[str, Identity] = {}
    for entry in updaters:
        if length <= MAX_UPDATERS:
            break
        version = entry.api_version
        if version not in first:
            first[version] = entry.identity
            continue
        bucket = Entry(ANCIENT, UPDATE, version, "", entry.time, {})
        if bucket.identity not in out:
            out[bucket.identity] = bucket.owning(out.pop(first[version]).fields)
        so_far = out[bucket.identity].fields
        if entry.identity != bucket.identity:
            del out[entry.identity]
        out[bucket.identity] = bucket.owning(fieldsets.union(so_far, entry.fields))
        length -= 1
    return out


def shown(entry: Entry) -> str:
    """A manager as conflicts name it."""
    text = f'"{entry.manager}"'
    if entry.subresource:
        text += f' with subresource "{entry.subresource}"'
    if entry.operation == UPDATE:
        text += f" using {entry.api_version}"
        if entry.time:
            text += f" at {entry.time}"
    return text

"""Object metadata, kinds and label selectors (k8s.io/apimachinery/pkg/apis/meta/v1)."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import msgspec

Time = dt.datetime
"""A moment with time zone; `now(clock)` in `machinery.clock` gives whole seconds as Kubernetes does."""
IntOrString = int | str
Quantity = str | int | float
"""A resource quantity as it stands on the wire; `api.quantity.parse` gives its number."""


@dataclass(frozen=True, slots=True)
class KindInfo:
    """What the API server must know of a kind: its names, its scope and its subresources.

    Compared and hashed many times a request: by identity and by name first.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: frozenset[str] = field(default_factory=lambda: frozenset({"status"}))
    singular: str = ""

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, KindInfo) or self.kind != other.kind or self.group != other.group:
            return False
        return all(getattr(self, name) == getattr(other, name) for name in KindInfo.__slots__)

    def __hash__(self) -> int:
        return hash((self.group, self.version, self.kind))

    @property
    def api_version(self) -> str:
        """`v1` or `group/version`, as in an object's `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """`plural` or `plural.group`, as kubectl and error messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The REST path below the server's root."""
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


class Struct(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """Base of every wire type: camelCase on the wire, defaults omitted, unknown fields dropped on decode.

    What comes from JSON is a tree, so that the collector of cycles need not look at it.
    """


class OwnerReference(Struct):
    """Who owns the object; the garbage collector follows it by uid."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Struct):
    """Metadata that every object has. `resource_version` is opaque to clients."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []
    finalizers: list[str] = []


class Object(Struct):
    """A Kubernetes object. Subclasses set INFO; apiVersion and kind are filled from it."""

    INFO: ClassVar[KindInfo]
    COLUMNS: ClassVar[tuple[Any, ...]] = ()
    """For kinds with a CRD: its additionalPrinterColumns (api.apiextensions.PrinterColumn)."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)

    def __post_init__(self) -> None:
        if not self.api_version:
            self.api_version = self.INFO.api_version
        if not self.kind:
            self.kind = self.INFO.kind

    @property
    def key(self) -> str:
        """`namespace/name`, or `name` for cluster-scoped objects: the form of a work-queue request."""
        return f"{self.metadata.namespace}/{self.metadata.name}" if self.metadata.namespace else self.metadata.name

    def owner_reference(self, *, controller: bool = True) -> OwnerReference:
        """A reference to this object for a child's `ownerReferences`."""
        return OwnerReference(
            api_version=self.api_version,
            kind=self.kind,
            name=self.metadata.name,
            uid=self.metadata.uid,
            controller=controller,
            block_owner_deletion=controller,
        )


class Condition(Struct):
    """One aspect of an object's state, with a reason and a sentence."""

    type: str
    status: str  # "True" | "False" | "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: Time | None = None
    observed_generation: int = 0


class LabelSelectorRequirement(Struct):
    """`key operator values`; operators In, NotIn, Exists, DoesNotExist."""

    key: str
    operator: str
    values: list[str] = []


class LabelSelector(Struct):
    """All of matchLabels and matchExpressions must hold; the empty selector matches everything."""

    match_labels: dict[str, str] = {}
    match_expressions: list[LabelSelectorRequirement] = []

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        if any(labels.get(k) != v for k, v in self.match_labels.items()):
            return False
        return all(_requirement_holds(r, labels) for r in self.match_expressions)


def _requirement_holds(req: LabelSelectorRequirement, labels: dict[str, str]) -> bool:
    match req.operator:
        case "In":
            return labels.get(req.key) in req.values
        case "NotIn":
            return labels.get(req.key) not in req.values
        case "Exists":
            return req.key in labels
        case "DoesNotExist":
            return req.key not in labels
        case _:
            raise ValueError(f"{req.operator!r} is not a label selector operator")


@cache
def dynamic_kind(info: KindInfo) -> type[Unstructured]:
    """An Object type for a kind known only at run time, such as one that a CRD defines."""
    return type(info.kind, (Unstructured,), {"INFO": info, "__module__": __name__})


class Unstructured(Object):
    """An object whose spec and status stay plain JSON; other top-level fields are dropped on decode."""

    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}
    data: dict[str, Any] = {}

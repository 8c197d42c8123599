"""The client protocol, and the registry protocol that its embedded implementation stands on.

Two implementations share one contract test suite: `client.embedded` (in process, into the API server's
registry) and `client.http` (any Kubernetes API server). Code above this layer sees only `Client`.

All methods raise `api.errors.StatusError` subclasses and nothing else for API failures.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from msgspec import Struct

from headrace.api.meta import Object

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from headrace.api.identity import User
    from headrace.api.meta import KindInfo

T = TypeVar("T", bound=Object)
Warnings = list[str]
RawObjects = list[bytes]
Propagation = Literal["Background", "Foreground", "Orphan"]


class EventType(enum.StrEnum):
    """What a watch event says of its object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


class PatchType(enum.StrEnum):
    """The content types of PATCH."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """One change, with the object after it (for DELETED, as it last was)."""

    type: EventType
    object: T


@dataclass(frozen=True, slots=True)
class ObjectList(Generic[T]):
    """Objects as they were together at `resource_version`."""

    items: list[T]
    resource_version: str


class Client(Protocol):
    """Typed access to resources. Objects returned are the caller's own copies, but for those of watch events, which
    other watchers may get too: read-only.
    """

    async def get(
        self, kind: type[T], name: str, namespace: str | None = None, *, subresource: Literal["", "scale"] = ""
    ) -> T:
        """One object, or with `subresource` its Scale in the place of it. Raises NotFound."""
        ...

    async def list(
        self, kind: type[T], namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> ObjectList[T]:
        """All objects of a kind, in one namespace or all, that match label and field selectors (kubectl's syntax)."""
        ...

    def watch(
        self,
        kind: type[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        labels: str = "",
        fields: str = "",
    ) -> AsyncIterator[WatchEvent[T]]:
        """Changes after `resource_version`, until the caller stops. Raises Gone when the version is too old."""
        ...

    async def create(self, obj: T) -> T:
        """Create; the object comes back with uid, resourceVersion and defaults. Raises AlreadyExists, Invalid."""
        ...

    async def update(self, obj: T) -> T:
        """Replace by what `obj` encodes. Unknown fields are lost: for whole objects that the caller owns only."""
        ...

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
        """JSON merge patch (RFC 7386). With `resource_version`, raises Conflict when the object has moved on.

        "binding" writes a pod's spec.nodeName and its status at once, for the node agent, which is scheduler and
        kubelet in one; only the embedded cluster knows it.
        """
        ...

    async def apply(self, obj: T) -> T:
        """Create, or merge the fields that `obj` sets into what is there; fields it leaves unset stay. Idempotent:
        nothing is written when nothing changes.
        """
        ...

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
        """Begin deletion. Raises NotFound; Conflict when `uid` is given and differs."""
        ...

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
        """A signed token of a service account (TokenRequest), bound to a pod when one is given."""
        ...

    async def review_token(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """Whose token this is (TokenReview); None when it is invalid, expired or for another audience."""
        ...

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
        """Whether `user` may (SubjectAccessReview)."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """A page of raw objects and where the next begins."""

    items: list[bytes]
    resource_version: int
    continue_token: str = ""
    remaining: int | None = None


class RawEvent(Struct, frozen=True, gc=False):
    """A watch event with the object as JSON bytes (a BOOKMARK carries only its revision)."""

    type: EventType
    object: bytes
    revision: int


class Registry(Protocol):
    """The API server's core, after parsing of the transport and before authorization and admission.

    Bodies are plain JSON values; results are JSON bytes that carry resourceVersion. Every method authorizes
    `user` first and raises Forbidden. `subresource` is "", "status", "scale" … `field_manager` is who the fields that
    a write changes belong to, "" for the user's own name.
    """

    async def get(self, user: User, info: KindInfo, name: str, namespace: str = "", *, subresource: str = "") -> bytes:
        """One object."""
        ...

    async def list(
        self,
        user: User,
        info: KindInfo,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
        match: str = "",
    ) -> Page:
        """A page of objects; namespace "" means all. `match` is resourceVersionMatch."""
        ...

    def watch(
        self,
        user: User,
        info: KindInfo,
        namespace: str = "",
        *,
        resource_version: str = "",
        labels: str = "",
        fields: str = "",
        bookmarks: bool = False,
        send_initial_events: bool = False,
    ) -> AsyncIterator[RawEvent]:
        """Changes. An empty resource_version (or "0") starts with what exists as ADDED.

        Authorization and a version that is too old (Gone) raise at once; the subscription begins with the call.
        """
        ...

    async def create(
        self,
        user: User,
        info: KindInfo,
        body: dict[str, Any],
        namespace: str = "",
        *,
        dry_run: bool = False,
        field_validation: str = "Ignore",
        warnings: Warnings | None = None,
        field_manager: str = "",
    ) -> bytes:
        """Create. Warnings (fieldValidation=Warn) are appended to `warnings`."""
        ...

    async def update(
        self,
        user: User,
        info: KindInfo,
        name: str,
        body: dict[str, Any],
        namespace: str = "",
        *,
        subresource: str = "",
        dry_run: bool = False,
        field_validation: str = "Ignore",
        warnings: Warnings | None = None,
        field_manager: str = "",
    ) -> bytes:
        """Replace; checks metadata.resourceVersion when the body has one."""
        ...

    async def patch(
        self,
        user: User,
        info: KindInfo,
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
        dry_run: bool = False,
        field_validation: str = "Ignore",
        warnings: Warnings | None = None,
        field_manager: str = "",
    ) -> bytes:
        """Patch; a metadata.resourceVersion inside the patch is a precondition."""
        ...

    async def delete(
        self,
        user: User,
        info: KindInfo,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: Propagation | None = None,
        grace_period_seconds: int | None = None,
        dry_run: bool = False,
    ) -> bytes:
        """Begin or finish deletion; the object as it now stands (or last stood) comes back."""
        ...

    async def delete_collection(
        self,
        user: User,
        info: KindInfo,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        propagation: Propagation | None = None,
        grace_period_seconds: int | None = None,
        dry_run: bool = False,
    ) -> RawObjects:
        """Delete everything that the selectors match; each as it now stands (or last stood)."""
        ...

    async def authorize(
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
        """RBAC's answer."""
        ...


class TokenIssuer(Protocol):
    """Issues and verifies service-account tokens; the API server's authentication implements it."""

    async def issue(
        self,
        user: User,
        namespace: str,
        service_account: str,
        *,
        audiences: Sequence[str] = (),
        expiration_seconds: int = 3600,
        pod_name: str = "",
        pod_uid: str = "",
    ) -> str:
        """A signed token that `user` asks for (verb create on serviceaccounts/token). Raises Forbidden, NotFound,
        and Conflict when the pod's uid differs.
        """
        ...

    async def review(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """Whose token this is; None when it is invalid, expired, for another audience, or its owner is gone."""
        ...

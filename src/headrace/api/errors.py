"""Errors of the Kubernetes API.

    StatusError
    ├── BadRequest            400   ├── Gone (Expired)       410
    ├── Unauthorized          401   ├── RequestEntityTooLarge 413
    ├── Forbidden             403   ├── UnsupportedMediaType 415
    ├── NotFound              404   ├── Invalid              422
    ├── MethodNotAllowed      405   ├── TooManyRequests      429
    ├── NotAcceptable         406   ├── InternalError        500
    ├── AlreadyExists         409   ├── ServiceUnavailable   503
    ├── Conflict              409   ├── Timeout              504
    └── (none)                      └── InsufficientStorage  507

`reason` is the identity (k8s.io/apimachinery metav1.StatusReason); two errors share code 409 on purpose.
One handler at each HTTP edge maps these to that API's dialect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.api.meta import KindInfo


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing wrong with one field; `field` is a path such as `spec.containers[0].image`."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


class StatusError(Exception):
    """An API error that has a reason, an HTTP code and a sentence for people."""

    reason: ClassVar[str] = "Unknown"
    code: ClassVar[int] = 500

    def __init__(
        self,
        message: str,
        *,
        causes: Sequence[Cause] = (),
        kind: str = "",
        group: str = "",
        name: str = "",
        uid: str = "",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.causes = tuple(causes)
        self.kind = kind
        self.group = group
        self.name = name
        self.uid = uid
        self.retry_after = retry_after

    def to_status(self) -> dict[str, Any]:
        """The `metav1.Status` object, as plain JSON."""
        details: dict[str, Any] = {}
        if self.name:
            details["name"] = self.name
        if self.group:
            details["group"] = self.group
        if self.kind:
            details["kind"] = self.kind
        if self.uid:
            details["uid"] = self.uid
        if self.causes:
            details["causes"] = [{"reason": c.reason, "message": c.message, "field": c.field} for c in self.causes]
        if self.retry_after is not None:
            details["retryAfterSeconds"] = self.retry_after
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if details or self.code == NotFound.code:  # kubectl debug reads a 404's details without looking
            status["details"] = details
        return status


class BadRequest(StatusError):
    """The request does not parse or contradicts itself."""

    reason, code = "BadRequest", 400


class Unauthorized(StatusError):
    """Who is asking is not known."""

    reason, code = "Unauthorized", 401


class Forbidden(StatusError):
    """Who is asking is known and may not."""

    reason, code = "Forbidden", 403


class NotFound(StatusError):
    """The object or the path does not exist."""

    reason, code = "NotFound", 404

    @classmethod
    def of(cls, info: KindInfo, name: str) -> NotFound:
        """In the words that kubectl users know: `pods "x" not found`."""
        return cls(f'{info.resource} "{name}" not found', kind=info.plural, group=info.group, name=name)


class MethodNotAllowed(StatusError):
    """The resource exists but does not have this verb."""

    reason, code = "MethodNotAllowed", 405


class NotAcceptable(StatusError):
    """No representation that the client accepts."""

    reason, code = "NotAcceptable", 406


class AlreadyExists(StatusError):
    """An object of that name is there."""

    reason, code = "AlreadyExists", 409

    @classmethod
    def of(cls, info: KindInfo, name: str) -> AlreadyExists:
        """In the words that kubectl users know: `pods "x" already exists`."""
        return cls(f'{info.resource} "{name}" already exists', kind=info.plural, group=info.group, name=name)


class Conflict(StatusError):
    """The object changed since the client read it, or a precondition does not hold."""

    reason, code = "Conflict", 409


class Gone(StatusError):
    """The resource version is older than what the log keeps: list again."""

    reason, code = "Expired", 410


class RequestEntityTooLarge(StatusError):
    """The body is larger than what the server takes."""

    reason, code = "RequestEntityTooLarge", 413


class UnsupportedMediaType(StatusError):
    """The body's content type is not one that this verb takes."""

    reason, code = "UnsupportedMediaType", 415


class Invalid(StatusError):
    """The object parses but breaks its schema or its rules; `causes` names each field."""

    reason, code = "Invalid", 422

    @classmethod
    def of(cls, info: KindInfo, name: str, causes: Sequence[Cause]) -> Invalid:
        """`Pod "x" is invalid: spec.containers: Required value`, with every cause."""
        text = ", ".join(f"{c.field}: {c.message}" for c in causes)
        listed = f"[{text}]" if len(causes) > 1 else text
        return cls(
            f'{info.kind}{"." + info.group if info.group else ""} "{name}" is invalid: {listed}',
            causes=causes,
            kind=info.kind,
            group=info.group,
            name=name,
        )


class TooManyRequests(StatusError):
    """Try again after `retry_after` seconds."""

    reason, code = "TooManyRequests", 429


class InternalError(StatusError):
    """A fault of ours."""

    reason, code = "InternalError", 500


class ServiceUnavailable(StatusError):
    """What would answer is not running now."""

    reason, code = "ServiceUnavailable", 503


class Timeout(StatusError):
    """It took too long."""

    reason, code = "Timeout", 504


class InsufficientStorage(StatusError):
    """The disk takes no writes; nothing has changed. A reason of ours: Kubernetes calls this an internal error."""

    reason, code = "InsufficientStorage", 507


_BY_REASON: dict[str, type[StatusError]] = {
    cls.reason: cls
    for cls in (
        BadRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        NotAcceptable,
        AlreadyExists,
        Conflict,
        Gone,
        RequestEntityTooLarge,
        UnsupportedMediaType,
        Invalid,
        TooManyRequests,
        InternalError,
        ServiceUnavailable,
        Timeout,
        InsufficientStorage,
    )
}


def from_status(status: dict[str, Any]) -> StatusError:
    """The error that a server's `Status` object stands for; unknown reasons become InternalError."""
    details = status.get("details") or {}
    cls = _BY_REASON.get(status.get("reason") or "", InternalError)
    return cls(
        status.get("message") or "unknown error",
        causes=[
            Cause(c.get("field") or "", c.get("message") or "", c.get("reason") or "")
            for c in details.get("causes") or ()
        ],
        kind=details.get("kind") or "",
        group=details.get("group") or "",
        name=details.get("name") or "",
        uid=details.get("uid") or "",
        retry_after=details.get("retryAfterSeconds"),
    )

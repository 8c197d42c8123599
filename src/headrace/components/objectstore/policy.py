"""Pure decisions: who may do what, which key pairs count, whether preconditions hold, which bytes a range means."""

from __future__ import annotations

import base64
import binascii
import enum
import re
from typing import TYPE_CHECKING

from headrace.components.objectstore.types import NotModified, Preconditions, Principal, S3Error
from headrace.machinery.settings import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from headrace.api.core import Secret
    from headrace.components.objectstore.types import ObjectRecord

SECRET_NAME = "mlpipeline-minio-artifact"  # noqa: S105 - a name, as upstream's
ACCESS_LABEL = "headrace.dev/objectstore-access"
DEFAULT_BUCKET = "mlpipeline"
ADMINISTRATOR = Principal("minio", "minio123")
"""Upstream's default pair: it is in every Kubeflow manifest and example. The server listens on loopback only."""

PROFILE_PREFIXES = ("private-artifacts/{ns}/", "artifacts/{ns}/", "v2/artifacts/{ns}/")
RESERVED_BUCKETS = frozenset({"minio"})
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_IP_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")


class Action(enum.Enum):
    """What a request does, as far as access is concerned."""

    LIST_BUCKETS = "list buckets"
    MANAGE_BUCKET = "create or delete a bucket"
    SEE_BUCKET = "see that a bucket exists"
    LIST = "list keys below a prefix"
    READ = "read an object"
    WRITE = "write or delete an object"


def allowed(principal: Principal, action: Action, bucket: str = "", key: str = "") -> bool:
    """Whether the principal may; `key` is the prefix for LIST.

    A profile's keys reach only `mlpipeline`, and there only what lies below its own prefixes. Prefixes end with a
    slash, so that namespace `a` never reaches `ab`.
    """
    if not principal.namespace:
        return True
    if bucket != DEFAULT_BUCKET:
        return False
    if action is Action.SEE_BUCKET:
        return True
    if action not in {Action.LIST, Action.READ, Action.WRITE}:
        return False
    return any(key.startswith(p.format(ns=principal.namespace)) for p in PROFILE_PREFIXES)


def principals(secrets: Iterable[Secret]) -> dict[str, Principal]:
    """Access keys that count. The administrator's cannot be taken over; of equal keys the oldest secret wins."""
    found = {ADMINISTRATOR.access_key: ADMINISTRATOR}
    for secret in sorted(secrets, key=_age):
        principal = principal_of(secret)
        if principal is not None:
            found.setdefault(principal.access_key, principal)
    return found


def principal_of(secret: Secret) -> Principal | None:
    """The profile's key pair in a labelled secret; None when it is not such a secret or not readable."""
    meta = secret.metadata
    if meta.name != SECRET_NAME or meta.labels.get(ACCESS_LABEL) != "true" or meta.namespace == SYSTEM_NAMESPACE:
        return None
    try:
        access, secret_key = (
            base64.b64decode(secret.data[name], validate=True).decode() for name in ("accesskey", "secretkey")
        )
    except (KeyError, binascii.Error, UnicodeDecodeError):
        return None
    if not access or not secret_key:
        return None
    return Principal(access, secret_key, meta.namespace)


def _age(secret: Secret) -> tuple[bool, str, str]:
    created = secret.metadata.creation_timestamp
    return created is None, created.isoformat() if created else "", secret.metadata.namespace


def check_bucket_name(name: str) -> None:
    """S3's rules. Raises InvalidBucketName."""
    if (
        not _BUCKET_NAME.fullmatch(name)
        or ".." in name
        or _IP_ADDRESS.fullmatch(name)
        or name in RESERVED_BUCKETS
        or name.startswith("xn--")
    ):
        raise S3Error(
            "InvalidBucketName",
            f"{name!r} is not a bucket name: 3 to 63 lower-case letters, digits, dots and hyphens, not an IP address.",
        )


def check_write(current: ObjectRecord | None, conditions: Preconditions) -> None:
    """Whether a write may replace `current`. Raises PreconditionFailed, or NoSuchKey for If-Match on nothing."""
    if conditions.if_match:
        if current is None:
            raise S3Error("NoSuchKey")
        if not etag_in(current.etag, conditions.if_match):
            raise S3Error("PreconditionFailed", "If-Match does not hold: the object's ETag differs.")
    if conditions.if_none_match and current is not None and etag_in(current.etag, conditions.if_none_match):
        raise S3Error("PreconditionFailed", "If-None-Match does not hold: the object exists.")


def check_read(current: ObjectRecord, conditions: Preconditions, headers: dict[str, str] | None = None) -> None:
    """RFC 9110's precedence. Raises PreconditionFailed, or NotModified with the headers given."""
    if conditions.if_match:
        if not etag_in(current.etag, conditions.if_match):
            raise S3Error("PreconditionFailed")
    elif conditions.if_unmodified_since and _seconds(current.modified) > conditions.if_unmodified_since:
        raise S3Error("PreconditionFailed")
    if conditions.if_none_match:
        if etag_in(current.etag, conditions.if_none_match):
            raise NotModified(headers or {})
    elif conditions.if_modified_since and _seconds(current.modified) <= conditions.if_modified_since:
        raise NotModified(headers or {})


def check_copy_source(current: ObjectRecord, conditions: Preconditions) -> None:
    """As for a read, but a source that is not modified fails the copy. Raises PreconditionFailed."""
    try:
        check_read(current, conditions)
    except NotModified:
        raise S3Error("PreconditionFailed") from None


def etag_in(etag: str, listed: str) -> bool:
    """Whether an If-Match or If-None-Match list names this ETag; `*` names any."""
    names = [item.strip().removeprefix("W/").strip('"') for item in listed.split(",")]
    return "*" in names or etag in names


def _seconds(moment: dt.datetime) -> dt.datetime:
    return moment.replace(microsecond=0)


_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """(start, length) of a Range header; None when the whole object is to be sent.

    Malformed and multiple ranges are ignored, as S3 does. Raises InvalidRange.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        if length == 0:
            raise S3Error("InvalidRange", headers={"content-range": f"bytes */{size}"})
        return size - length, length
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return None
    if start >= size:
        raise S3Error("InvalidRange", headers={"content-range": f"bytes */{size}"})
    return start, end - start + 1

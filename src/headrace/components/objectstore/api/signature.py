"""Who signed a request: AWS Signature Version 4 in the header or the query, and version 2 presigned URLs.

Two steps, so that the secret can be looked up between them: `read_claim` parses what the request says of itself,
`verify` computes the signature again. boto3 still presigns with version 2 unless told otherwise; version 2 in the
header is refused by name.
"""

from __future__ import annotations

import base64
import datetime as dt
import email.utils
import hashlib
import hmac
import re
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.components.objectstore.types import S3Error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
SKEW = dt.timedelta(minutes=15)
MAX_EXPIRES = 7 * 24 * 3600
_STAMP = "%Y%m%dT%H%M%SZ"
_V2_SUBRESOURCES = frozenset(
    (
        *("acl", "cors", "defaultObjectAcl", "delete", "lifecycle", "location", "logging", "notification"),
        *("partNumber", "policy", "requestPayment", "restore", "tagging", "torrent", "uploadId", "uploads"),
        *("versionId", "versioning", "versions", "website", "response-cache-control", "response-content-disposition"),
        *("response-content-encoding", "response-content-language", "response-content-type", "response-expires"),
    )
)


@dataclass(frozen=True, slots=True)
class Signable:
    """The parts of a request that are signed."""

    method: str
    path: str
    """Decoded, as sent: with the bucket only in path style."""
    query: Sequence[tuple[str, str]]
    """Decoded pairs in the order sent."""
    headers: Mapping[str, str]
    """Lower-case names; values joined by commas."""
    bucket: str = ""
    """The bucket when it is in the Host header, for version 2."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of its signature."""

    version: int
    access_key: str
    signature: str
    payload: str = UNSIGNED
    """The x-amz-content-sha256 value."""
    stamp: str = ""
    scope: str = ""
    signed_headers: tuple[str, ...] = ()
    expires: str = ""


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """What is needed to check the signatures of aws-chunked pieces."""

    key: bytes
    stamp: str
    scope: str
    seed: str

    def chunk(self, previous: str, sha256: str) -> str:
        """The signature of a chunk behind the one with signature `previous`."""
        empty = hashlib.sha256(b"").hexdigest()
        return self._sign(f"{ALGORITHM}-PAYLOAD\n{self.stamp}\n{self.scope}\n{previous}\n{empty}\n{sha256}")

    def trailer(self, previous: str, sha256: str) -> str:
        """The signature of the trailing headers."""
        return self._sign(f"{ALGORITHM}-TRAILER\n{self.stamp}\n{self.scope}\n{previous}\n{sha256}")

    def _sign(self, text: str) -> str:
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()


def read_claim(request: Signable, now: dt.datetime) -> Claim:
    """What the request claims. Raises AccessDenied without a signature, and the errors of a malformed or late one."""
    query = dict(request.query)
    authorization = request.headers.get("authorization", "")
    if authorization.startswith("AWS4-"):
        return _header_claim(request.headers, authorization, now)
    if "X-Amz-Algorithm" in query or "X-Amz-Signature" in query:
        return _query_claim(request.headers, query, now)
    if "AWSAccessKeyId" in query and "Signature" in query:
        return _v2_claim(query, now)
    if authorization:
        raise S3Error(
            "InvalidRequest",
            f"The authorization mechanism that you have provided is not supported. Please use {ALGORITHM}.",
        )
    raise S3Error("AccessDenied", "Access Denied: this store has no anonymous access. Sign the request.")


def verify(request: Signable, claim: Claim, secret: str) -> ChunkKey:
    """Raises SignatureDoesNotMatch."""
    if claim.version == 2:
        if not hmac.compare_digest(_v2_signature(request, claim, secret), claim.signature.encode()):
            raise S3Error("SignatureDoesNotMatch")
        return ChunkKey(b"", "", "", "")
    key = signing_key(secret, claim.scope)
    text = "\n".join(
        (
            ALGORITHM,
            claim.stamp,
            claim.scope,
            hashlib.sha256(canonical_request(request, claim).encode("latin-1")).hexdigest(),
        )
    )
    expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
        raise S3Error("SignatureDoesNotMatch")
    return ChunkKey(key, claim.stamp, claim.scope, claim.signature)


def signing_key(secret: str, scope: str) -> bytes:
    """The key of a day, region and service."""
    key = f"AWS4{secret}".encode()
    for piece in scope.split("/"):
        key = hmac.new(key, piece.encode(), hashlib.sha256).digest()
    return key


def canonical_request(request: Signable, claim: Claim) -> str:
    """The text whose hash is signed."""
    query = "&".join(
        f"{name}={value}"
        for name, value in sorted(
            (urllib.parse.quote(name, safe="-_.~"), urllib.parse.quote(value, safe="-_.~"))
            for name, value in request.query
            if name != "X-Amz-Signature"
        )
    )
    headers = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in claim.signed_headers)
    return "\n".join(
        (
            request.method,
            urllib.parse.quote(request.path, safe="/-_.~"),
            query,
            headers,
            ";".join(claim.signed_headers),
            claim.payload,
        )
    )


_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=([^,\s]+)\s*,\s*SignedHeaders=([^,\s]+)\s*,\s*Signature=([0-9a-f]{64})"
)


def _header_claim(headers: Mapping[str, str], authorization: str, now: dt.datetime) -> Claim:
    match = _AUTHORIZATION.fullmatch(authorization.strip())
    if match is None:
        raise S3Error("AuthorizationHeaderMalformed")
    credential, names, signature = match.groups()
    access_key, scope = _credential(credential, "AuthorizationHeaderMalformed")
    stamp = headers.get("x-amz-date") or _from_date(headers.get("date", ""))
    moment = _moment(stamp, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header.")
    if abs(now - moment) > SKEW:
        raise S3Error("RequestTimeTooSkewed")
    if not scope.startswith(stamp[:8]):
        raise S3Error("AuthorizationHeaderMalformed", "The date of the credential scope is not that of the request.")
    payload = headers.get("x-amz-content-sha256", "")
    if not payload:
        raise S3Error("MissingSecurityHeader")
    signed = tuple(names.split(";"))
    _require_signed(headers, signed)
    return Claim(4, access_key, signature, payload, stamp, scope, signed)


def _query_claim(headers: Mapping[str, str], query: Mapping[str, str], now: dt.datetime) -> Claim:
    wrong = "AuthorizationQueryParametersError"
    names = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
    algorithm, credential, stamp, expires, signed_names, signature = (query.get(f"X-Amz-{n}", "") for n in names)
    if not all((credential, stamp, expires, signed_names, signature)) or algorithm != ALGORITHM:
        raise S3Error(wrong, "Query-string authentication needs " + ", ".join(f"X-Amz-{n}" for n in names) + ".")
    access_key, scope = _credential(credential, wrong)
    moment = _moment(stamp, wrong, "X-Amz-Date must be in the ISO8601 Long Format yyyyMMdd'T'HHmmss'Z'.")
    if not expires.isdecimal() or not 1 <= int(expires) <= MAX_EXPIRES:
        raise S3Error(wrong, "X-Amz-Expires must be between 1 and 604800 seconds.")
    if moment - now > SKEW:
        raise S3Error("AccessDenied", "Request is not valid yet.")
    if now > moment + dt.timedelta(seconds=int(expires)):
        raise S3Error("AccessDenied", "Request has expired.")
    if not scope.startswith(stamp[:8]):
        raise S3Error(wrong, "The date of the credential scope is not that of the request.")
    signed = tuple(signed_names.split(";"))
    _require_signed(headers, signed)
    payload = headers.get("x-amz-content-sha256") or query.get("X-Amz-Content-Sha256") or UNSIGNED
    return Claim(4, access_key, signature, payload, stamp, scope, signed, expires)


def _v2_claim(query: Mapping[str, str], now: dt.datetime) -> Claim:
    expires = query.get("Expires", "")
    if not expires.isdecimal():
        raise S3Error("AccessDenied", "Query-string authentication requires Expires, in seconds since 1970.")
    if now.timestamp() > int(expires):
        raise S3Error("AccessDenied", "Request has expired.")
    return Claim(2, query["AWSAccessKeyId"], query["Signature"], expires=expires)


def _v2_signature(request: Signable, claim: Claim, secret: str) -> bytes:
    headers = request.headers
    amz = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers) if name[:6] == "x-amz-")
    path = (f"/{request.bucket}" if request.bucket else "") + urllib.parse.quote(request.path, safe="/~-_.")
    kept = sorted((name, value) for name, value in request.query if name in _V2_SUBRESOURCES)
    resource = path + ("?" + "&".join(f"{n}={v}" if v else n for n, v in kept) if kept else "")
    lines = (request.method, headers.get("content-md5", ""), headers.get("content-type", ""), claim.expires)
    text = "\n".join(lines) + f"\n{amz}{resource}"
    return base64.b64encode(hmac.new(secret.encode(), text.encode("latin-1", "replace"), hashlib.sha1).digest())


def _credential(text: str, wrong: str) -> tuple[str, str]:
    pieces = text.rsplit("/", 4)
    if len(pieces) != 5 or pieces[3:] != ["s3", "aws4_request"]:
        raise S3Error(wrong, "The credential must be ACCESSKEY/yyyyMMdd/REGION/s3/aws4_request.")
    return pieces[0], "/".join(pieces[1:])


def _require_signed(headers: Mapping[str, str], signed: tuple[str, ...]) -> None:
    missing = [
        name
        for name in headers
        if (name == "host" or name.startswith("x-amz-")) and name != "x-amz-content-sha256" and name not in signed
    ]
    if missing:
        raise S3Error(
            "AccessDenied", f"There were headers present in the request which were not signed: {', '.join(missing)}."
        )


def _moment(stamp: str, code: str, message: str) -> dt.datetime:
    try:
        return dt.datetime.strptime(stamp, _STAMP).replace(tzinfo=dt.UTC)
    except ValueError:
        raise S3Error(code, message) from None


def _from_date(text: str) -> str:
    try:
        return email.utils.parsedate_to_datetime(text).astimezone(dt.UTC).strftime(_STAMP)
    except ValueError:
        return ""

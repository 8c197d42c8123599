"""Checksums that S3 clients send: CRC32, CRC32C, CRC64NVME, SHA1, SHA256 and MD5; and those of multipart uploads.

zlib and hashlib do what they can; the other CRCs need a table-driven C library, imported when first used.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from headrace.components.objectstore.types import Checksum, S3Error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.components.objectstore.types import ChecksumType

ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
_LENGTH = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8, "SHA1": 20, "SHA256": 32}
_MODELS = {"CRC32": "CRC32", "CRC32C": "CRC32-ISCSI", "CRC64NVME": "CRC64-NVME"}


class Hasher(Protocol):
    """What hashlib's objects offer."""

    def update(self, data: bytes, /) -> None:
        """The next bytes."""
        ...

    def digest(self) -> bytes:
        """The result so far."""
        ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class _Crc:
    def __init__(self, algorithm: str) -> None:
        self._model, self._length = _model(algorithm), _LENGTH[algorithm]
        self._value: int = self._model.calc(b"")

    def update(self, data: bytes, /) -> None:
        self._value = self._model.calc(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._length, "big")


@cache
def _model(algorithm: str) -> Any:
    import anycrc  # noqa: PLC0415 - 4 MB that most clients never need

    return anycrc.Model(_MODELS[algorithm])


def hasher(algorithm: str) -> Hasher:
    """A new hash. Raises InvalidRequest for an algorithm that is not known."""
    match algorithm:
        case "CRC32":
            return _Crc32()
        case "CRC32C" | "CRC64NVME":
            return _Crc(algorithm)
        case "SHA1":
            return hashlib.sha1(usedforsecurity=False)
        case "SHA256":
            return hashlib.sha256()
    raise S3Error(
        "InvalidRequest", f"Checksum algorithm {algorithm!r} is not supported: use one of {', '.join(ALGORITHMS)}."
    )


def header(algorithm: str) -> str:
    """The header that carries a checksum."""
    return f"x-amz-checksum-{algorithm.lower()}"


def requested(headers: Mapping[str, str]) -> tuple[str, str]:
    """(algorithm, expected base64 value or "") that a request asks for; ("", "") for none.

    The value is empty when it follows in a trailer, or when only the algorithm was named. Raises InvalidRequest.
    """
    given = [a for a in ALGORITHMS if header(a) in headers]
    trailers = [t.strip().lower() for t in headers.get("x-amz-trailer", "").split(",")]
    announced = [a for a in ALGORITHMS if header(a) in trailers]
    named = (headers.get("x-amz-sdk-checksum-algorithm") or headers.get("x-amz-checksum-algorithm") or "").upper()
    unknown = [
        name
        for name in headers
        if name.startswith("x-amz-checksum-")
        and name.removeprefix("x-amz-checksum-") not in {*map(str.lower, ALGORITHMS), "type", "algorithm", "mode"}
    ]
    if unknown:
        raise S3Error("InvalidRequest", f"{unknown[0]} is not supported: use one of {', '.join(ALGORITHMS)}.")
    if len(given) + len(announced) > 1:
        raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header.")
    algorithm = (given or announced or [named])[0]
    if algorithm and algorithm not in ALGORITHMS:
        raise S3Error(
            "InvalidRequest", f"Checksum algorithm {algorithm!r} is not supported: use one of {', '.join(ALGORITHMS)}."
        )
    value = headers.get(header(algorithm), "") if algorithm else ""
    if value:
        check_form(algorithm, value)
    return algorithm, value


def check_form(algorithm: str, value: str) -> None:
    """Whether a value can be this algorithm's. Raises InvalidRequest."""
    try:
        fits = len(base64.b64decode(value, validate=True)) == _LENGTH[algorithm]
    except binascii.Error:
        fits = False
    if not fits:
        raise S3Error("InvalidRequest", f"Value for {header(algorithm)} header is invalid.")


class Digests:
    """All hashes of one body, fed together."""

    def __init__(self, algorithm: str = "", *, sha256: bool = False) -> None:
        self.algorithm = algorithm
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256() if sha256 else None
        self._extra = hasher(algorithm) if algorithm else None

    def update(self, data: bytes, /) -> None:
        """The next bytes."""
        self._md5.update(data)
        if self._sha256 is not None:
            self._sha256.update(data)
        if self._extra is not None:
            self._extra.update(data)

    @property
    def etag(self) -> str:
        """MD5 in hex."""
        return self._md5.hexdigest()

    @property
    def md5(self) -> str:
        """MD5 in base64, as Content-MD5 has it."""
        return base64.b64encode(self._md5.digest()).decode()

    @property
    def sha256(self) -> str:
        """SHA-256 in hex, if it was asked for."""
        return self._sha256.hexdigest() if self._sha256 is not None else ""

    @property
    def checksum(self) -> Checksum | None:
        """The additional checksum."""
        if self._extra is None:
            return None
        return Checksum(self.algorithm, base64.b64encode(self._extra.digest()).decode())


def whole(algorithm: str, kind: ChecksumType, parts: Sequence[tuple[str, int]]) -> Checksum | None:
    """The checksum of a multipart object from (base64 checksum, size) of its parts; None when one has none."""
    if not algorithm or any(not value for value, _ in parts):
        return None
    digests = [base64.b64decode(value) for value, _ in parts]
    if kind == "COMPOSITE":
        outer = hasher(algorithm)
        for digest in digests:
            outer.update(digest)
        return Checksum(algorithm, f"{base64.b64encode(outer.digest()).decode()}-{len(parts)}", "COMPOSITE")
    model = _model(algorithm)
    value = int.from_bytes(digests[0], "big")
    for digest, (_, size) in zip(digests[1:], parts[1:], strict=True):
        value = model.combine(value, int.from_bytes(digest, "big"), size)
    return Checksum(algorithm, base64.b64encode(value.to_bytes(_LENGTH[algorithm], "big")).decode())


def multipart_type(algorithm: str, asked: str) -> ChecksumType:
    """FULL_OBJECT or COMPOSITE for a multipart upload. Raises InvalidRequest for a pair that cannot be."""
    kind = asked.upper() or ("FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE")
    if kind == "FULL_OBJECT" and algorithm.startswith("CRC"):
        return "FULL_OBJECT"
    if kind == "COMPOSITE" and algorithm != "CRC64NVME":
        return "COMPOSITE"
    raise S3Error("InvalidRequest", f"The {kind} checksum type cannot be used with the {algorithm} algorithm.")

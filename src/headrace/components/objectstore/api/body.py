"""A request's body: decoded from aws-chunked, measured, and compared with every hash that the client gave."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from headrace.components.objectstore.api import checksums
from headrace.components.objectstore.api.chunked import ChunkDecoder
from headrace.components.objectstore.api.signature import UNSIGNED
from headrace.components.objectstore.types import S3Error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.components.objectstore.api.request import Request

MAX_OBJECT = 5 << 30
_HEX = re.compile(r"[0-9a-f]{64}")
_STREAMING = {
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": (True, False),
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": (True, True),
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER": (False, True),
}


class Body:
    """Read once, as an iterator; then `verify` says whether it was what was announced."""

    def __init__(self, request: Request, *, algorithm: str = "") -> None:
        """`algorithm` computes a checksum even if the client gave none. Raises what is wrong with the headers."""
        headers = request.headers
        self._receive = request.receive
        self._payload = request.payload
        self._decoder: ChunkDecoder | None = None
        length = headers.get("content-length", "")
        if request.payload in _STREAMING:
            signed, trailer = _STREAMING[request.payload]
            self._decoder = ChunkDecoder(request.chunk_key if signed else None, trailer=trailer)
            length = headers.get("x-amz-decoded-content-length", "")
        elif request.payload.startswith("STREAMING-"):
            raise S3Error("NotImplemented", f"x-amz-content-sha256: {request.payload} is not implemented.")
        elif request.payload != UNSIGNED and not _HEX.fullmatch(request.payload):
            raise S3Error(
                "InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING- word or a SHA-256."
            )
        if not length.isdecimal():
            raise S3Error("MissingContentLength")
        self.length = int(length)
        if self.length > MAX_OBJECT:
            raise S3Error("EntityTooLarge")
        self._md5 = headers.get("content-md5", "")
        if "content-md5" in headers and not _is_md5(self._md5):
            raise S3Error("InvalidDigest")
        asked, self._expected = checksums.requested(headers)
        self.digests = checksums.Digests(asked or algorithm, sha256=bool(_HEX.fullmatch(request.payload)))
        self._size = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise S3Error("IncompleteBody", "The client closed the connection before the body's end.")
            more = message.get("more_body", False)
            data = message.get("body", b"")
            for piece in self._decoder.feed(data) if self._decoder else (data,):
                self._size += len(piece)
                if self._size > self.length:
                    raise S3Error("IncompleteBody", "The body is longer than announced.")
                if piece:
                    yield piece
        if self._decoder is not None:
            self._decoder.finish()
        if self._size != self.length:
            raise S3Error("IncompleteBody")

    async def small(self, limit: int) -> bytes:
        """The whole body, verified; for XML documents. Raises MalformedXML when it is longer than `limit`."""
        if self.length > limit:
            raise S3Error("MalformedXML", f"The document is longer than {limit} bytes.")
        data = b"".join([piece async for piece in self])
        self.digests.update(data)
        self.verify()
        return data

    def verify(self) -> None:
        """After all bytes went through `digests`. Raises BadDigest, XAmzContentSHA256Mismatch, InvalidRequest."""
        if self.digests.sha256 and self.digests.sha256 != self._payload:
            raise S3Error("XAmzContentSHA256Mismatch")
        if self._md5 and self._md5 != self.digests.md5:
            raise S3Error("BadDigest", "The Content-MD5 that you specified did not match what we received.")
        checksum = self.digests.checksum
        if checksum is None:
            return
        expected = self._expected
        if not expected and self._decoder is not None:
            expected = self._decoder.trailers.get(checksums.header(checksum.algorithm), "")
            if expected:
                checksums.check_form(checksum.algorithm, expected)
        if expected and expected != checksum.value:
            raise S3Error("BadDigest", f"The {checksum.algorithm} that you specified did not match what we received.")


def _is_md5(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except binascii.Error:
        return False

r"""The aws-chunked encoding: pieces with or without signatures, and trailing headers.

    <hex size>[;chunk-signature=<hex>]\r\n<bytes>\r\n … 0[;chunk-signature=<hex>]\r\n[name:value\r\n …]\r\n

A decoder is fed what arrives and gives back what was meant; a wrong signature raises before the end is accepted, so
that whoever writes the bytes can discard them. Memory is bounded by what is fed at a time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from headrace.components.objectstore.types import S3Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.components.objectstore.api.signature import ChunkKey

MAX_LINE = 4096
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?\s*")


class ChunkDecoder:
    """Decodes one body."""

    def __init__(self, key: ChunkKey | None, *, trailer: bool) -> None:
        """`key` is given when chunks are signed; `trailer` when headers may follow the last chunk."""
        self._key, self._trailer = key, trailer
        self._previous = key.seed if key else ""
        self._buffer = b""
        self._left = 0
        self._state: Callable[[list[bytes]], bool] = self._size_line
        self._expected = ""
        self._hash = hashlib.sha256()
        self._trailer_lines: list[bytes] = []
        self.trailers: dict[str, str] = {}
        self.done = False

    def feed(self, data: bytes) -> list[bytes]:
        """What these bytes decode to. Raises SignatureDoesNotMatch, InvalidRequest."""
        self._buffer += data
        out: list[bytes] = []
        while not self.done and self._state(out):
            pass
        if self.done and self._buffer:
            raise S3Error("InvalidRequest", "There are bytes behind the last chunk of an aws-chunked body.")
        return out

    def finish(self) -> None:
        """The body has ended. Raises IncompleteBody when it should not have."""
        if not self.done and self._state == self._trailer_line and not self._buffer:
            self._end()  # the last empty line is left out by some
        if not self.done:
            raise S3Error("IncompleteBody", "The aws-chunked body ended before its last chunk.")

    def _line(self) -> bytes | None:
        line, found, rest = self._buffer.partition(b"\r\n")
        if len(line) > MAX_LINE:
            raise S3Error("InvalidRequest", "A line of the aws-chunked body is too long.")
        if not found:
            return None
        self._buffer = rest
        return line

    def _size_line(self, _out: list[bytes]) -> bool:
        line = self._line()
        if line is None:
            return False
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise S3Error("InvalidRequest", "A chunk of the aws-chunked body does not begin with its size.")
        self._left = int(match[1], 16)
        self._expected = (match[2] or b"").decode()
        if self._key is not None and not self._expected:
            raise S3Error("SignatureDoesNotMatch", "A chunk of the body is not signed.")
        self._hash = hashlib.sha256()
        if self._left:
            self._state = self._data
        else:
            self._check()
            self._state = self._trailer_line if self._trailer else self._last_line
        return True

    def _data(self, out: list[bytes]) -> bool:
        if not self._buffer:
            return False
        piece, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
        self._left -= len(piece)
        if self._key is not None:
            self._hash.update(piece)
        out.append(piece)
        if not self._left:
            self._check()
            self._state = self._data_end
        return True

    def _data_end(self, _out: list[bytes]) -> bool:
        line = self._line()
        if line is None:
            return False
        if line:
            raise S3Error("InvalidRequest", "A chunk of the aws-chunked body is longer than its size.")
        self._state = self._size_line
        return True

    def _last_line(self, _out: list[bytes]) -> bool:
        line = self._line()
        if line is None:
            return False
        if line:
            raise S3Error("InvalidRequest", "Unexpected trailing headers in the aws-chunked body.")
        self.done = True
        return True

    def _trailer_line(self, _out: list[bytes]) -> bool:
        line = self._line()
        if line is None:
            return False
        if line:
            name, colon, value = line.partition(b":")
            if not colon or len(self._trailer_lines) >= 32:
                raise S3Error("InvalidRequest", "A trailing header of the aws-chunked body is malformed.")
            text = name.decode("latin-1").strip().lower()
            self.trailers[text] = value.decode("latin-1").strip()
            if text != "x-amz-trailer-signature":
                self._trailer_lines.append(f"{text}:{self.trailers[text]}\n".encode("latin-1"))
            return True
        if self._key is not None and "x-amz-trailer-signature" not in self.trailers:
            return True  # some clients put an empty line between the trailers and their signature
        self._end()
        return True

    def _end(self) -> None:
        self._check_trailer()
        self.done = True

    def _check(self) -> None:
        if self._key is None:
            return
        computed = self._key.chunk(self._previous, self._hash.hexdigest())
        if not hmac.compare_digest(computed, self._expected):
            raise S3Error("SignatureDoesNotMatch", "The signature of a chunk of the body does not match.")
        self._previous = computed

    def _check_trailer(self) -> None:
        if self._key is None:
            return
        digest = hashlib.sha256(b"".join(self._trailer_lines)).hexdigest()
        given = self.trailers.get("x-amz-trailer-signature", "")
        if not hmac.compare_digest(self._key.trailer(self._previous, digest).encode(), given.encode("latin-1")):
            raise S3Error("SignatureDoesNotMatch", "The signature of the trailing headers does not match.")

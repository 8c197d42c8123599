"""SPDY/3.1 frames, as far as port-forward needs them: the server's side, without any I/O.

Clients of Kubernetes open streams (SYN_STREAM, answered by SYN_REPLY), send data on them, close one direction (FIN)
or both (RST_STREAM). They know no flow control, so none is done here: whoever uses this stops reading instead.
Format: https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/

Invariants, whatever a peer sends: memory is bounded (data is passed on as it comes, never gathered into frames;
headers are limited before and after decompression), and everything that breaks the protocol is a `SpdyError`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

VERSION = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN = 1
REFUSED_STREAM, CANCEL = 3, 5
MAX_CONTROL = 32 << 10
"""Bytes of a control frame."""
MAX_HEADERS = 64 << 10
"""Bytes of a header block when it is decompressed."""
MAX_DATA = (1 << 24) - 1
_HEAD = struct.Struct(">HHI")
_TWO = struct.Struct(">II")
_WORD = struct.Struct(">I")
_ID = 0x7FFFFFFF

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_REST = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(_WORD.pack(len(word)) + word.replace("_", " ").encode() for word in _WORDS.split()) + _REST.encode()
)
"""What both sides' compressors know beforehand (section 2.6.10.1): words with their lengths, then plain text."""


class SpdyError(Exception):
    """The peer broke the protocol; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer has opened a stream; the names of headers are in lower case."""

    stream: int
    headers: dict[str, str]
    end: bool


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of what the peer sends on a stream, of any length; with `end` nothing follows."""

    stream: int
    payload: bytes
    end: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer has given up a stream, in both directions."""

    stream: int


@dataclass(frozen=True, slots=True)
class Pinged:
    """The peer asks whether anybody is there: answer with `ping`."""

    number: int


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer opens no more streams."""


Event = Opened | Data | Reset | Pinged | GoneAway


class Codec:
    """One connection. Bytes for the peer that have headers must be sent in the order in which they were made."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._last_stream = 0
        self._data: tuple[int, int, bool] | None = None
        """The data frame that has begun: its stream, how much is missing, whether it is the last."""

    def receive(self, data: bytes) -> list[Event]:
        """What these bytes complete. Raises SpdyError."""
        self._buffer += data
        events: list[Event] = []
        while True:
            if self._data is not None:
                if not self._take_data(events):
                    return events
            elif len(self._buffer) < _HEAD.size:
                return events
            elif self._buffer[0] & 0x80:
                if not self._take_control(events):
                    return events
            else:
                stream, length = _TWO.unpack_from(self._buffer)
                del self._buffer[: _TWO.size]
                if not stream:
                    raise SpdyError("data without a stream")
                self._data = (stream, length & MAX_DATA, bool(length >> 24 & FIN))
                if not length & MAX_DATA:
                    events.append(Data(stream, b"", self._data[2]))
                    self._data = None

    def _take_data(self, events: list[Event]) -> bool:
        if self._data is None or not self._buffer:
            return False
        stream, missing, end = self._data
        payload = bytes(self._buffer[:missing])
        del self._buffer[:missing]
        missing -= len(payload)
        events.append(Data(stream, payload, end and not missing))
        self._data = (stream, missing, end) if missing else None
        return True

    def _take_control(self, events: list[Event]) -> bool:
        version, kind, rest = _HEAD.unpack_from(self._buffer)
        flags, length = rest >> 24, rest & MAX_DATA
        if version & 0x7FFF != VERSION:
            raise SpdyError(f"SPDY version {version & 0x7FFF} instead of {VERSION}")
        if length > MAX_CONTROL:
            raise SpdyError(f"a control frame of {length} bytes")
        if len(self._buffer) < _HEAD.size + length:
            return False
        body = bytes(self._buffer[_HEAD.size : _HEAD.size + length])
        del self._buffer[: _HEAD.size + length]
        event = self._control(kind, flags, body)
        if event is not None:
            events.append(event)
        return True

    def _control(self, kind: int, flags: int, body: bytes) -> Event | None:
        match kind:
            case 1:  # SYN_STREAM
                stream = _word(body, 10)
                if not stream % 2 or stream <= self._last_stream:
                    raise SpdyError(f"stream {stream} after {self._last_stream}")
                self._last_stream = stream
                return Opened(stream, self._headers(body[10:]), bool(flags & FIN))
            case 8 | 2:  # HEADERS, SYN_REPLY: of no use, but what follows is compressed with the knowledge of them
                stream = _word(body, 4)
                self._headers(body[4:])
                return Data(stream, b"", end=True) if flags & FIN else None
            case 3:  # RST_STREAM
                return Reset(_word(body, 8))
            case 6:  # PING
                return Pinged(_WORD.unpack_from(_least(body, 4))[0])
            case 7:  # GOAWAY
                return GoneAway()
            case _:  # SETTINGS, WINDOW_UPDATE, and what must be ignored because it is unknown
                return None

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, MAX_HEADERS)
        except zlib.error as error:
            raise SpdyError(f"headers that cannot be decompressed: {error}") from error
        if self._inflate.unconsumed_tail or self._inflate.eof:
            raise SpdyError(f"headers of more than {MAX_HEADERS} bytes")
        found: dict[str, str] = {}
        at = _WORD.size
        for _ in range(_WORD.unpack_from(_least(plain, 4))[0]):
            name, at = _text(plain, at)
            value, at = _text(plain, at)
            found[name.lower()] = value
        return found

    def _control_frame(self, kind: int, body: bytes, flags: int = 0) -> bytes:
        return _HEAD.pack(0x8000 | VERSION, kind, flags << 24 | len(body)) + body

    def reply(self, stream: int) -> bytes:
        """The stream is accepted."""
        block = self._deflate.compress(_WORD.pack(0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return self._control_frame(SYN_REPLY, _WORD.pack(stream) + block)

    def data(self, stream: int, payload: bytes, *, end: bool = False) -> bytes:
        """Data of at most MAX_DATA bytes; with `end` nothing follows in this direction."""
        return _TWO.pack(stream, (FIN if end else 0) << 24 | len(payload)) + payload

    def reset(self, stream: int, status: int = CANCEL) -> bytes:
        """The stream is given up, in both directions."""
        return self._control_frame(RST_STREAM, _TWO.pack(stream, status))

    def ping(self, number: int) -> bytes:
        """The answer to a ping."""
        return self._control_frame(PING, _WORD.pack(number))


def _least(body: bytes, length: int) -> bytes:
    if len(body) < length:
        raise SpdyError(f"{len(body)} bytes where {length} belong")
    return body


def _word(body: bytes, length: int) -> int:
    """The stream that a control frame of at least this length is about."""
    stream = int(_WORD.unpack_from(_least(body, length))[0]) & _ID
    if not stream:
        raise SpdyError("a control frame without a stream")
    return stream


def _text(plain: bytes, at: int) -> tuple[str, int]:
    if at + _WORD.size > len(plain):
        raise SpdyError("headers end too early")
    start = at + _WORD.size
    end = start + int(_WORD.unpack_from(plain, at)[0])
    if end > len(plain):
        raise SpdyError("a header is longer than all headers")
    return plain[start:end].decode("latin-1"), end

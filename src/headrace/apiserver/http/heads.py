"""Header blocks that clients send again with every request, read once.

From one request of a client to the next, the line and the body differ and the headers stay. A block of headers that
the parser has read is known by its bytes from then on, and a request that comes whole and alone, with a known block
under a line as clients write them, needs no parser. What the headers mean (who asks, whether they may) is found out
anew for every request.
"""

from __future__ import annotations

import re
from typing import NamedTuple

Header = tuple[bytes, bytes]

REMEMBERED = 512
MAX_BLOCK = 8192
_END = b"\r\n\r\n"
_LINE = re.compile(rb"(GET|POST|PUT|PATCH|DELETE) (/api[\w./~-]*)(?:\?([\w./~%&=:,+-]*))? HTTP/1\.1(?=\r\n)")
"""Lines whose path is the path, with nothing to decode. All others are the parser's."""
_ELSEWHERE = frozenset({b"connection", b"expect", b"transfer-encoding", b"upgrade"})
"""Headers with which a request is more than its bytes."""
_IMPERSONATE = b"impersonate-"


class Head:
    """The headers of a request. Many requests may share one: nothing in it is changed."""

    __slots__ = ("authorization", "impersonates", "raw", "values")

    def __init__(self, raw: list[Header]) -> None:
        self.raw = raw
        self.values = dict(raw)
        self.authorization = self.text(b"authorization")
        self.impersonates = any(name.startswith(_IMPERSONATE) for name in self.values)

    def text(self, name: bytes) -> str:
        """A header's value, "" when absent."""
        value: bytes = self.values.get(name, b"")
        return value.decode("latin-1")


class Whole(NamedTuple):
    """A request with everything that belongs to it."""

    method: str
    path: bytes
    query: bytes
    head: Head
    body: bytes


class Heads:
    """The blocks that are known, with the length of the body that each announces."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Head, int]] = {}

    def read(self, data: bytes) -> Whole | None:
        """The request that these bytes, at the beginning of a message, are; None leaves them to the parser."""
        line = _LINE.match(data)
        if line is None:
            return None
        end = data.find(_END, line.end()) + len(_END)
        known = self._known.get(data[line.end() : end])
        if known is None or len(data) - end != known[1]:
            return None
        method, path, query = line.groups(b"")
        return Whole(method.decode(), path, query, known[0], data[end:])

    def learn(self, data: bytes, headers: list[Header]) -> None:
        """The parser took `data` as one message, and found `headers` in it."""
        line = _LINE.match(data)
        end = data.find(_END)
        if line is None or end < 0 or end > MAX_BLOCK:
            return
        head = Head(headers)
        if not head.values.keys().isdisjoint(_ELSEWHERE):
            return
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        end += len(_END)
        self._known[data[line.end() : end]] = head, int(head.values.get(b"content-length", b"0"))

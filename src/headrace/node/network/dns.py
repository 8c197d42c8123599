"""Names for pods: those of the cluster from its services, all others from the host's name servers.

Answers A questions; AAAA and everything else get "no such data", so that resolvers stop asking. Reverse
questions about addresses that nobody outside can know are answered here too: programs ask them at start-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from headrace.node.network.index import in_cluster

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headrace.node.network.index import Records

log = logging.getLogger(__name__)

PORT = 53
A, CNAME, AAAA, ANY = 1, 5, 28, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP = 0, 1, 2, 3, 4
TTL = 5
_HEADER = struct.Struct("!HHHHHH")
_UDP_LIMIT = 512
_FORWARD_SECONDS = 2.0
_DEAD_SECONDS = 10.0
_TCP_IDLE_SECONDS = 30.0
_LOCAL_REVERSE = ("10.in-addr.arpa", "127.in-addr.arpa", "254.169.in-addr.arpa", "0.0.0.0.in-addr.arpa", "ip6.arpa")


@dataclass(frozen=True, slots=True)
class Question:
    """The one question of a query."""

    id: int
    name: str
    type: int
    section: bytes
    """The question as it came, to be repeated in the answer."""
    recursion: bool


class Malformed(Exception):
    """Not a query."""


def parse(query: bytes) -> Question:
    """Read a query. Raises Malformed."""
    try:
        number, flags, questions, *_ = _HEADER.unpack_from(query)
        if flags & 0x8000 or questions != 1:
            raise Malformed
        labels, position = [], _HEADER.size
        while length := query[position]:
            if length > 63:
                raise Malformed
            labels.append(query[position + 1 : position + 1 + length].decode("ascii"))
            position += 1 + length
        (kind,) = struct.unpack_from("!H", query, position + 1)
        section = query[_HEADER.size : position + 5]
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Malformed from error
    return Question(number, ".".join(labels).lower(), kind, section, bool(flags & 0x0100))


def respond(question: Question, code: int, addresses: tuple[str, ...] = (), alias: str = "") -> bytes:
    """An authoritative answer."""
    answers = []
    if alias:
        answers.append(_record(b"\xc0\x0c", CNAME, encode_name(alias)))
    name = encode_name(alias) if alias else b"\xc0\x0c"
    answers += [_record(name, A, socket.inet_aton(address)) for address in addresses]
    flags = 0x8480 | (0x0100 if question.recursion else 0) | code
    return _HEADER.pack(question.id, flags, 1, len(answers), 0, 0) + question.section + b"".join(answers)


def _record(name: bytes, kind: int, data: bytes) -> bytes:
    return name + struct.pack("!HHIH", kind, 1, TTL, len(data)) + data


def encode_name(name: str) -> bytes:
    """A name on the wire."""
    return b"".join(bytes([len(label)]) + label for label in name.encode("ascii").split(b".")) + b"\0"


def truncated(answer: bytes) -> bytes:
    """What UDP can carry: the answer, or a hint to ask again over TCP."""
    if len(answer) <= _UDP_LIMIT:
        return answer
    number, flags, *_ = _HEADER.unpack_from(answer)
    question = parse(_HEADER.pack(number, 0, 1, 0, 0, 0) + answer[_HEADER.size :])
    return _HEADER.pack(number, flags | 0x0200, 1, 0, 0, 0) + question.section


def decide(question: Question, lookup: Callable[[str], Records | None]) -> tuple[bytes | None, str]:
    """The answer, or None when the host's name servers must be asked; and an outside name to add to an answer."""
    found = lookup(question.name)
    if found is None:
        if in_cluster(question.name) or question.name.endswith(_LOCAL_REVERSE):
            return respond(question, NXDOMAIN), ""
        return None, ""
    if question.type not in {A, ANY}:
        return respond(question, NOERROR, alias=found.alias), ""
    return respond(question, NOERROR, found.addresses, found.alias), found.alias


class DnsServer:
    """Listens on the node's address inside the pod network."""

    def __init__(
        self,
        address: str,
        lookup: Callable[[str], Records | None],
        listen: Callable[[str, int, int], Awaitable[socket.socket]],
        upstream: Upstream | None = None,
    ) -> None:
        self._address, self._lookup, self._listen = address, lookup, listen
        self._upstream = upstream or Upstream(exclude=address)
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on UDP and TCP."""
        loop = asyncio.get_running_loop()
        datagrams = await self._listen(self._address, PORT, socket.SOCK_DGRAM)
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self._received), sock=datagrams)
        stream = await self._listen(self._address, PORT, socket.SOCK_STREAM)
        self._server = await asyncio.start_server(self._talk, sock=stream)

    async def stop(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def answer(self, query: bytes) -> bytes | None:
        """The answer to a query; None when it deserves none."""
        try:
            question = parse(query)
        except Malformed:
            return (
                _HEADER.pack(*struct.unpack_from("!H", query), 0x8000 | FORMERR, 0, 0, 0, 0)
                if len(query) > 11
                else None
            )
        decided, alias = decide(question, self._lookup)
        if decided is None:
            return await self._upstream.ask(query) or respond(question, SERVFAIL)
        if alias and not in_cluster(alias):
            return respond(question, NOERROR, await _resolve(alias), alias)
        if alias:
            target = self._lookup(alias)
            return respond(question, NOERROR, target.addresses if target is not None else (), alias)
        return decided

    def _received(self, transport: asyncio.DatagramTransport, query: bytes, source: tuple[str, int]) -> None:
        async def reply() -> None:
            answer = await self.answer(query)
            if answer is not None and not transport.is_closing():
                transport.sendto(truncated(answer), source)

        task = asyncio.create_task(reply())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(_TCP_IDLE_SECONDS):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    query = await reader.readexactly(length)
                answer = await self.answer(query)
                if answer is None:
                    return
                writer.write(struct.pack("!H", len(answer)) + answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


async def _resolve(name: str) -> tuple[str, ...]:
    """The IPv4 addresses of an outside name, by the host's own means."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(str(entry[4][0]) for entry in found)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[asyncio.DatagramTransport, bytes, tuple[str, int]], None]) -> None:
        self._received_callback = received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._received_callback(self._transport, data, addr)


class Upstream:
    """The host's name servers. When none has answered, they are not asked again for a while: programs that look
    up names without need must not wait each time.
    """

    def __init__(self, path: Path = Path("/etc/resolv.conf"), exclude: str = "") -> None:
        self._path, self._exclude = path, exclude
        self._dead_until = 0.0

    def servers(self) -> list[str]:
        """The addresses in the host's resolv.conf."""
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        words = [line.split() for line in lines]
        return [w[1] for w in words if len(w) > 1 and w[0] == "nameserver" and w[1] != self._exclude]

    async def ask(self, query: bytes) -> bytes | None:
        """Their answer; None when there is none."""
        if time.monotonic() < self._dead_until:
            return None
        for server in self.servers():
            with contextlib.suppress(OSError):
                async with asyncio.timeout(_FORWARD_SECONDS):
                    return await _exchange(server, query)
        self._dead_until = time.monotonic() + _DEAD_SECONDS
        return None


async def _exchange(server: str, query: bytes) -> bytes:
    """Ask over UDP, and over TCP when the answer does not fit. The number is our own, so that answers match."""
    loop = asyncio.get_running_loop()
    number = struct.pack("!H", random.getrandbits(16))
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((server, PORT))
        await loop.sock_sendall(sock, number + query[2:])
        while True:
            answer = await loop.sock_recv(sock, 65535)
            if answer[:2] == number:
                break
    if len(answer) > 3 and answer[2] & 0x02:
        reader, writer = await asyncio.open_connection(server, PORT)
        try:
            writer.write(struct.pack("!H", len(query)) + number + query[2:])
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            answer = await reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("the name server hung up") from error
        finally:
            writer.close()
    return query[:2] + answer[2:]

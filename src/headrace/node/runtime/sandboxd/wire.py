"""How the helpers talk: a 4-byte length and JSON, with descriptors beside the first byte.

Unix socket paths are limited to 107 bytes, so sockets are bound and connected through a descriptor of their
folder. Only processes of the same user are answered.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    Message = dict[str, Any]

HEADER = struct.Struct(">I")
MAX_MESSAGE = 64 << 20
MAX_FDS = 8


class ProtocolError(Exception):
    """The peer does not speak this protocol."""


def encode(message: Message) -> bytes:
    """One frame."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return HEADER.pack(len(body)) + body


def take_frames(buffer: bytearray) -> Iterator[Message]:
    """Remove complete frames from the front of the buffer."""
    while len(buffer) >= HEADER.size:
        (length,) = HEADER.unpack_from(buffer)
        if length > MAX_MESSAGE:
            raise ProtocolError(f"a message of {length} bytes")
        if len(buffer) < HEADER.size + length:
            return
        body = bytes(buffer[HEADER.size : HEADER.size + length])
        del buffer[: HEADER.size + length]
        yield json.loads(body)


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one message on a blocking socket."""
    send_frame(sock, encode(message), fds)


def send_frame(sock: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Send one message that is encoded already."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sent = sock.sendmsg([data], ancillary)
    if sent < len(data):
        sock.sendall(data[sent:])


def receive(sock: socket.socket) -> tuple[Message, list[int]]:
    """Receive one message from a blocking socket. Raises EOFError when the peer has closed."""
    fds = array.array("i")
    head, ancillary, _flags, _address = sock.recvmsg(
        HEADER.size, socket.CMSG_SPACE(MAX_FDS * fds.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if not head:
        raise EOFError("the peer closed the connection")
    head += _exactly(sock, HEADER.size - len(head))
    (length,) = HEADER.unpack(head)
    if length > MAX_MESSAGE:
        raise ProtocolError(f"a message of {length} bytes")
    return json.loads(_exactly(sock, length)), list(fds)


def _exactly(sock: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = sock.recv(min(count, 1 << 20))
        if not part:
            raise EOFError("the peer closed the connection within a message")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def connect(path: str) -> socket.socket:
    """A blocking connection to a Unix socket, however long its path is."""
    folder = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    except OSError:
        sock.close()
        raise
    finally:
        os.close(folder)
    return sock


def listen(path: str) -> socket.socket:
    """A listening Unix socket for this user alone; what was there before is replaced."""
    folder = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        if os.path.lexists(path):
            os.unlink(path)
        sock.bind(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        sock.listen(64)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(old)
        os.close(folder)
    return sock


def same_user(sock: socket.socket) -> bool:
    """Whether the peer runs as this user (in a user namespace: is mapped to it)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", credentials)[1] == os.getuid())


def write_file(path: str, message: Message) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(message).encode())
    finally:
        os.close(fd)
    os.rename(temporary, path)


def write_plain(path: str, content: bytes, mode: int) -> None:
    """Write a file that nobody reads yet, with these permissions whatever the process's mask is."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.write(fd, content)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def read_file(path: str) -> Message | None:
    """What `write_file` wrote, or None."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(fd, 65536)
            while len(data) >= 65536 and (more := os.read(fd, 1 << 20)):
                data += more
        finally:
            os.close(fd)
        found = json.loads(data)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None

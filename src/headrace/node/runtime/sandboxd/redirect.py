"""A network of its own for a container without a network namespace: the kernel asks before it binds or connects.

A filter (seccomp) makes `bind`, `connect` and `sendto` with an address wait for the container's supervisor, which
writes another address over the one that the program gave. Everything happens on the loopback network 127.0.0.0/8,
all of which is this machine's, so ten containers may all listen on 0.0.0.0:8080:

    an address of the pod network 10.199.x.y     is 127.N.x.y, N chosen once for each platform
    0.0.0.0 and 127.0.0.1                        are the pod's own address
    ports below 1024                             lie 40000 higher, for they are only root's
    port 53 of whatever name server              is the platform's own

Invariants: `moved` is pure; a program that the supervisor cannot answer goes on as if nobody had asked. There is no
IPv6, as on a machine that was started without it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    from .wire import Message

BIND, CONNECT, SEND = "bind", "connect", "sendto"
PRIVILEGED, SHIFT = 1024, 40000
DNS = 53

_SYSCALLS = {  # of each machine: its name for seccomp, seccomp itself, bind, connect, sendto, socket
    "x86_64": (0xC000003E, 317, 49, 42, 44, 41),
    "aarch64": (0xC00000B7, 277, 200, 203, 206, 198),
}
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_ALLOW, _NOTIFY, _REFUSE = 0x7FFF0000, 0x7FC00000, 0x00050000
_NO_FAMILY = 97
_INET, _INET6 = 2, 10
_CONTINUE = 1
_NOTICE = struct.Struct("QIIiIQ6Q")
_ANSWER = struct.Struct("QqiI")


def _request(number: int, size: int, direction: int) -> int:
    return direction << 30 | size << 16 | ord("!") << 8 | number


_RECEIVE = _request(0, _NOTICE.size, 3)
_SEND = _request(1, _ANSWER.size, 3)
_VALID = _request(2, 8, 1)


def local(address: bytes, number: int) -> bytes:
    """Where an address of the pod network lies on this machine."""
    return bytes((127, number)) + address[2:]


def lowered(port: int) -> int:
    """The port that stands for one which only root may listen on."""
    return port + SHIFT if 0 < port < PRIVILEGED else port


class Network:
    """What `moved` must know of the platform's network and of the pod."""

    def __init__(self, spec: Message) -> None:
        self.number: int = spec["number"]
        self.networks = [(_integer(a), int(bits)) for a, bits in (n.split("/") for n in spec["networks"])]
        self.node = _packed(spec["node"])
        self.own = _packed(spec["ip"]) if spec["ip"] else None
        """None: the pod is in the machine's network."""

    def inside(self, address: bytes) -> bool:
        """Whether this is a pod's or a service's address."""
        value = int.from_bytes(address, "big")
        return any(value >> (32 - bits) == network >> (32 - bits) for network, bits in self.networks)


def moved(network: Network, what: str, address: bytes, port: int) -> tuple[bytes, int]:
    """The address and port that are meant."""
    if what != BIND and port == DNS:
        return local(network.node, network.number), lowered(DNS)
    if network.inside(address):
        return local(address, network.number), lowered(port)
    if network.own is None:
        return address, port
    own = local(network.own, network.number)
    anywhere = address == bytes(4)
    if what == BIND and anywhere and port == 0:
        return address, port  # for a connection to somewhere outside
    if anywhere or (address[0] == 127 and address[1] != network.number):
        return own, lowered(port)
    return address, port


def _packed(text: str) -> bytes:
    return bytes(int(part) for part in text.split("."))


def _integer(text: str) -> int:
    return int.from_bytes(_packed(text), "big")


def _program() -> bytes:
    machine, _, bind, connect, sendto, socket = _SYSCALLS[platform.machine()]
    load, equal, end = 0x20, 0x15, 0x06
    number, family, pointer = 0, 16, 48
    code = [
        (load, 0, 0, 4),
        (equal, 0, 12, machine),
        (load, 0, 0, number),
        (equal, 9, 0, bind),
        (equal, 8, 0, connect),
        (equal, 3, 0, sendto),
        (equal, 0, 7, socket),
        (load, 0, 0, family),
        (equal, 6, 5, _INET6),
        (load, 0, 0, pointer),  # what is sent on a connection names no address: the usual case
        (equal, 0, 2, 0),
        (load, 0, 0, pointer + 4),
        (equal, 1, 0, 0),
        (end, 0, 0, _NOTIFY),
        (end, 0, 0, _ALLOW),
        (end, 0, 0, _REFUSE | _NO_FAMILY),
    ]
    return b"".join(struct.pack("HBBI", *line) for line in code)


def install() -> int:
    """From now on this process and what it starts asks; the descriptor that answers. It must have given up its
    privileges. Raises OSError.
    """
    if platform.machine() not in _SYSCALLS:
        raise OSError(38, f"no filter for {platform.machine()}")
    program = _program()
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    found: int = libc.syscall(_SYSCALLS[platform.machine()][1], _SET_MODE_FILTER, _NEW_LISTENER, header)
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"seccomp: {os.strerror(code)}")
    return found


class Redirect:
    """Answers one container."""

    def __init__(self, listener: int, network: Network) -> None:
        self.fd, self._network = listener, network
        _, _, bind, connect, sendto, _ = _SYSCALLS[platform.machine()]
        self._calls = {bind: (BIND, 1, 2), connect: (CONNECT, 1, 2), sendto: (SEND, 4, 5)}

    def handle(self) -> None:
        """One question."""
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(self.fd, _RECEIVE, notice)
        except OSError:
            return  # whoever asked has ended meanwhile
        fields = _NOTICE.unpack(notice)
        number, pid, call, arguments = fields[0], fields[1], fields[3], fields[6:]
        try:
            self._rewrite(number, pid, call, arguments)
        except (OSError, KeyError):
            pass  # it goes on with what it gave
        try:
            fcntl.ioctl(self.fd, _SEND, bytearray(_ANSWER.pack(number, 0, 0, _CONTINUE)))
        except OSError:
            return

    def _rewrite(self, number: int, pid: int, call: int, arguments: tuple[int, ...]) -> None:
        what, at, length = self._calls[call]
        memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self.fd, _VALID, struct.pack("Q", number))  # it is still that process which asks
            given = os.pread(memory, min(arguments[length], 16), arguments[at])
            if len(given) < 8 or struct.unpack_from("=H", given)[0] != _INET:
                return
            (port,) = struct.unpack_from("!H", given, 2)
            address, wanted = moved(self._network, what, given[4:8], port)
            new = given[:2] + struct.pack("!H", wanted) + address
            if new != given[:8]:
                os.pwrite(memory, new, arguments[at])
        finally:
            os.close(memory)

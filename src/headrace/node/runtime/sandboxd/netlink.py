"""The few requests to the kernel's routing socket that a pod network needs."""

from __future__ import annotations

import os
import socket
import struct

_NEWLINK, _SETLINK, _NEWADDR, _DELADDR, _NEWROUTE = 16, 19, 20, 21, 24
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 1, 4, 0x200, 0x400
_IFF_UP = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 10, 18, 28
_IFLA_PROTINFO, _NESTED, _BRPORT_FLUSH = 12, 0x8000, 24
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _TABLE_LOCAL, _PROTOCOL_STATIC, _SCOPE_UNIVERSE, _SCOPE_HOST = 254, 255, 4, 0, 254
_UNICAST, _LOCAL = 1, 2
_AF_BRIDGE = 7

LOOPBACK = 1
"""The index of `lo` in every network namespace."""


def _attribute(kind: int, data: bytes) -> bytes:
    length = 4 + len(data)
    return struct.pack("HH", length, kind) + data + bytes(-length % 4)


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _number(value: int) -> bytes:
    return struct.pack("I", value)


def _link(index: int = 0, flags: int = 0, family: int = socket.AF_UNSPEC) -> bytes:
    return struct.pack("BxHiII", family, 0, index, flags, flags)


def _address(index: int, ip: str, prefix: int) -> bytes:
    raw = socket.inet_aton(ip)
    body = struct.pack("BBBBI", socket.AF_INET, prefix, 0, 0, index)
    return body + _attribute(_IFA_LOCAL, raw) + _attribute(_IFA_ADDRESS, raw)


def _default_route(gateway: str, index: int) -> bytes:
    body = struct.pack(
        "BBBBBBBBI", socket.AF_INET, 0, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_UNIVERSE, _UNICAST, 0
    )
    return body + _attribute(_RTA_GATEWAY, socket.inet_aton(gateway)) + _attribute(_RTA_OIF, _number(index))


def mac_of(ip: str) -> bytes:
    """A fixed hardware address for an IP: who reuses an address meets no stale neighbour entry."""
    return b"\x0a\x58" + socket.inet_aton(ip)


class Netlink:
    """A routing socket of the network namespace in which it was made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _request(self, kind: int, flags: int, body: bytes) -> None:
        self._requests((kind, flags, body))

    def _requests(self, *requests: tuple[int, int, bytes]) -> None:
        """Several at once. Of those that fail the first is told; the others have been tried too."""
        messages = []
        for number, (kind, flags, body) in enumerate(requests, start=1):
            wanted = flags | _REQUEST | (_ACK if number == len(requests) else 0)
            messages.append(struct.pack("IHHII", 16 + len(body), kind, wanted, self._sequence + number, 0))
            messages += [body, bytes(-len(body) % 4)]
        self._socket.send(b"".join(messages))
        self._sequence += len(requests)
        failed = 0
        while True:  # the kernel answers those that fail, and the last
            answer = self._socket.recv(65536)
            (sequence,) = struct.unpack_from("I", answer, 8)
            (code,) = struct.unpack_from("i", answer, 16)
            failed = failed or code
            if sequence == self._sequence:
                break
        if failed:
            raise OSError(-failed, f"netlink request {requests[0][0]}: {os.strerror(-failed)}")

    def add_bridge(self, name: str, mac: bytes) -> None:
        """A bridge that keeps its hardware address whatever is plugged in."""
        info = _attribute(_IFLA_LINKINFO, _attribute(_INFO_KIND, _text("bridge")))
        name_and_mac = _attribute(_IFLA_IFNAME, _text(name)) + _attribute(_IFLA_ADDRESS, mac)
        self._request(_NEWLINK, _CREATE | _EXCLUSIVE, _link() + name_and_mac + info)

    def add_veth(self, name: str, master: int, peer: str, peer_mac: bytes, peer_ns: int) -> None:
        """A cable from the bridge into another network namespace."""
        other = (
            _link()
            + _attribute(_IFLA_IFNAME, _text(peer))
            + _attribute(_IFLA_ADDRESS, peer_mac)
            + _attribute(_IFLA_NET_NS_FD, _number(peer_ns))
        )
        info = _attribute(_INFO_KIND, _text("veth")) + _attribute(_INFO_DATA, _attribute(_VETH_PEER, other))
        self._request(
            _NEWLINK,
            _CREATE | _EXCLUSIVE,
            _link(flags=_IFF_UP)
            + _attribute(_IFLA_IFNAME, _text(name))
            + _attribute(_IFLA_MASTER, _number(master))
            + _attribute(_IFLA_LINKINFO, info),
        )

    def up(self, index: int) -> None:
        """Switch an interface on."""
        self._request(_NEWLINK, 0, _link(index, _IFF_UP))

    def add_address(self, index: int, ip: str, prefix: int) -> None:
        """Give an interface an address, and the route to its network."""
        self._request(_NEWADDR, _CREATE, _address(index, ip, prefix))

    def be(self, index: int, ip: str, prefix: int, gateway: str) -> None:
        """Have an interface that is up be a machine's only one: hardware address, address, the way to all others."""
        self._requests(
            (_NEWLINK, 0, _link(index) + _attribute(_IFLA_ADDRESS, mac_of(ip))),
            (_NEWADDR, _CREATE, _address(index, ip, prefix)),
            (_NEWROUTE, _CREATE, _default_route(gateway, index)),
        )

    def be_nobody(self, index: int, ip: str, prefix: int, mac: bytes) -> None:
        """Undo `be`: the address goes, and with it all routes and neighbours."""
        self._requests(
            (_DELADDR, 0, _address(index, ip, prefix)),
            (_NEWLINK, 0, _link(index) + _attribute(_IFLA_ADDRESS, mac)),
        )

    def forget_port(self, index: int) -> None:
        """Have the bridge forget whom it has heard on this port."""
        flush = _attribute(_IFLA_PROTINFO | _NESTED, _attribute(_BRPORT_FLUSH, b""))
        self._request(_SETLINK, 0, _link(index, family=_AF_BRIDGE) + flush)

    def own_network(self, network: str, prefix: int) -> None:
        """Treat every address of a network as this machine's own, without configuring each."""
        body = struct.pack(
            "BBBBBBBBI", socket.AF_INET, prefix, 0, 0, _TABLE_LOCAL, _PROTOCOL_STATIC, _SCOPE_HOST, _LOCAL, 0
        )
        where = _attribute(_RTA_DST, socket.inet_aton(network)) + _attribute(_RTA_OIF, _number(LOOPBACK))
        self._request(_NEWROUTE, _CREATE, body + where)

"""The few requests to the kernel's routing socket that a pod network needs."""

from __future__ import annotations

import os
import socket
import struct

_NEWLINK, _NEWADDR, _NEWROUTE = 16, 20, 24
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 1, 4, 0x200, 0x400
_IFF_UP = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 10, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _TABLE_LOCAL, _PROTOCOL_STATIC, _SCOPE_UNIVERSE, _SCOPE_HOST = 254, 255, 4, 0, 254
_UNICAST, _LOCAL = 1, 2

LOOPBACK = 1
"""The index of `lo` in every network namespace."""


def _attribute(kind: int, data: bytes) -> bytes:
    length = 4 + len(data)
    return struct.pack("HH", length, kind) + data + bytes(-length % 4)


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _number(value: int) -> bytes:
    return struct.pack("I", value)


def _link(index: int = 0, flags: int = 0) -> bytes:
    return struct.pack("BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


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
        self._sequence += 1
        header = struct.pack("IHHII", 16 + len(body), kind, flags | _REQUEST | _ACK, self._sequence, 0)
        self._socket.send(header + body)
        (code,) = struct.unpack_from("i", self._socket.recv(65536), 16)
        if code:
            raise OSError(-code, f"netlink request {kind}: {os.strerror(-code)}")

    def add_bridge(self, name: str, mac: bytes) -> None:
        """A bridge that keeps its hardware address whatever is plugged in."""
        info = _attribute(_IFLA_LINKINFO, _attribute(_INFO_KIND, _text("bridge")))
        name_and_mac = _attribute(_IFLA_IFNAME, _text(name)) + _attribute(_IFLA_ADDRESS, mac)
        self._request(_NEWLINK, _CREATE | _EXCLUSIVE, _link() + name_and_mac + info)

    def add_veth(self, name: str, master: int, peer: str, peer_ns: int) -> None:
        """A cable from the bridge into another network namespace."""
        other = _link() + _attribute(_IFLA_IFNAME, _text(peer)) + _attribute(_IFLA_NET_NS_FD, _number(peer_ns))
        info = _attribute(_INFO_KIND, _text("veth")) + _attribute(_INFO_DATA, _attribute(_VETH_PEER, other))
        self._request(
            _NEWLINK,
            _CREATE | _EXCLUSIVE,
            _link(flags=_IFF_UP)
            + _attribute(_IFLA_IFNAME, _text(name))
            + _attribute(_IFLA_MASTER, _number(master))
            + _attribute(_IFLA_LINKINFO, info),
        )

    def up(self, index: int, mac: bytes = b"") -> None:
        """Switch an interface on, with a hardware address."""
        self._request(_NEWLINK, 0, _link(index, _IFF_UP) + (_attribute(_IFLA_ADDRESS, mac) if mac else b""))

    def add_address(self, index: int, ip: str, prefix: int) -> None:
        """Give an interface an address, and the route to its network."""
        raw = socket.inet_aton(ip)
        body = struct.pack("BBBBI", socket.AF_INET, prefix, 0, 0, index)
        self._request(_NEWADDR, _CREATE, body + _attribute(_IFA_LOCAL, raw) + _attribute(_IFA_ADDRESS, raw))

    def add_default_route(self, gateway: str, index: int) -> None:
        """Send what no other route takes to the gateway."""
        body = struct.pack(
            "BBBBBBBBI", socket.AF_INET, 0, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_UNIVERSE, _UNICAST, 0
        )
        where = _attribute(_RTA_GATEWAY, socket.inet_aton(gateway)) + _attribute(_RTA_OIF, _number(index))
        self._request(_NEWROUTE, _CREATE, body + where)

    def own_network(self, network: str, prefix: int) -> None:
        """Treat every address of a network as this machine's own, without configuring each."""
        body = struct.pack(
            "BBBBBBBBI", socket.AF_INET, prefix, 0, 0, _TABLE_LOCAL, _PROTOCOL_STATIC, _SCOPE_HOST, _LOCAL, 0
        )
        where = _attribute(_RTA_DST, socket.inet_aton(network)) + _attribute(_RTA_OIF, _number(LOOPBACK))
        self._request(_NEWROUTE, _CREATE, body + where)

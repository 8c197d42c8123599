"""URLs, IP addresses and networks, as Kubernetes' CEL libraries have them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from headrace.apiserver.cel.functions import Row
from headrace.apiserver.cel.values import EvalError

if TYPE_CHECKING:
    from collections.abc import Iterator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Url:
    """An absolute URL or path."""

    KIND: ClassVar[str] = "url"
    text: str


@dataclass(frozen=True, slots=True)
class Ip:
    """One address."""

    KIND: ClassVar[str] = "ip"
    address: Address


@dataclass(frozen=True, slots=True)
class Cidr:
    """An address with a prefix length."""

    KIND: ClassVar[str] = "cidr"
    address: Address
    bits: int

    @property
    def network(self) -> Network:
        """All addresses with the prefix."""
        return ipaddress.ip_network((self.address, self.bits), strict=False)


def is_url(text: str) -> bool:
    """Whether Go's url.ParseRequestURI takes it."""
    if not text or any(ord(c) < 0x21 or ord(c) == 0x7F for c in text):
        return False
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.scheme and (parts.netloc or parts.path)) or text.startswith("/")


def _url(text: str) -> Url:
    if not is_url(text):
        raise EvalError(f'URL parse error during conversion from string: parse "{text[:100]}": invalid URI for request')
    return Url(text)


def _host(x: Url) -> str:
    return urlsplit(x.text).netloc.rpartition("@")[2]


def _hostname(x: Url) -> str:
    host = _host(x)
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _port(x: Url) -> str:
    port = urlsplit(x.text).port
    return "" if port is None else str(port)


def _address(text: str) -> Address:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError as error:
        raise EvalError(f'IP Address "{text[:64]}" parse error during conversion from string') from error
    if isinstance(parsed, ipaddress.IPv6Address) and (parsed.scope_id or (parsed.ipv4_mapped and "." in text)):
        what = (
            "IP address with zone value is not allowed"
            if parsed.scope_id
            else "IPv4-mapped IPv6 address is not allowed"
        )
        raise EvalError(what)
    return parsed


def _is_ip(text: str) -> bool:
    try:
        _address(text)
    except EvalError:
        return False
    return True


def _is_canonical(text: str) -> bool:
    return str(_address(text)) == text


def _cidr(text: str) -> Cidr:
    address, slash, bits = text.partition("/")
    if slash and bits.isascii() and bits.isdecimal() and (bits == "0" or bits[0] != "0") and len(bits) < 4:
        parsed = _address(address)
        if int(bits) <= parsed.max_prefixlen:
            return Cidr(parsed, int(bits))
    raise EvalError(f'network address parse error during conversion from string: "{text[:64]}"')


def _is_cidr(text: str) -> bool:
    try:
        _cidr(text)
    except EvalError:
        return False
    return True


def _holds(outer: Cidr, inner: Any) -> bool:
    if isinstance(inner, str):
        inner = _cidr(inner) if "/" in inner else Ip(_address(inner))
    if isinstance(inner, Ip):
        return inner.address in outer.network
    return inner.address in outer.network and inner.bits >= outer.bits


def _rows() -> Iterator[Row]:
    def of(name: str, args: str, result: str, code: Any) -> Row:
        return Row(name, args, result, code, method=True)

    yield Row("url", "string", "url", _url, cost=lambda x: len(x) // 10)
    yield Row("isURL", "string", "bool", is_url, cost=lambda x: len(x) // 10)
    yield of("getScheme", "url", "string", lambda x: urlsplit(x.text).scheme)
    yield of("getHost", "url", "string", _host)
    yield of("getHostname", "url", "string", _hostname)
    yield of("getPort", "url", "string", _port)
    yield of("getEscapedPath", "url", "string", lambda x: urlsplit(x.text).path)
    yield of(
        "getQuery",
        "url",
        "map<string,list<string>>",
        lambda x: parse_qs(urlsplit(x.text).query, keep_blank_values=True),
    )
    yield Row("ip", "string", "ip", lambda x: Ip(_address(x)))
    yield Row("isIP", "string", "bool", _is_ip)
    yield Row("ip.isCanonical", "string", "bool", _is_canonical)
    yield Row("string", "ip", "string", lambda x: str(x.address))
    yield of("family", "ip", "int", lambda x: x.address.version)
    yield of("isUnspecified", "ip", "bool", lambda x: x.address.is_unspecified)
    yield of("isLoopback", "ip", "bool", lambda x: x.address.is_loopback)
    yield of("isLinkLocalMulticast", "ip", "bool", _is_link_local_multicast)
    yield of("isLinkLocalUnicast", "ip", "bool", lambda x: x.address.is_link_local)
    yield of("isGlobalUnicast", "ip", "bool", _is_global_unicast)
    yield Row("cidr", "string", "cidr", _cidr)
    yield Row("isCIDR", "string", "bool", _is_cidr)
    yield Row("string", "cidr", "string", lambda x: f"{x.address}/{x.bits}")
    yield of("containsIP", "cidr,ip", "bool", _holds)
    yield of("containsIP", "cidr,string", "bool", _holds)
    yield of("containsCIDR", "cidr,cidr", "bool", _holds)
    yield of("containsCIDR", "cidr,string", "bool", _holds)
    yield of("ip", "cidr", "ip", lambda x: Ip(x.address))
    yield of("masked", "cidr", "cidr", lambda x: Cidr(x.network.network_address, x.bits))
    yield of("prefixLength", "cidr", "int", lambda x: x.bits)


def _is_link_local_multicast(x: Ip) -> bool:
    if x.address.version == 4:
        return x.address in ipaddress.ip_network("224.0.0.0/24")
    return x.address.packed[0] == 0xFF and x.address.packed[1] & 0x0F == 0x02


def _is_global_unicast(x: Ip) -> bool:
    a = x.address
    broadcast = a.version == 4 and a.packed == b"\xff\xff\xff\xff"
    return not (a.is_unspecified or a.is_loopback or a.is_multicast or a.is_link_local or broadcast)


ROWS = tuple(_rows())

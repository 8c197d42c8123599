"""Pod addresses from the pod CIDR. An address that was given back is used again as late as possible."""

from __future__ import annotations

import ipaddress

RESERVED = 16
"""Addresses at the beginning that belong to the node: its bridge, its DNS and proxy."""


class NoAddress(Exception):
    """Every address of the pod CIDR is in use."""


class AddressPool:
    """Hands out addresses; those in use after a restart are marked with `hold`."""

    def __init__(self, cidr: str) -> None:
        network = ipaddress.ip_network(cidr)
        self._first = int(network.network_address) + RESERVED
        self._count = network.num_addresses - RESERVED - 1
        self._held: set[int] = set()
        self._next = 0

    def take(self) -> str:
        """A free address. Raises NoAddress."""
        for _ in range(self._count):
            candidate = self._first + self._next
            self._next = (self._next + 1) % self._count
            if candidate not in self._held:
                self._held.add(candidate)
                return str(ipaddress.ip_address(candidate))
        raise NoAddress("every address of the pod network is in use: delete pods that are not needed")

    def hold(self, address: str) -> None:
        """This address is in use. Later ones follow it, so that addresses of before a restart are not reused soon."""
        number = int(ipaddress.ip_address(address))
        self._held.add(number)
        offset = number - self._first
        if 0 <= offset < self._count and offset >= self._next:
            self._next = (offset + 1) % self._count

    def release(self, address: str) -> None:
        """This address is free."""
        self._held.discard(int(ipaddress.ip_address(address)))

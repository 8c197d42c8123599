"""Packages by URL: read over http(s), or from the platform's object store with the keys of the namespace.

The platform reads the URL, not its author, so a URL must not reach what only the platform can reach: its own services
on loopback, pods, the machine's network. Only public addresses are connected to. The check is made where the name is
resolved for the connection, so that a name cannot answer twice, and again for every redirect.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from headrace.components.pipelines.api.packages import MAX_PACKAGE, read_package
from headrace.components.pipelines.types.rest import Code, RpcError, invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.components.pipelines.api.objects import Objects
    from headrace.components.pipelines.store.models import Spec

MAX_REDIRECTS = 5
SECONDS = 60
_STORES = ("minio", "s3")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def is_public(address: str) -> bool:
    """Whether an address is anybody's to reach."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast


class Packages:
    """Reads packages. `allowed` says which addresses may be connected to."""

    def __init__(self, objects: Objects, allowed: Callable[[str], bool] = is_public) -> None:
        self._objects, self._allowed = objects, allowed

    async def read(self, namespace: str, url: str) -> bytes:
        """The bytes of a package. Raises RpcError with what is wrong."""
        scheme = url.partition("://")[0].lower()
        try:
            async with asyncio.timeout(SECONDS):
                if scheme in _STORES:
                    if not namespace:
                        raise invalid("A shared pipeline is read from http(s); the object store belongs to namespaces.")
                    async with self._objects.open(namespace, url, {}) as response:
                        return await _bounded(response)
                if scheme in {"http", "https"}:
                    return await self._over_http(url)
        except TimeoutError as error:
            raise RpcError(Code.DEADLINE_EXCEEDED, f"{url} was not read within {SECONDS} seconds.") from error
        raise invalid(
            f"A package_url begins with http://, https://, minio:// or s3://, got {url[:200]!r};"
            " upload the package as a file instead."
        )

    async def spec(self, namespace: str, url: str) -> Spec:
        """The pipeline in a package. Raises RpcError."""
        if not url:
            raise invalid("A pipeline version needs a pipeline spec, or the URI of one.")
        return (await asyncio.to_thread(read_package, await self.read(namespace, url)))[0]

    async def _over_http(self, url: str) -> bytes:
        import aiohttp  # noqa: PLC0415 - heavy, and not needed until somebody asks

        connector = aiohttp.TCPConnector(resolver=_resolver(self._allowed), force_close=True)
        timeout = aiohttp.ClientTimeout(total=SECONDS, sock_connect=10)
        # trust_env stays off: a proxy would resolve names by itself.
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            for _ in range(MAX_REDIRECTS + 1):
                self._check(url)
                try:
                    async with session.get(url, allow_redirects=False) as response:
                        if response.status in _REDIRECTS:
                            url = urljoin(url, response.headers.get("location", ""))
                            continue
                        if response.status != 200:
                            raise invalid(f"{url} answered {response.status}; a package_url must answer 200.")
                        return await _bounded(response)
                except (aiohttp.ClientError, ValueError, OSError) as error:
                    raise invalid(f"{url} cannot be read: {error}.") from error
        raise invalid(f"The package_url is redirected more than {MAX_REDIRECTS} times.")

    def _check(self, url: str) -> None:
        """An address that stands in the URL itself is not resolved, so it is looked at here."""
        try:
            parts = urlsplit(url)
            host, _port = parts.hostname or "", parts.port
        except ValueError as error:
            raise invalid(f"{url[:200]!r} is not a URL: {error}.") from error
        if parts.scheme not in {"http", "https"} or not host:
            raise invalid(f"{url[:200]!r} is not a URL of http or https.")
        if parts.username is not None or parts.password is not None:
            raise invalid("A package_url must not hold a name or a password.")
        if _is_address(host) and not self._allowed(host):
            raise _private(host)


def _is_address(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)  # also 127.1, 0x7f000001 and 2130706433
    except (OSError, UnicodeError):
        return False
    return True


def _private(host: str) -> RpcError:
    return invalid(
        f"The package_url leads to {host}, which is not a public address: the platform would read it with its own"
        " reach. Upload the package as a file instead."
    )


def _resolver(allowed: Callable[[str], bool]) -> Any:
    from aiohttp.abc import AbstractResolver, ResolveResult  # noqa: PLC0415
    from aiohttp.resolver import ThreadedResolver  # noqa: PLC0415

    class PublicOnly(AbstractResolver):
        """Names as the system resolves them, without addresses that are not allowed."""

        def __init__(self) -> None:
            self._inner = ThreadedResolver()

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            found = await self._inner.resolve(host, port, family)
            if not all(allowed(entry["host"]) for entry in found):
                raise _private(host)
            return found

        async def close(self) -> None:
            await self._inner.close()

    return PublicOnly()


async def _bounded(response: Any) -> bytes:
    raw = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        raw += chunk
        if len(raw) > MAX_PACKAGE:
            raise invalid(f"The package is larger than {MAX_PACKAGE >> 20} MiB.")
    return bytes(raw)

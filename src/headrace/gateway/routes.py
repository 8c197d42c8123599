"""VirtualServices that lead through this gateway: which request is for which Service, who may, and the way there.

What the objects mean is `machinery.mesh`; here are the tables that informers keep, and the request on its way. The
headers that say who asks are the gateway's: no VirtualService sets them, and the sessions' cookies stay here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace.api.core import Endpoints, Service
from headrace.api.errors import NotFound
from headrace.api.meta import KindInfo, dynamic_kind
from headrace.gateway import pages
from headrace.gateway.carry import Passage, carry
from headrace.machinery import mesh, virtualservice
from headrace.machinery.people import SESSION_COOKIE, XSRF_COOKIE

if TYPE_CHECKING:
    from headrace.api.identity import User
    from headrace.api.meta import Unstructured
    from headrace.client.base import Client
    from headrace.gateway.access import Access
    from headrace.gateway.upstream import Address, Pool
    from headrace.machinery.informer import Informer
    from headrace.machinery.manager import Manager
    from headrace.machinery.mesh import Policy
    from headrace.machinery.virtualservice import Destination, Route

log = logging.getLogger(__name__)

VIRTUAL_SERVICE = dynamic_kind(KindInfo("networking.istio.io", "v1", "VirtualService", "virtualservices"))
POLICY = dynamic_kind(KindInfo("security.istio.io", "v1", "AuthorizationPolicy", "authorizationpolicies"))
_OWN_COOKIES = (SESSION_COOKIE.encode(), XSRF_COOKIE.encode())


class Routes:
    """The table of routes, and what is done with a request for one."""

    def __init__(self, pool: Pool, access: Access, node_ip: str) -> None:
        self._pool, self._access, self._node_ip = pool, access, node_ip
        self._routes: dict[str, list[Route]] = {}
        self._policies: dict[str, Policy] = {}
        self._turns: dict[tuple[Destination, ...], list[int]] = {}
        self._services: Informer[Service] | None = None
        self._endpoints: Informer[Endpoints] | None = None

    async def follow(self, client: Client, manager: Manager) -> None:
        """Keep the table from now on, where the platform has these kinds."""
        try:
            await client.list(VIRTUAL_SERVICE)
            await client.list(POLICY)
        except NotFound:
            log.info("no VirtualService kind: this platform runs without Istio's objects")
            return
        manager.informer(VIRTUAL_SERVICE).on_change(self._on_route)
        manager.informer(POLICY).on_change(self._on_policy)
        self._services, self._endpoints = manager.informer(Service), manager.informer(Endpoints)

    def find(self, host: str, scope: dict[str, Any]) -> Route | None:
        """The route of a request: in a VirtualService the first that fits, of those the one with the longest path."""
        found = (next((r for r in routes if r.holds(host, scope)), None) for _, routes in sorted(self._routes.items()))
        return max((r for r in found if r is not None), key=lambda r: r.weight, default=None)

    async def serve(self, route: Route, user: User, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Pass a request on, or say why not."""
        if route.redirect is not None:
            location = (b"location", elsewhere(scope, route))
            await pages.answer(send, route.redirect.status, b"", b"text/plain", [location])
            return
        to = self._next(route.destinations)
        service = self._services.get(f"{to.namespace}/{to.service}") if self._services is not None else None
        if not await self._may(to, service, user, scope):
            words = f"User {user.name!r} may not get services/proxy in namespace {to.namespace!r}."
            await pages.error(send, 403, f"{words} Ask an owner of that namespace to add you as a contributor.")
            return
        if service is None:
            words = f"There is no Service {to.service!r} in namespace {to.namespace!r}."
            await pages.error(send, 503, words, [(b"retry-after", b"1")])
            return
        addresses = self._addresses(service, to.port)
        if not addresses:
            words = f"No pod of Service {to.service!r} in namespace {to.namespace!r} is ready."
            await pages.error(send, 503, words, [(b"retry-after", b"1")])
            return
        headers = to.request.applied(scope["headers"])
        if route.authority:
            headers = [(b"host", route.authority.encode()), *(h for h in headers if h[0] != b"host")]
        passage = Passage(
            {**scope, "headers": headers},
            receive,
            _edited(send, to),
            user,
            target(scope, route),
            route.timeout,
            f"Service {to.service!r}",
            retries=route.retries,
        )
        await carry(self._pool, passage, addresses)

    def _next(self, destinations: tuple[Destination, ...]) -> Destination:
        """Whose turn it is, so that each gets its share and nobody gets several in a row without need."""
        if len(destinations) == 1:
            return destinations[0]
        scores = self._turns.setdefault(destinations, [0] * len(destinations))
        for index, destination in enumerate(destinations):
            scores[index] += destination.weight
        chosen = max(range(len(scores)), key=scores.__getitem__)
        scores[chosen] -= sum(destination.weight for destination in destinations)
        return destinations[chosen]

    async def _may(self, to: Destination, service: Service | None, user: User, scope: dict[str, Any]) -> bool:
        here = [p for p in self._policies.values() if p.namespace == to.namespace]
        labels = service.spec.selector if service is not None else {}
        said = mesh.decide(here, labels, user, scope["method"], scope["path"])
        if said:
            return said == "ALLOW"
        return await self._access.may(
            user,
            "get",
            group="",
            resource="services",
            subresource="proxy",
            namespace=to.namespace,
            name=to.service,
        )

    def _addresses(self, service: Service, port: int) -> list[Address]:
        ports = service.spec.ports
        named = next((p for p in ports if p.port == port), None) if port else next(iter(ports), None)
        endpoints = self._endpoints.get(service.key) if self._endpoints is not None else None
        if named is None or endpoints is None:
            return []
        # Behind the node's address are the servers of this machine: nobody reaches those by writing Endpoints.
        return [
            self._pool.address(address.ip, each.port)
            for subset in endpoints.subsets
            for each in subset.ports
            if (each.name or "") == (named.name or "")
            for address in subset.addresses
            if address.ip != self._node_ip
        ]

    def _on_route(self, old: Unstructured | None, new: Unstructured | None) -> None:
        self._turns.clear()
        if new is not None:
            self._routes[new.key] = virtualservice.parse(new.metadata.namespace, new.spec).routes
        elif old is not None:
            self._routes.pop(old.key, None)

    def _on_policy(self, old: Unstructured | None, new: Unstructured | None) -> None:
        gone = new or old
        if gone is not None:
            self._policies.pop(gone.key, None)
        if new is not None:
            for policy in mesh.authorization_policy(new.metadata.namespace, new.spec).policies:
                self._policies[new.key] = policy


def target(scope: dict[str, Any], route: Route) -> bytes:
    """The path that the Service is asked for, as the client encoded it, with the query."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    uri = route.match.uri
    if route.rewrite and uri.kind == "prefix":
        encoded = quote(uri.value).encode()
        whole = raw if raw.startswith(encoded) else quote(scope["path"]).encode()
        raw = quote(route.rewrite).encode() + whole[len(encoded) :]
    elif route.rewrite:
        raw = quote(route.rewrite).encode()
    if not raw.startswith(b"/"):
        raw = b"/" + raw
    return _with_query(raw, scope)


def elsewhere(scope: dict[str, Any], route: Route) -> bytes:
    """Where a redirect leads, with the query."""
    assert route.redirect is not None  # noqa: S101 - asked for redirects only
    path = route.redirect.path.encode() or scope.get("raw_path") or quote(scope["path"]).encode()
    if not route.redirect.authority:
        return _with_query(path, scope)
    scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
    return _with_query(f"{scheme}://{route.redirect.authority}".encode() + path, scope)


def _with_query(path: bytes, scope: dict[str, Any]) -> bytes:
    query: bytes = scope["query_string"]
    return path + b"?" + query if query and b"?" not in path else path


def _edited(send: Any, to: Destination) -> Any:
    async def sending(message: dict[str, Any]) -> None:
        if "headers" in message:  # the beginning of an answer, also to a WebSocket's handshake
            kept = [h for h in message["headers"] if h[0] != b"set-cookie" or not h[1].startswith(_OWN_COOKIES)]
            message = {**message, "headers": to.response.applied(kept)}
        await send(message)

    return sending

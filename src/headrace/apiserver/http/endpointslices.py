"""EndpointSlices: a view of Endpoints, because kubectl 1.32 describes services by them.

On a cluster a controller mirrors each Endpoints object into slices. On one machine nothing needs them stored: they are
made when asked for, can be read and listed, and every other verb is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.core import Endpoints
from headrace.api.errors import MethodNotAllowed, NotFound
from headrace.api.meta import KindInfo
from headrace.apiserver.authn.tokens import SYSTEM
from headrace.apiserver.authz.rbac import Attributes
from headrace.apiserver.http.negotiation import negotiate
from headrace.apiserver.http.resources import include_object
from headrace.apiserver.registry.core import forbidden
from headrace.apiserver.registry.selectors import parse_labels
from headrace.client.base import Page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.api.identity import User
    from headrace.apiserver.http.messages import Request, Sendable
    from headrace.apiserver.http.representation import Representations
    from headrace.apiserver.http.targets import Target
    from headrace.apiserver.registry import Registry

INFO = KindInfo("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", subresources=frozenset())
SERVICE_LABEL = "kubernetes.io/service-name"
MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslicemirroring-controller.k8s.io"

Json = dict[str, Any]


class EndpointSlices:
    """Answers get and list."""

    def __init__(self, registry: Registry, shapes: Representations) -> None:
        self._registry, self._shapes = registry, shapes

    async def handle(self, request: Request, user: User, target: Target) -> Sendable:
        """One slice or many. Raises Forbidden, NotFound, MethodNotAllowed."""
        if request.method not in {"GET", "HEAD"} or request.flag("watch") or target.subresource:
            raise MethodNotAllowed(
                "endpointslices can be read and listed only, they are a view of endpoints: write or watch those"
            )
        verb = "get" if target.name else "list"
        asked = Attributes(verb, INFO.group, INFO.plural, "", target.namespace, target.name)
        if not self._registry.authorizer.allows(user, asked):
            raise forbidden(user, asked)
        wanted, include = negotiate(request.header(b"accept")), include_object(request)
        page = await self._registry.list(SYSTEM, Endpoints.INFO, target.namespace)
        found = [s for raw in page.items for s in slices(_wire.decode_any(raw))]
        if target.name:
            one = next((s for s in found if s["metadata"]["name"] == target.name), None)
            if one is None:
                raise NotFound.of(INFO, target.name)
            return self._shapes.one(INFO, _wire.encode(one), wanted, include=include)
        requirements = parse_labels(request.query.get("labelSelector", ""))
        chosen = [_wire.encode(s) for s in found if all(r.holds(s["metadata"]["labels"]) for r in requirements)]
        return self._shapes.page(INFO, Page(chosen, page.resource_version), wanted, include=include)


def slices(endpoints: Json) -> Iterator[Json]:
    """The slices of one Endpoints object, one a subset, the first under its own name."""
    meta = endpoints["metadata"]
    for index, subset in enumerate(endpoints.get("subsets") or ()):
        addresses = [(a, True) for a in subset.get("addresses") or ()]
        addresses += [(a, False) for a in subset.get("notReadyAddresses") or ()]
        yield {
            "apiVersion": INFO.api_version,
            "kind": INFO.kind,
            "metadata": {
                **{k: meta[k] for k in ("namespace", "uid", "resourceVersion", "creationTimestamp") if k in meta},
                "name": f"{meta['name']}-{index}" if index else meta["name"],
                "labels": {**(meta.get("labels") or {}), SERVICE_LABEL: meta["name"], MANAGER_LABEL: MANAGER},
            },
            "addressType": "IPv6" if any(":" in a["ip"] for a, _ in addresses) else "IPv4",
            "endpoints": [_endpoint(address, ready) for address, ready in addresses],
            "ports": [{"name": "", "protocol": "TCP", **port} for port in subset.get("ports") or ()],
        }


def _endpoint(address: Json, ready: bool) -> Json:
    out: Json = {"addresses": [address["ip"]], "conditions": {"ready": ready, "serving": ready, "terminating": False}}
    out.update({key: address[key] for key in ("hostname", "nodeName", "targetRef") if address.get(key)})
    return out

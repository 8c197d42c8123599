"""Whether an extension API server can be there, as pure functions (upstream: kube-aggregator's remote available
controller; reasons and sentences are its own).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.api.apiregistration import ServiceReference
    from headrace.api.core import Endpoints, Service


@dataclass(frozen=True, slots=True)
class Verdict:
    """The condition Available."""

    available: bool
    reason: str
    message: str


LOCAL = Verdict(available=True, reason="Local", message="Local APIServices are always available")
PASSED = Verdict(available=True, reason="Passed", message="all checks passed")


def missing(wanted: ServiceReference, service: Service | None, endpoints: Endpoints | None) -> Verdict | None:
    """Why there is nobody to ask; None when there is."""
    where = f'service/{wanted.name} in "{wanted.namespace}"'
    if service is None:
        return Verdict(available=False, reason="ServiceNotFound", message=f"{where} is not present")
    if service.spec.type == "ExternalName":
        message = f"{where} is of type ExternalName, which is not followed: name a service of this cluster"
        return Verdict(available=False, reason="ServiceAccessError", message=message)
    port = next((p for p in service.spec.ports if p.port == wanted.port), None)
    if port is None:
        return Verdict(
            available=False, reason="ServicePortError", message=f"{where} is not listening on port {wanted.port}"
        )
    if endpoints is None:
        return Verdict(available=False, reason="EndpointsNotFound", message=f"cannot find endpoints for {where}")
    if not any(s.addresses and any(p.name == port.name for p in s.ports) for s in endpoints.subsets):
        message = f'endpoints for {where} have no addresses with port name "{port.name}"'
        return Verdict(available=False, reason="MissingEndpoints", message=message)
    return None

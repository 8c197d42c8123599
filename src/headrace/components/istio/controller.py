"""Says on each object what of it the gateway honours, by field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import conditions
from headrace.components.istio import policy
from headrace.components.istio.types import AuthorizationPolicy, ServiceEntry, VirtualService
from headrace.machinery import mesh, virtualservice
from headrace.machinery.controller import DONE, Controller, Result

if TYPE_CHECKING:
    from headrace.machinery.clock import Clock

CONDITION = "Honored"
MAX_FIELDS = 30
HONORED = {"ServiceEntry": "Pods reach these hosts through the node's proxy."}
WHY = {
    "Gateway": "the platform's own gateway listens as its settings say",
    "DestinationRule": "pods are reached directly, without TLS between them",
    "Sidecar": "there are no sidecars",
    "EnvoyFilter": "there is no Envoy",
    "PeerAuthentication": "pods speak to each other without TLS, on this machine only",
    "RequestAuthentication": "the gateway knows people and tokens by itself",
}


class HonoredController(Controller[Any]):
    """One for each kind."""

    workers = 1

    def __init__(self, kind: type[Any], clock: Clock) -> None:
        self.name = f"istio-{kind.INFO.kind.lower()}"  # type: ignore[misc]  # one class serves every kind
        self.kind, self._clock = kind, clock

    async def reconcile(self, obj: Any) -> Result:
        """See Controller."""
        ignored, why = self._ignored(obj)
        message = why
        if ignored:
            more = len(ignored) - MAX_FIELDS
            message = "Not honored: " + "; ".join(ignored[:MAX_FIELDS]) + (f"; and {more} more" if more > 0 else "")
        conditions.upsert(
            obj.status.conditions,
            CONDITION,
            not ignored and not why,
            reason="FieldsNotHonored" if ignored else "NotHonored" if why else "Honored",
            message=message or HONORED.get(obj.kind, "The gateway honors every field."),
            now=self._clock.now(),
            generation=obj.metadata.generation,
        )
        return DONE

    def _ignored(self, obj: Any) -> tuple[list[str], str]:
        namespace = obj.metadata.namespace
        if self.kind is VirtualService:
            return virtualservice.parse(namespace, obj.spec).ignored, ""
        if self.kind is AuthorizationPolicy:
            return mesh.authorization_policy(namespace, obj.spec).ignored, ""
        if self.kind is ServiceEntry:
            return policy.service_entry(obj.spec), ""
        return [], f"{obj.kind} is kept and has no effect: {WHY[obj.kind]}."

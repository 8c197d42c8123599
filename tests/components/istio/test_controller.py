"""Every object says which of its fields have no effect."""

from __future__ import annotations

from typing import Any

from headrace.api import _wire, conditions
from headrace.components.istio.controller import CONDITION, HonoredController
from headrace.components.istio.types import KINDS, EnvoyFilter, ServiceEntry, VirtualService
from headrace.testing import embedded_cluster, eventually


async def test_objects_are_kept_whole_and_say_what_is_honoured() -> None:
    http = {"match": [{"uri": {"prefix": "/notebook/default/nb/"}}], "route": [{"destination": {"host": "nb"}}]}
    routes = {"hosts": ["*"], "gateways": ["g"], "http": [http]}
    async with embedded_cluster(KINDS) as cluster:
        for kind in KINDS:
            cluster.manager.add(HonoredController(kind, cluster.clock), cluster.client)
        await cluster.manager.start()

        async def made(kind: type[Any], name: str, spec: dict[str, Any]) -> tuple[str, str]:
            meta = {"name": name, "namespace": "default"}
            await cluster.client.create(_wire.convert(kind, {"metadata": meta, "spec": spec}))

            async def found() -> Any:
                obj = await cluster.client.get(kind, name, "default")
                assert obj.spec == spec
                return conditions.get(obj.status.conditions, CONDITION)

            condition = await eventually(found)
            return condition.status, condition.message

        assert await made(VirtualService, "whole", routes) == ("True", "The gateway honors every field.")
        partly = routes | {"http": [http | {"mirror": {"host": "nb"}}]}
        assert await made(VirtualService, "partly", partly) == ("False", "Not honored: spec.http[0].mirror")
        entry = {"hosts": ["api.example.com"], "resolution": "DNS"}
        assert await made(ServiceEntry, "out", entry) == ("True", "Pods reach these hosts through the node's proxy.")
        status, message = await made(ServiceEntry, "in", entry | {"endpoints": [{"address": "10.0.0.1"}]})
        assert (status, message.partition(" (")[0]) == ("False", "Not honored: spec.endpoints")
        status, message = await made(EnvoyFilter, "patch", {"configPatches": [{"applyTo": "CLUSTER"}]})
        assert (status, message) == ("False", "EnvoyFilter is kept and has no effect: there is no Envoy.")

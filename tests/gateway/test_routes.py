"""VirtualServices through the gateway: where requests go, what they carry, who may."""

from __future__ import annotations

import json
from typing import Any

from headrace.api.core import Endpoints
from headrace.components.istio.types import AuthorizationPolicy, VirtualService
from headrace.gateway.routes import target
from headrace.machinery import mesh
from headrace.testing import eventually

NS = "kubeflow-user-example-com"
PATH = f"/notebook/{NS}/nb/"


async def ask(world: Any, path: str, headers: dict[str, str], method: str = "GET") -> tuple[int, Any, Any]:
    async with world.session.request(method, world.url + path, headers=headers) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if text.startswith("{") else text, answer.headers


async def served(world: Any, path: str, headers: dict[str, str]) -> tuple[Any, Any]:
    async def there() -> Any:
        status, said, got = await ask(world, path, headers)
        return (said, got) if status == 200 else None

    return await eventually(there)


async def test_a_route_leads_to_its_service_with_the_headers_that_it_asks_for(meshed: Any) -> None:
    edits = {
        "request": {"set": {"X-Root": PATH, "kubeflow-userid": "somebody"}, "remove": ["accept"]},
        "response": {"add": {"x-more": "1"}, "remove": ["x-model"]},
    }
    await meshed.make(VirtualService, "nb", spec=meshed.route(rewrite={"uri": "/"}, headers=edits))
    said, got = await served(meshed, f"{PATH}lab/a%20b?x=1", await meshed.auth())
    assert (said["path"], said["query"]) == ("/lab/a%20b", "x=1")
    assert said["headers"]["x-root"] == PATH
    assert said["headers"]["kubeflow-userid"] == f"system:serviceaccount:{NS}:default-editor"
    assert "authorization" not in said["headers"]
    assert "accept" not in said["headers"]
    assert got["x-more"] == "1"
    assert "x-model" not in got


async def test_who_may_not_reach_the_namespaces_services_is_refused(meshed: Any) -> None:
    await meshed.make(VirtualService, "nb", spec=meshed.route())
    await served(meshed, PATH, await meshed.auth())
    assert (await ask(meshed, PATH, {}))[0] in {302, 401}
    for account, namespace in (("default-viewer", NS), ("default-editor", "other")):
        status, said, _ = await ask(meshed, PATH, await meshed.auth(account, namespace))
        assert status == 403
        assert "services/proxy" in said["error"]


async def test_a_policy_lets_others_in_and_another_keeps_them_out(meshed: Any) -> None:
    await meshed.make(VirtualService, "nb", spec=meshed.route())
    other = await meshed.auth("default-editor", "other")
    source = {"from": [{"source": {"namespaces": ["other"]}}]}
    await meshed.make(AuthorizationPolicy, "in", spec={"rules": [source]})
    await served(meshed, PATH, other)
    await meshed.make(AuthorizationPolicy, "out", spec={"action": "DENY", "rules": [source]})

    async def refused() -> bool:
        return (await ask(meshed, PATH, other))[0] == 403

    await eventually(refused)
    await served(meshed, PATH, await meshed.auth())


async def test_another_namespaces_route_takes_no_path_of_this_one(meshed: Any) -> None:
    await meshed.make(VirtualService, "theirs", "other", spec=meshed.route())
    await meshed.make(VirtualService, "nb", spec=meshed.route(match=[{"uri": {"exact": f"{PATH}x"}}]))
    await served(meshed, f"{PATH}x", await meshed.auth())
    assert (await ask(meshed, f"{PATH}y", await meshed.auth()))[0] == 404


async def test_a_service_without_ready_pods_is_said(meshed: Any) -> None:
    await meshed.make(VirtualService, "nb", spec=meshed.route())
    headers = await meshed.auth()
    await served(meshed, PATH, headers)
    await meshed.client.patch(Endpoints, "nb", {"subsets": []}, NS)

    async def told() -> bool:
        status, said, _ = await ask(meshed, PATH, headers)
        return status == 503 and "No pod of Service 'nb'" in said["error"]

    await eventually(told)


def test_a_path_that_is_encoded_in_another_way_is_rewritten_too() -> None:
    to = [{"destination": {"host": "nb"}}]
    http = {"match": [{"uri": {"prefix": PATH}}], "route": to, "rewrite": {"uri": "/"}}
    spec = {"gateways": ["kubeflow/kubeflow-gateway"], "http": [http]}
    found = mesh.virtual_service(NS, spec).routes[0]
    scope = {"raw_path": PATH.replace("nb", "n%62").encode() + b"a", "path": f"{PATH}a", "query_string": b""}
    assert target(scope, found) == b"/a"

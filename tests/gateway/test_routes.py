"""VirtualServices through the gateway: where requests go, what they carry, who may."""

from __future__ import annotations

import json
from typing import Any

from headrace.api.core import Endpoints
from headrace.components.istio.types import AuthorizationPolicy, VirtualService
from headrace.gateway.routes import target
from headrace.machinery import virtualservice
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
    found = virtualservice.parse(NS, spec).routes[0]
    scope = {"raw_path": PATH.replace("nb", "n%62").encode() + b"a", "path": f"{PATH}a", "query_string": b""}
    assert target(scope, found) == b"/a"


async def test_destinations_get_their_shares_with_headers_of_their_own(meshed: Any) -> None:
    to = [
        {
            "destination": {"host": "nb", "port": {"number": 80}},
            "weight": weight,
            "headers": {"request": {"set": {"x-which": which}}},
        }
        for which, weight in (("a", 3), ("b", 1))
    ]
    await meshed.make(VirtualService, "nb", spec=meshed.route(route=to))
    headers = await meshed.auth()
    await served(meshed, PATH, headers)
    seen = [(await ask(meshed, PATH, headers))[1]["headers"]["x-which"] for _ in range(8)]
    assert sorted(seen) == ["a"] * 6 + ["b"] * 2
    assert "aaaa" not in "".join(seen), "in turn, not in blocks"


async def test_the_first_match_counts_and_a_redirect_leads_to_this_site(meshed: Any) -> None:
    spec = meshed.route(match=[{"uri": {"prefix": PATH}, "headers": {"x-new": {"exact": "1"}}}])
    moved = {"match": [{"uri": {"regex": f"{PATH}old/[0-9]+"}}], "redirect": {"uri": f"{PATH}new", "redirectCode": 307}}
    await meshed.make(VirtualService, "nb", spec=spec | {"http": [*spec["http"], moved]})
    headers = await meshed.auth()
    await served(meshed, f"{PATH}old/1", headers | {"x-new": "1"})
    url = f"{meshed.url}{PATH}old/1?a=b"
    async with meshed.session.get(url, headers=headers, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["location"]) == (307, f"{PATH}new?a=b")
    async with meshed.session.get(url, allow_redirects=False) as answer:
        assert answer.status in {302, 401}, "nobody is told anything"
    assert (await ask(meshed, f"{PATH}old/x", headers))[0] == 404


async def test_another_attempt_is_made_for_what_the_route_says(meshed: Any) -> None:
    retries = {"attempts": 2, "retryOn": "418"}
    await meshed.make(VirtualService, "nb", spec=meshed.route(retries=retries, rewrite={"uri": "/"}))
    headers = await meshed.auth()
    await served(meshed, PATH, headers)
    meshed.backend.seen.clear()
    assert (await ask(meshed, f"{PATH}teapot", headers))[0] == 418, "the last answer is told"
    assert len(meshed.backend.seen) == 3
    meshed.backend.seen.clear()
    async with meshed.session.post(f"{meshed.url}{PATH}teapot", headers=headers, data=b"four") as answer:
        assert answer.status == 418
    assert [said["length"] for said in meshed.backend.seen] == [4, 4, 4], "each has the whole body"
    meshed.backend.seen.clear()

    async def slowly() -> Any:
        for part in (b"a" * 70000, b"b" * 70000):
            yield part

    async with meshed.session.post(f"{meshed.url}{PATH}teapot", headers=headers, data=slowly()) as answer:
        assert answer.status == 418
    assert [said["length"] for said in meshed.backend.seen] == [140000], "what is gone cannot be sent again"
    await served(meshed, PATH, headers)
    assert len(meshed.backend.seen) == 2

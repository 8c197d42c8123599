"""What client-go sends, recorded from version 0.34 (client_go.jsonl: shared and dynamic informers with and without
WatchList, a typed clientset, server-side apply, leader election), sent again, with what client-go expects of answers.

The recording is of a program that ran against this platform unmodified, also while the platform was killed and came
back; Go itself is too large a tool to install for a test.
"""

import base64
import json
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from headrace.testing.http import http_cluster

RECORDED = [json.loads(line) for line in Path(__file__).with_name("client_go.jsonl").read_text().splitlines()]
END = "k8s.io/initial-events-end"


@pytest.fixture
async def session(tmp_path):
    async with http_cluster(tmp_path) as http:
        context = ssl.create_default_context(cafile=http.pki.ca)
        context.load_cert_chain(http.pki.admin, http.pki.admin_key)
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(http.server.url, connector=connector) as made:
            yield made


def ask(session, entry, version=""):
    headers = {name: entry[name] for name in ("accept", "content-type") if name in entry}
    body = base64.b64decode(entry["body"]) if "body" in entry else None
    return session.request(entry["method"], entry["url"].replace("{}", version), headers=headers, data=body)


async def event(answer):
    """The next event of a watch."""
    return json.loads(await answer.content.readline())


async def initial(answer):
    """The objects of a WatchList, and the bookmark that ends it."""
    found = []
    while (one := await event(answer))["type"] != "BOOKMARK":
        assert one["type"] == "ADDED"
        found.append(one["object"])
    assert one["object"]["metadata"]["annotations"] == {END: "true"}
    return found, one["object"]


async def test_everything_is_answered_as_client_go_expects(session):
    versions, objects, watches, again = {}, {}, [], []
    for entry in RECORDED:
        path = urlsplit(entry["url"]).path
        answer = await ask(session, entry, versions.get(path, ""))
        assert (answer.status, answer.headers["Content-Type"]) == (entry["status"], entry["answer"]), entry["url"]
        if "watch=true" in entry["url"]:
            (again if "sendInitialEvents" in entry["url"] else watches).append((path, answer))
        elif entry["method"] == "GET" and "resourceVersion=0" in entry["url"]:
            listed = await answer.json()
            versions[path], objects[path] = listed["metadata"]["resourceVersion"], listed["items"]
            assert int(versions[path]) > 0
        else:
            await answer.read()
    assert [path for path, _ in watches] and {path for path, _ in watches} == {path for path, _ in again}
    for path, answer in again:
        found, bookmark = await initial(answer)
        answer.close()
        async with session.get(path) as listed:
            whole = await listed.json()
        names = [o["metadata"]["name"] for o in whole["items"]]
        assert sorted(o["metadata"]["name"] for o in found) == sorted(names)
        assert all({"kind", "apiVersion"} <= o.keys() for o in [*found, bookmark])
        assert bookmark["kind"] == whole["kind"].removesuffix("List")
        assert int(bookmark["metadata"]["resourceVersion"]) >= max(
            [int(o["metadata"]["resourceVersion"]) for o in found], default=0
        )
    for path, answer in watches:
        known = {o["metadata"]["name"] for o in objects[path]}
        async with session.get(path) as listed:
            now = {o["metadata"]["name"] for o in (await listed.json())["items"]}
        for name in now - known:  # what came after the list, in order and once
            seen = await event(answer)
            assert (seen["type"], seen["object"]["metadata"]["name"]) == ("ADDED", name)
            assert int(seen["object"]["metadata"]["resourceVersion"]) > int(versions[path])
        answer.close()
    assert any("apps" in path for path, _ in watches)


async def test_what_a_lease_and_a_map_become(session):
    """Bodies in protobuf, which the typed clientset sends unless it is told otherwise."""
    posts = {e["url"].rsplit("/", 1)[1].partition("?")[0]: e for e in RECORDED if e["method"] == "POST"}
    async with ask(session, posts["leases"]) as answer:
        spec = (await answer.json())["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("me", 15, 0)
    assert spec["acquireTime"].endswith("Z")
    assert "." in spec["renewTime"]
    async with ask(session, posts["configmaps"]) as answer:
        made = await answer.json()
    assert (made["data"], made["binaryData"]) == ({"n": "0"}, {"b": "AQI="})
    assert made["metadata"]["managedFields"][0]["manager"] == "probe"
    async with ask(session, posts["configmaps"]) as answer:
        again = await answer.json()
    assert (again["reason"], again["details"]["name"]) == ("AlreadyExists", "probe")
    async with session.delete("/api/v1/namespaces/default/configmaps/probe") as answer:
        assert answer.status == 200

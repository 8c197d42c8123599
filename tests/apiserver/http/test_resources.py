"""The verbs over HTTP: representations, errors, warnings, deletes."""

import asyncio
import json
import ssl

import pytest
import yaml

from headrace.api.meta import ObjectMeta
from headrace.api.rbac import ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject
from headrace.apiserver.http.messages import MAX_BODY
from headrace.testing import eventually

CMS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def cm(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_create_get_list_delete(api):
    made = await api("POST", CMS, cm("a", x="1"))
    assert made.status == 201
    assert made.json["metadata"]["resourceVersion"]
    assert (await api.get(f"{CMS}/a")).json == made.json
    listed = (await api.get(CMS)).json
    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert [o["metadata"]["name"] for o in listed["items"]] == ["a"]
    gone = await api("DELETE", f"{CMS}/a")
    assert gone.json["status"] == "Success"
    assert gone.json["details"] == {"name": "a", "kind": "configmaps", "uid": made.json["metadata"]["uid"]}
    assert (await api.get(f"{CMS}/a")).status == 404


async def test_a_deleted_pod_comes_back_as_a_pod(api):
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await api("POST", "/api/v1/namespaces/default/pods", pod)
    assert (await api("DELETE", "/api/v1/namespaces/default/pods/p")).json["kind"] == "Pod"


async def test_delete_with_preconditions_and_finalizers(api):
    body = cm("a")
    body["metadata"]["finalizers"] = ["example.com/wait"]
    made = (await api("POST", CMS, body)).json
    wrong = await api("DELETE", f"{CMS}/a", {"kind": "DeleteOptions", "preconditions": {"uid": "other"}})
    assert (wrong.status, wrong.json["reason"]) == (409, "Conflict")
    begun = await api("DELETE", f"{CMS}/a?propagationPolicy=Background")
    assert begun.json["kind"] == "ConfigMap"
    assert begun.json["metadata"]["deletionTimestamp"]
    assert begun.json["metadata"]["uid"] == made["metadata"]["uid"]


async def test_delete_collection(api):
    for name in "abc":
        await api("POST", CMS, {**cm(name), "metadata": {"name": name, "labels": {"n": name}}})
    deleted = await api("DELETE", f"{CMS}?labelSelector=n%20in%20(a,b)")
    assert [o["metadata"]["name"] for o in deleted.json["items"]] == ["a", "b"]
    assert [o["metadata"]["name"] for o in (await api.get(CMS)).json["items"]] == ["c"]


async def test_pages(api):
    for name in "abcde":
        await api("POST", CMS, cm(name))
    first = (await api.get(f"{CMS}?limit=2")).json
    assert first["metadata"]["remainingItemCount"] == 3
    second = (await api.get(f"{CMS}?limit=2&continue={first['metadata']['continue']}")).json
    assert [o["metadata"]["name"] for o in first["items"] + second["items"]] == ["a", "b", "c", "d"]


async def test_tables(api):
    await api("POST", CMS, cm("a", x="1", y="2"))
    listed = (await api.get(CMS, Accept=TABLE)).json
    assert [c["name"] for c in listed["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert listed["rows"][0]["cells"][:2] == ["a", 2]
    assert listed["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    one = (await api.get(f"{CMS}/a?includeObject=Object", Accept=TABLE)).json
    assert one["rows"][0]["object"]["data"] == {"x": "1", "y": "2"}


async def test_metadata_alone(api):
    await api("POST", CMS, cm("a", x="1"))
    accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    one = (await api.get(f"{CMS}/a", Accept=accept)).json
    assert one["kind"] == "PartialObjectMetadata"
    assert "data" not in one
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    assert (await api.get(CMS, Accept=accept)).json["items"] == [one]


async def test_yaml_in_and_out(api):
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {day: '2020-01-01'}\n"
    assert (await api("POST", CMS, text, Content_Type="application/yaml")).status == 201
    answer = await api.get(f"{CMS}/a", Accept="application/yaml")
    assert answer.headers["Content-Type"] == "application/yaml"
    assert yaml.safe_load(answer.body)["data"] == {"day": "2020-01-01"}


@pytest.mark.parametrize("accept", ["application/vnd.kubernetes.protobuf,application/json", "*/*", ""])
async def test_whoever_offers_protobuf_and_json_gets_json(api, accept):
    answer = await api.get(CMS, Accept=accept)
    assert answer.headers["Content-Type"] == "application/json"


async def test_protobuf_alone_is_not_acceptable(api):
    answer = await api.get(CMS, Accept="application/vnd.kubernetes.protobuf")
    assert (answer.status, answer.json["reason"]) == (406, "NotAcceptable")


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "reason"),
    [
        ("POST", CMS, b"{broken", {}, 400, "BadRequest"),
        ("POST", CMS, b"[1]", {}, 400, "BadRequest"),
        ("POST", CMS, b"a: [", {"Content_Type": "application/yaml"}, 400, "BadRequest"),
        ("POST", CMS, b"x", {"Content_Type": "text/plain"}, 415, "UnsupportedMediaType"),
        ("POST", CMS, b"k8s\x00\xff\xff", {"Content_Type": "application/vnd.kubernetes.protobuf"}, 400, "BadRequest"),
        ("POST", CMS, {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}}, {}, 400, "BadRequest"),
        ("POST", f"{CMS}?dryRun=Some", {"metadata": {"name": "a"}}, {}, 422, "Invalid"),
        ("POST", f"{CMS}?fieldValidation=Perhaps", {"metadata": {"name": "a"}}, {}, 422, "Invalid"),
        ("POST", f"{CMS}/a", {}, {}, 405, "MethodNotAllowed"),
        ("PUT", CMS, {}, {}, 405, "MethodNotAllowed"),
        ("GET", f"{CMS}?limit=many", None, {}, 400, "BadRequest"),
        ("GET", f"{CMS}?watch=perhaps", None, {}, 400, "BadRequest"),
        ("GET", f"{CMS}?labelSelector=a%20in", None, {}, 400, "BadRequest"),
        ("GET", f"{CMS}?continue=nonsense", None, {}, 400, "BadRequest"),
        ("GET", f"{CMS}?includeObject=Some", None, {"Accept": TABLE}, 400, "BadRequest"),
        ("GET", "/api/v1/namespaces/default/nosuch", None, {}, 404, "NotFound"),
        ("GET", "/apis/nosuch.io/v1/things", None, {}, 404, "NotFound"),
        ("GET", "/api/v2", None, {}, 404, "NotFound"),
        ("GET", "/nonsense", None, {}, 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/nodes", None, {}, 404, "NotFound"),
        ("GET", "/api/v1/configmaps/a", None, {}, 404, "NotFound"),
        ("GET", f"{CMS}/a/status", None, {}, 404, "NotFound"),
        ("POST", "/api/v1/configmaps", {"metadata": {"name": "a"}}, {}, 405, "MethodNotAllowed"),
        ("DELETE", f"{CMS}/a?propagationPolicy=Sideways", None, {}, 422, "Invalid"),
        ("PATCH", f"{CMS}/a", b"[1]", {"Content_Type": "application/json"}, 415, "UnsupportedMediaType"),
        ("PATCH", f"{CMS}/a", b"x", {"Content_Type": "application/merge-patch+json"}, 400, "BadRequest"),
    ],
)
async def test_refusals_are_statuses_and_the_server_goes_on(  # noqa: PLR0917
    api, method, path, body, headers, status, reason
):
    answer = await api(method, path, body, **headers)
    assert (answer.status, answer.json["kind"], answer.json["reason"]) == (status, "Status", reason)
    assert answer.json["code"] == status
    assert (await api.get("/readyz")).body == b"ok"


async def test_server_side_apply(api):
    sent = b"data: {x: '1'}\n"
    yaml = {"Content_Type": "application/apply-patch+yaml"}
    answer = await api("PATCH", f"{CMS}/a", sent, **yaml)
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert answer.json["message"].endswith("fieldManager: Required value: is required for apply patch")
    answer = await api("PATCH", f"{CMS}/a?fieldManager=m", sent, **yaml)
    assert (answer.status, answer.json["data"]) == (201, {"x": "1"})
    answer = await api("PATCH", f"{CMS}/a?fieldManager=m", sent, **yaml)
    assert answer.status == 200
    answer = await api("PATCH", f"{CMS}/a?fieldManager=n", b'{"data": {"x": "2"}}', **yaml)
    assert (answer.status, answer.json["reason"]) == (409, "Conflict")
    assert answer.json["message"] == 'Apply failed with 1 conflict: conflict with "m": .data.x'
    (cause,) = answer.json["details"]["causes"]
    assert cause == {"reason": "FieldManagerConflict", "message": 'conflict with "m"', "field": ".data.x"}
    answer = await api("PATCH", f"{CMS}/a?fieldManager=n&force=true", b'{"data": {"x": "2"}}', **yaml)
    assert (answer.status, answer.json["data"]) == (200, {"x": "2"})
    answer = await api("PATCH", f"{CMS}/a?fieldManager=n", b"{}", Content_Type="application/apply-patch+cbor")
    assert answer.status == 415


@pytest.mark.parametrize(
    ("query", "content", "message"),
    [
        ("force=true", "application/merge-patch+json", "force: Forbidden: may not be specified for non-apply patch"),
        (f"fieldManager={'x' * 129}", "application/merge-patch+json", "Too long: may not be more than 128 bytes"),
        ("fieldManager=a%07", "application/apply-patch+yaml", "should only contain printable characters"),
    ],
)
async def test_options_of_field_managers(api, query, content, message):
    answer = await api("PATCH", f"{CMS}/a?{query}", b"{}", Content_Type=content)
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert answer.json["message"].endswith(message)


async def test_the_manager_of_a_request_is_its_user_agent(api):
    await api("POST", CMS, cm("agent"), User_Agent="robot/1.2 (linux)")
    found = (await api.get(f"{CMS}/agent")).json
    assert [e["manager"] for e in found["metadata"]["managedFields"]] == ["robot"]
    await api(
        "PATCH", f"{CMS}/agent?fieldManager=me", b'{"data": {"x": "2"}}', Content_Type="application/merge-patch+json"
    )
    found = (await api.get(f"{CMS}/agent")).json
    assert {e["manager"] for e in found["metadata"]["managedFields"]} == {"robot", "me"}


async def test_a_body_that_is_too_large(api):
    answer = await api("POST", CMS, cm("a", x="y" * MAX_BODY))
    assert (answer.status, answer.json["reason"]) == (413, "RequestEntityTooLarge")

    async def endless():
        for _ in range(MAX_BODY // 65536 + 2):
            yield b"x" * 65536

    async with api._session.post(api.url + CMS, data=endless()) as response:
        assert response.status == 413


async def test_dry_run_changes_nothing(api):
    assert (await api("POST", f"{CMS}?dryRun=All", cm("a"))).status == 201
    assert (await api.get(f"{CMS}/a")).status == 404


async def test_a_stale_resource_version_conflicts(api):
    made = (await api("POST", CMS, cm("a"))).json
    await api("PUT", f"{CMS}/a", {**made, "data": {"x": "1"}})
    stale = await api("PUT", f"{CMS}/a", {**made, "data": {"x": "2"}})
    assert (stale.status, stale.json["reason"]) == (409, "Conflict")


async def _events(response, count):
    lines = []
    while len(lines) < count:
        lines.append(json.loads(await asyncio.wait_for(response.content.readline(), 5)))
    return lines


async def test_watch(api):
    version = (await api.get(CMS)).json["metadata"]["resourceVersion"]
    async with api.open("GET", f"{CMS}?watch=true&resourceVersion={version}") as response:
        await api("POST", CMS, cm("a"))
        await api("PATCH", f"{CMS}/a", {"data": {"x": "1"}}, Content_Type="application/merge-patch+json")
        await api("DELETE", f"{CMS}/a")
        events = await _events(response, 3)
    assert [e["type"] for e in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert {e["object"]["metadata"]["name"] for e in events} == {"a"}


@pytest.mark.parametrize(
    "path",
    [
        f"{CMS}/one?watch=true",
        CMS.replace("/api/v1/", "/api/v1/watch/") + "/one",
        f"{CMS}?watch=1&fieldSelector=metadata.name%3Done",
    ],
)
async def test_watch_of_one_object(api, path):
    for name in ("other", "one"):
        assert (await api("POST", CMS, {"metadata": {"name": name}})).status == 201
    async with api.open("GET", path) as response:
        event = json.loads(await response.content.readline())
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "one")
        await api("DELETE", f"{CMS}/other")
        await api("DELETE", f"{CMS}/one")
        event = json.loads(await response.content.readline())
        assert (event["type"], event["object"]["metadata"]["name"]) == ("DELETED", "one")


async def test_paths_for_watching_are_for_watching(api):
    old = CMS.replace("/api/v1/", "/api/v1/watch/")
    assert (await api("POST", old, {"metadata": {"name": "one"}})).status == 405
    assert (await api.get("/api/v1/watch")).status == 404
    assert (await api.get("/api/v1/namespaces/default/pods/p/log?watch=1")).status == 404


async def test_who_may_see_one_object_may_list_and_watch_it_alone(api, http):
    rule = PolicyRule(verbs=["list", "watch"], api_groups=[""], resources=["configmaps"], resource_names=["one"])
    client = http.cluster.client
    await client.create(ClusterRole(metadata=ObjectMeta(name="one"), rules=[rule]))
    subject = Subject(kind="User", name="somebody", api_group="rbac.authorization.k8s.io")
    ref = RoleRef(api_group="rbac.authorization.k8s.io", kind="ClusterRole", name="one")
    await client.create(ClusterRoleBinding(metadata=ObjectMeta(name="one"), role_ref=ref, subjects=[subject]))
    await api("POST", CMS, {"metadata": {"name": "one"}})
    mine = f"{CMS}?fieldSelector=metadata.name%3Done"
    found = await api.get(mine, Impersonate_User="somebody")
    assert [i["metadata"]["name"] for i in found.json["items"]] == ["one"]
    async with api.open("GET", f"{mine}&watch=1", Impersonate_User="somebody") as response:
        assert response.status == 200
    for query in ("", "?fieldSelector=metadata.name%3Dother", "?fieldSelector=metadata.name!%3Done", "?watch=1"):
        assert (await api.get(f"{CMS}{query}", Impersonate_User="somebody")).status == 403


async def test_watch_as_table_has_headers_once(api):
    await api("POST", CMS, cm("a"))
    await api("POST", CMS, cm("b"))
    async with api.open("GET", f"{CMS}?watch=1", Accept=TABLE) as response:
        first, second = await _events(response, 2)
    assert first["object"]["kind"] == "Table"
    assert first["object"]["columnDefinitions"]
    assert not second["object"]["columnDefinitions"]


async def test_watch_from_the_start_with_a_bookmark_behind_it(api):
    await api("POST", CMS, cm("a"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with api.open("GET", f"{CMS}?{query}") as response:
        added, bookmark = await _events(response, 2)
    assert (added["type"], bookmark["type"]) == ("ADDED", "BOOKMARK")
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert (await api.get(f"{CMS}?watch=1&sendInitialEvents=true")).status == 422


async def test_watch_ends_when_its_time_is_up(api):
    answer = await asyncio.wait_for(api.get(f"{CMS}?watch=1&timeoutSeconds=1"), 5)
    assert (answer.status, answer.body) == (200, b"")


async def test_a_watch_that_is_too_old_is_told_so(api, http):
    for i in range(4):
        await api("POST", CMS, cm(f"c{i}"))
    await http.cluster.store.compact(1)
    answer = await api.get(f"{CMS}?watch=1&resourceVersion=1")
    event = json.loads(answer.body)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_a_client_that_goes_away_ends_its_watch(api, http):
    async with api.open("GET", f"{CMS}?watch=1"):
        await eventually(lambda: http.server.app._streams == 1)
    await eventually(lambda: not http.server.app._streams)


@pytest.mark.parametrize("depth", [300, 900, 975, 990, 5000])
async def test_objects_that_are_nested_very_deeply(api, depth):
    await api("POST", CMS, cm(f"deep-{depth}"))
    fields = b'{"f:a":' * depth + b"{}" + b"}" * depth
    entry = b'{"operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":%s}' % fields
    sent = b'{"metadata":{"managedFields":[%s]}}' % entry
    answer = await api("PATCH", f"{CMS}/deep-{depth}", sent, Content_Type="application/merge-patch+json")
    assert answer.status in {200, 400}
    assert "nested too deeply" in answer.json["message"] if answer.status == 400 else depth < 5000


async def test_the_head_of_a_watch_does_not_keep_the_connection(http, pki):
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.load_cert_chain(pki.admin, pki.admin_key)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", http.server.port, ssl=context, server_hostname="localhost"
    )
    writer.write(f"HEAD {CMS}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).startswith(b"HTTP/1.1 200")
    writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).startswith(b"HTTP/1.1 200")
    writer.transport.abort()

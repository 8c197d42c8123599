"""Requests whose headers are known need no parser: they mean the same, each is judged anew, the connection goes on."""

import json

import pytest

from headrace.apiserver.http.heads import Heads

MAPS = "/api/v1/namespaces/default/configmaps"
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"


def send(method: str, path: str, token: str, body: object = None, *more: str) -> bytes:
    raw = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *more]
    if raw:
        lines.append(f"Content-Length: {len(raw)}")
    return "\r\n".join([*lines, "", ""]).encode() + raw


def config_map(name: str, value: str = "1") -> dict:
    return {"metadata": {"name": name}, "data": {"x": value}}


@pytest.fixture
async def writer(http, api):
    """The token of an account that may do what it wants with ConfigMaps."""
    await api("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "writer"}})
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]
    await api("POST", f"{RBAC}/roles", {"metadata": {"name": "write"}, "rules": rules})
    binding = {
        "metadata": {"name": "write"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "write"},
        "subjects": [{"kind": "ServiceAccount", "name": "writer", "namespace": "default"}],
    }
    await api("POST", f"{RBAC}/rolebindings", binding)
    return await http.tokens.issue(http.cluster.client.user, "default", "writer")


@pytest.fixture
def unparsed(monkeypatch):
    """Of each request that came at the beginning of a message, whether it needed no parser."""
    seen: list[bool] = []
    really = Heads.read

    def read(self, data):
        found = really(self, data)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(Heads, "read", read)
    return seen


async def test_every_verb_with_known_headers(connect, writer, unparsed):
    raw = await connect()
    merge = "Content-Type: application/merge-patch+json"
    requests = [
        (send("POST", MAPS, writer, config_map("a")), 201, "1"),
        (send("PUT", f"{MAPS}/a", writer, config_map("a", "2")), 200, "2"),
        (send("PATCH", f"{MAPS}/a?fieldManager=me", writer, {"data": {"x": "3"}}, merge), 200, "3"),
        (send("PATCH", f"{MAPS}/a", writer, {"data": {"x": "4"}}, merge), 200, "4"),
        (send("GET", f"{MAPS}/a?pretty=1", writer), 200, "4"),
        (send("GET", f"{MAPS}/a?pretty=2", writer), 200, "4"),
    ]
    managers = []
    for request, status, value in requests:
        code, body = await raw.ask(request)
        found = json.loads(body)
        assert (code, found["data"]["x"]) == (status, value)
        managers.append([entry["manager"] for entry in found["metadata"]["managedFields"]])
    assert unparsed == [False, True, False, True, False, True]
    assert "me" in managers[2]
    assert "me" not in managers[1]
    assert (await raw.ask(send("DELETE", f"{MAPS}/a", writer)))[0] == 200
    assert (await raw.ask(send("GET", f"{MAPS}/a?pretty=3", writer)))[0] == 404


async def test_rights_and_credentials_are_asked_every_time(http, api, connect, writer, unparsed):
    raw = await connect()
    for name in "ab":
        assert (await raw.ask(send("POST", MAPS, writer, config_map(name))))[0] == 201
    await api("DELETE", f"{RBAC}/rolebindings/write")
    assert (await raw.ask(send("POST", MAPS, writer, config_map("c"))))[0] == 403
    await api("DELETE", "/api/v1/namespaces/default/serviceaccounts/writer")
    assert (await raw.ask(send("POST", MAPS, writer, config_map("d"))))[0] == 401
    assert unparsed[1] is True


async def test_impersonation_with_known_headers_is_impersonation(api, connect, writer, http):
    admin = await http.tokens.issue(http.cluster.client.user, "default", "writer")
    raw = await connect()
    for name in "ab":  # the account may not impersonate
        assert (await raw.ask(send("POST", MAPS, admin, config_map(name), "Impersonate-User: jane")))[0] == 403


async def test_requests_behind_each_other_teach_nothing_wrong(connect, writer):
    """Two in one piece: the parser's headers are those of the second one only."""
    raw = await connect()
    first = send("POST", MAPS, writer, config_map("a"), "Accept: application/yaml")
    second = send("POST", MAPS, writer, config_map("b"))
    raw.writer.write(first + second)
    assert [(await raw.answer())[0] for _ in range(2)] == [201, 201]
    _, body = await raw.ask(send("POST", MAPS, writer, config_map("c"), "Accept: application/yaml"))
    assert body.startswith(b"apiVersion: v1")
    assert json.loads((await raw.ask(send("POST", MAPS, writer, config_map("d"))))[1])["metadata"]["name"] == "d"


async def test_a_body_in_pieces_and_what_comes_while_one_is_answered(connect, writer, unparsed):
    raw = await connect()
    assert (await raw.ask(send("POST", MAPS, writer, config_map("a"))))[0] == 201
    cut = send("POST", MAPS, writer, config_map("b"))
    assert (await raw.ask(cut[:-5], cut[-5:]))[0] == 201
    raw.writer.write(send("POST", MAPS, writer, config_map("c")))
    raw.writer.write(send("POST", MAPS, writer, config_map("d")))
    found = [json.loads((await raw.answer())[1])["metadata"]["name"] for _ in range(2)]
    assert found == ["c", "d"]
    assert (await raw.ask(send("POST", MAPS, writer, config_map("e"))))[0] == 201
    assert unparsed[-1] is True


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"POST /api/v1/x HTTP/1.1\r\nConnection: close\r\n\r\n", [(b"connection", b"close")]),
        (b"POST /api/v1/x HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", [(b"expect", b"100-continue")]),
        (b"POST /api/v1/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", [(b"transfer-encoding", b"chunked")]),
        (b"GET /api/v1/x HTTP/1.1\r\nUpgrade: SPDY/3.1\r\n\r\n", [(b"upgrade", b"SPDY/3.1")]),
        (b"POST /api/v1/%78 HTTP/1.1\r\nHost: x\r\n\r\n", [(b"host", b"x")]),
        (b"POST /api/v1/x HTTP/1.0\r\nHost: x\r\n\r\n", [(b"host", b"x")]),
        (b"HEAD /api/v1/x HTTP/1.1\r\nHost: x\r\n\r\n", [(b"host", b"x")]),
        (b"POST http://x/api/v1/x HTTP/1.1\r\nHost: x\r\n\r\n", [(b"host", b"x")]),
        (b"POST /version HTTP/1.1\r\nHost: x\r\n\r\n", [(b"host", b"x")]),
    ],
)
def test_what_is_more_than_its_bytes_is_the_parsers(data, headers):
    heads = Heads()
    heads.learn(data, headers)
    assert heads.read(data) is None


def test_a_known_block_needs_exactly_the_body_that_it_announces():
    heads = Heads()
    block = b"\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
    heads.learn(b"POST /api/v1/x HTTP/1.1" + block + b"{}", [(b"host", b"x"), (b"content-length", b"2")])
    whole = heads.read(b"PUT /api/v1/y?a=b HTTP/1.1" + block + b"[]")
    assert whole is not None
    assert (whole.method, whole.path, whole.query, whole.body) == ("PUT", b"/api/v1/y", b"a=b", b"[]")
    assert whole.head.values[b"host"] == b"x"
    for body in (b"", b"{", b"{}GET /"):
        assert heads.read(b"PUT /api/v1/y HTTP/1.1" + block + body) is None
    assert heads.read(b"PUT /api/v1/y HTTP/1.1\r\nHost: y\r\nContent-Length: 2\r\n\r\n{}") is None
    assert heads.read(b"PUT /api/v1/y HTTP/1.1" + block[:-2]) is None

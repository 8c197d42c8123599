"""A request that is known is answered without being parsed: the same answers, the same rights, the same connection."""

import asyncio
import datetime as dt
import ssl

import pytest
from tests.apiserver.http.conftest import Raw

from headrace.api.core import ServiceAccount
from headrace.apiserver.http.repeats import is_whole
from headrace.testing.clock import FakeClock

PATH = "/api/v1/namespaces/default/configmaps/a"


@pytest.fixture
async def token(http, api):
    """Of an account that may read the ConfigMap; its role may be taken away."""
    cluster = http.cluster
    await api("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "a"}, "data": {"x": "1"}})
    await api("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "reader"}})
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    await api("POST", f"{rbac}/roles", {"metadata": {"name": "read"}, "rules": rules})
    binding = {
        "metadata": {"name": "read"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "read"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
    }
    await api("POST", f"{rbac}/rolebindings", binding)
    return await http.tokens.issue(cluster.client.user, "default", "reader")


def get(token: str, path: str = PATH, *more: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *more, "", ""]).encode()


def known(http) -> int:
    return len(http.server.app.repeats._plans)


async def test_the_second_time_it_is_known_and_the_answer_is_the_object_as_it_is_now(http, api, connect, token):
    raw = await connect()
    first = await raw.ask(get(token))
    assert (first[0], known(http)) == (200, 1)
    assert await raw.ask(get(token)) == first
    patched = await api("PATCH", PATH, {"data": {"x": "2"}}, Content_Type="application/merge-patch+json")
    assert await raw.ask(get(token)) == (200, patched.body)
    await api("DELETE", PATH)
    assert (await raw.ask(get(token)))[0] == 404
    assert known(http) == 1


async def test_rights_are_asked_every_time(http, api, connect, token):
    raw = await connect()
    for _ in range(2):
        assert (await raw.ask(get(token)))[0] == 200
    await api("DELETE", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings/read")
    assert (await raw.ask(get(token)))[0] == 403


async def test_a_token_that_is_revoked_is_refused_at_once(http, api, connect, token):
    raw = await connect()
    for _ in range(2):
        assert (await raw.ask(get(token)))[0] == 200
    await api("DELETE", f"{ServiceAccount.INFO.path('default')}/reader")
    assert (await raw.ask(get(token)))[0] == 401


async def test_a_token_that_expires_is_refused(http, connect, token):
    raw = await connect()
    for _ in range(2):
        assert (await raw.ask(get(token)))[0] == 200
    http.tokens._clock = FakeClock(http.cluster.clock.now() + dt.timedelta(hours=2))
    assert (await raw.ask(get(token)))[0] == 401


async def test_what_is_known_to_one_connection_does_not_authenticate_another(http, api, connect):
    """Requests of clients with certificates carry no credential of their own."""
    await api("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "a"}})
    bare = f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    context = ssl.create_default_context(cafile=str(http.pki.ca))
    context.load_cert_chain(http.pki.admin, http.pki.admin_key)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", http.server.port, ssl=context, server_hostname="localhost"
    )
    admin = Raw(reader, writer)
    for _ in range(2):
        assert (await admin.ask(bare))[0] == 200
    writer.transport.abort()
    assert known(http) == 1
    assert (await (await connect()).ask(bare))[0] == 401


async def test_pieces_and_pipelines_go_the_usual_way(http, connect, token):
    raw = await connect()
    request = get(token)
    for _ in range(2):
        whole = await raw.ask(request)
    assert await raw.ask(request[:20], request[20:]) == whole
    raw.writer.write(request + request)
    assert [await raw.answer(), await raw.answer()] == [whole, whole]
    raw.writer.write(request)
    raw.writer.write(request)
    assert [await raw.answer(), await raw.answer()] == [whole, whole]
    assert await raw.ask(request) == whole


async def test_a_body_that_looks_like_a_known_request_is_a_body(http, connect, token):
    """It is refused before it has been read; what comes then still belongs to it."""
    raw = await connect()
    request = get(token)
    for _ in range(2):
        assert (await raw.ask(request))[0] == 200
    post = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request)}\r\n\r\n".encode()
    refused, _ = await raw.ask(post)
    assert refused in {401, 405}
    raw.writer.write(request)
    await raw.writer.drain()
    assert (await raw.ask(get(token, PATH, "Accept: application/json;as=Table;v=v1;g=meta.k8s.io")))[1].startswith(
        b'{"kind":"Table"'
    )


@pytest.mark.parametrize(
    "more", ["Accept: application/yaml", "Impersonate-User: someone", "Connection: close", "Content-Length: 0"]
)
async def test_what_is_more_than_a_plain_read_is_not_kept(http, connect, token, more):
    raw = await connect()
    await raw.ask(get(token, PATH, more))
    assert known(http) == 0


async def test_parameters_and_parts_are_not_kept(http, connect, token):
    raw = await connect()
    await raw.ask(get(token, f"{PATH}?pretty=true"))
    assert known(http) == 0


async def test_another_definition_of_a_kind_makes_everything_be_asked_anew(http, api, connect, token):
    raw = await connect()
    await raw.ask(get(token))
    assert known(http) == 1
    http.cluster.registry.kinds._changed()
    assert known(http) == 0
    assert (await raw.ask(get(token)))[0] == 200


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b"GET /api/v1/pods/a HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (b"GET /api/v1/pods/a HTTP/1.1\r\nHost: x\r\n", False),
        (b"GET /api/v1/pods/a HTTP/1.1\r\nHost: x\r\n\r\nGET /api HTTP/1.1\r\n\r\n", False),
        (b"GET /api/v1/pods/a HTTP/1.0\r\nHost: x\r\n\r\n", False),
        (b"POST /api/v1/pods HTTP/1.1\r\n\r\n", False),
        (b"GET /version HTTP/1.1\r\n\r\n", False),
        (b"GET /api/" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n", False),
    ],
)
def test_is_whole(data, whole):
    assert is_whole(data) is whole

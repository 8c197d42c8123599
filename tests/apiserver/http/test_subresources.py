"""Logs, bindings, evictions and the proxy."""

import asyncio
import contextlib

import aiohttp
import pytest
import yarl
from aiohttp import web

from headrace.api.core import Container, Pod, PodSpec, Service, ServiceAccount, ServicePort, ServiceSpec
from headrace.api.errors import BadRequest
from headrace.api.identity import ADMIN
from headrace.api.meta import ObjectMeta
from headrace.api.rbac import ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject
from headrace.apiserver.authn.tokens import GATEWAY_AUDIENCE
from headrace.machinery import serve

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
async def pod(http):
    def made(name, *containers, init=()):
        spec = PodSpec(
            containers=[Container(name=c, image="i") for c in containers or ("main",)],
            init_containers=[Container(name=c, image="i") for c in init],
        )
        return http.cluster.client.create(Pod(metadata=ObjectMeta(name=name, namespace="default"), spec=spec))

    return made


async def test_logs(api, logs, pod):
    made = await pod("p")
    logs.lines = [b"one\n", b"two\n"]
    answer = await api.get(f"{PODS}/p/log?tailLines=5&timestamps=true&previous=true&sinceSeconds=10&limitBytes=99")
    assert (answer.status, answer.body) == (200, b"one\ntwo\n")
    assert answer.headers["Content-Type"] == "text/plain"
    assert logs.asked == {
        "namespace": "default",
        "pod": "p",
        "container": "main",
        "uid": made.metadata.uid,
        "follow": False,
        "previous": True,
        "tail": 5,
        "since_seconds": 10.0,
        "timestamps": True,
        "limit_bytes": 99,
    }


async def test_logs_that_are_followed_come_as_they_are_written(api, logs, pod):
    await pod("p")
    logs.lines = [b"one\n"]
    async with api.open("GET", f"{PODS}/p/log?follow=true") as response:
        assert await response.content.readline() == b"one\n"
        logs.lines.append(b"two\n")
        logs.more.set()
        assert await asyncio.wait_for(response.content.readline(), 5) == b"two\n"


async def test_logs_that_say_nothing_yet_answer_at_once(api, pod):
    await pod("p")
    async with api.open("GET", f"{PODS}/p/log?follow=true") as response:
        assert response.status == 200


async def test_the_source_of_logs_may_refuse(api, logs, pod):
    await pod("p")

    async def refuse(*_args, **_options):
        raise BadRequest('container "main" in pod "p" is waiting to start: ContainerCreating')
        yield

    logs.stream = refuse
    answer = await api.get(f"{PODS}/p/log")
    assert (answer.status, answer.json["message"]) == (
        400,
        'container "main" in pod "p" is waiting to start: ContainerCreating',
    )


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        (
            "",
            400,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]",
        ),
        ("container=x", 400, "container x is not valid for pod p"),
        (
            "container=a&tailLines=-1",
            422,
            'PodLogOptions "" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0',
        ),
        ("container=a&sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", 422, None),
        ("container=a&sinceTime=yesterday", 400, None),
        ("container=a&follow=perhaps", 400, None),
    ],
)
async def test_log_options_that_are_refused(api, pod, query, status, message):
    await pod("p", "a", "b", init=["i"])
    answer = await api.get(f"{PODS}/p/log?{query}")
    assert answer.status == status
    if message:
        assert answer.json["message"] == message


async def test_logs_of_an_init_container(api, logs, pod):
    await pod("p", "a", init=["i"])
    await api.get(f"{PODS}/p/log?container=i")
    assert logs.asked["container"] == "i"


async def test_logs_need_their_own_permission(nobody, api, pod):
    await pod("p")
    denied = await api.get(f"{PODS}/p/log", Impersonate_User="somebody")
    assert 'cannot get resource "pods/log"' in denied.json["message"]
    assert (denied.status, (await nobody.get(f"{PODS}/p/log")).status) == (403, 401)
    assert (await api.get(f"{PODS}/missing/log")).status == 404


async def test_bind_and_evict(api, pod):
    await pod("p")
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "headrace"}}
    assert (await api("POST", f"{PODS}/p/binding", binding)).status == 201
    assert (await api.get(f"{PODS}/p")).json["spec"]["nodeName"] == "headrace"
    assert (await api("POST", f"{PODS}/p/binding", binding)).status == 409
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    assert (await api("POST", f"{PODS}/p/eviction", eviction, Impersonate_User="somebody")).status == 403
    assert (await api("POST", f"{PODS}/p/eviction", eviction)).status == 201
    assert (await api.get(f"{PODS}/p")).json["metadata"]["deletionTimestamp"]


@pytest.fixture
async def service(http, dialer):
    """A service `web` with a real HTTP server behind it; what it was sent can be read."""
    seen = []

    async def handle(request):
        headers = {k.lower(): v for k, v in request.headers.items()}
        seen.append((request.method, request.raw_path, headers, await request.read()))
        if request.path == "/moved":
            raise web.HTTPFound("/elsewhere")
        if request.path == "/stream":
            response = web.StreamResponse()
            await response.prepare(request)
            for i in range(3):
                await response.write(b"%d\n" % i)
            return response
        return web.Response(text="hello", headers={"X-Mine": "yes"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    dialer.ports["web.default", 80] = port
    ports = [ServicePort(port=80, name="http"), ServicePort(port=81, name="dead")]
    await http.cluster.client.create(
        Service(metadata=ObjectMeta(name="web", namespace="default"), spec=ServiceSpec(ports=ports))
    )
    yield seen
    await runner.cleanup()


SERVICES = "/api/v1/namespaces/default/services"


@pytest.mark.parametrize("target", ["web:http", "web:80", "http:web:http"])
async def test_proxy(api, service, target):
    path = f"{SERVICES}/{target}/proxy/apis/v2beta1/a%2Fb?x=1&y=%20"
    answer = await api("POST", path, b"payload", Authorization_Note="kept", Kubeflow_Userid="forged")
    assert (answer.status, answer.body, answer.headers["X-Mine"]) == (200, b"hello", "yes")
    method, raw, headers, body = service[0]
    assert (method, raw, body) == ("POST", "/apis/v2beta1/a%2Fb?x=1&y=%20", b"payload")
    assert headers["authorization-note"] == "kept"
    assert headers["x-forwarded-uri"] == f"{SERVICES}/{target}/proxy"
    assert not {"authorization", "kubeflow-userid"} & headers.keys()


async def test_credentials_stay_on_this_side(nobody, http, service):
    client = http.cluster.client
    await client.create(ServiceAccount(metadata=ObjectMeta(name="bob", namespace="default")))
    headers = {"Authorization": "Bearer " + await http.tokens.issue(ADMIN, "default", "bob")}
    denied = await nobody.get(f"{SERVICES}/web:http/proxy/", **headers)
    assert (denied.status, service) == (403, [])
    meta = ObjectMeta(name="proxy")
    rule = PolicyRule(["get"], api_groups=[""], resources=["services/proxy"])
    await client.create(ClusterRole(metadata=meta, rules=[rule]))
    subject = Subject(kind="ServiceAccount", name="bob", namespace="default")
    await client.create(ClusterRoleBinding(metadata=meta, role_ref=RoleRef("ClusterRole", "proxy"), subjects=[subject]))
    assert (await nobody.get(f"{SERVICES}/web:http/proxy/", **headers)).status == 200
    assert "authorization" not in service[0][2]
    assert (await nobody("POST", f"{SERVICES}/web:http/proxy/", b"", **headers)).status == 403


async def test_the_platforms_own_servers_learn_who_asks(api, nobody, http, dialer, service):
    dialer.ports["ml-pipeline.kubeflow", 8888] = dialer.ports["web.default", 80]
    made = Service(
        metadata=ObjectMeta(name="ml-pipeline", namespace="kubeflow"),
        spec=ServiceSpec(ports=[ServicePort(port=8888, name="http")]),
    )
    await http.cluster.client.create(made)
    path = "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy/apis/v2beta1/healthz"
    assert (await api.get(path)).body == b"hello"
    token = service[0][2]["authorization"].removeprefix("Bearer ")
    user = await http.tokens.review(token, (GATEWAY_AUDIENCE,))
    assert (user.name, user.groups) == (ADMIN.name, ADMIN.groups)
    # the token is for the gateway alone
    assert await http.tokens.review(token) is None
    assert (await nobody.get("/api", Authorization=f"Bearer {token}")).status == 401


async def test_proxy_passes_redirects_and_streams(api, service):
    async with api._session.get(f"{api.url}{SERVICES}/web:http/proxy/moved", allow_redirects=False) as moved:
        assert moved.headers["Location"] == f"{SERVICES}/web:http/proxy/elsewhere"
    assert (await api.get(f"{SERVICES}/web:http/proxy/stream")).body == b"0\n1\n2\n"
    assert (await api.get(f"{SERVICES}/web:http/proxy")).body == b"hello"


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ("", "/"),
        ("/", "/"),
        ("//a//b/", "/a/b/"),
        ("/a/../../b", "/b"),
        ("/a%2Fb%20", "/a%2Fb%20"),
        ("/x/proxy/y", "/x/proxy/y"),
    ],
)
async def test_paths_behind_the_proxy(api, service, sent, arrives):
    request = api._session.get(yarl.URL(f"{api.url}{SERVICES}/web:http/proxy{sent}", encoded=True))
    async with request as response:
        assert response.status == 200
    assert service[0][1] == arrives


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("web:nosuch", 503),
        ("web", 503),
        ("web:dead", 503),
        ("missing:80", 404),
        ("ftp:web:80", 400),
        ("https:web:80", 503),
    ],
)
async def test_proxy_to_nothing(api, service, target, status):
    answer = await api.get(f"{SERVICES}/{target}/proxy/")
    assert (answer.status, answer.json["kind"]) == (status, "Status")


async def test_proxy_to_a_pod(api, http, dialer, service, pod):
    await pod("p")
    dialer.ports["10.199.0.9", 8080] = dialer.ports["web.default", 80]
    assert (await api.get(f"{PODS}/p:8080/proxy/")).status == 400
    await http.cluster.client.patch(Pod, "p", {"status": {"podIP": "10.199.0.9"}}, "default", subresource="status")
    assert (await api.get(f"{PODS}/p:8080/proxy/x")).body == b"hello"


async def test_stopping_ends_streams(http, api, logs, pod, monkeypatch):
    monkeypatch.setattr(serve, "DRAIN_SECONDS", 1000)
    await pod("p")
    async with api.open("GET", f"{PODS}?watch=1") as watch, api.open("GET", f"{PODS}/p/log?follow=1") as log:
        await watch.content.readline()
        await asyncio.wait_for(http.server.stop(), 60)
        with contextlib.suppress(aiohttp.ClientError):
            assert await asyncio.wait_for(log.content.read(), 60) == b""
            assert await asyncio.wait_for(watch.content.read(), 60) == b""

"""The HTTP client against the embedded API server, and what only HTTP can do to a client."""

import asyncio
import base64
import stat
import sys

import pytest
import yaml

from headrace.api.apps import Deployment
from headrace.api.core import ConfigMap, Namespace, Secret, ServiceAccount
from headrace.api.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Gone,
    InternalError,
    Invalid,
    NotFound,
    ServiceUnavailable,
    Unauthorized,
)
from headrace.api.identity import ADMIN, service_account
from headrace.api.meta import ObjectMeta
from headrace.apiserver.pki.authority import ensure
from headrace.client.base import EventType
from headrace.client.http import HttpClient, failure
from headrace.client.kubeconfig import Cluster, ExecPlugin, NoCluster, TokenFile, from_kubeconfig, in_cluster
from headrace.machinery.settings import Settings
from headrace.testing.http import http_cluster


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return ensure(Settings(tmp_path_factory.mktemp("pki")))


@pytest.fixture
async def http(tmp_path, pki):
    async with http_cluster(tmp_path, pki=pki) as made:
        yield made


@pytest.fixture
async def client(http):
    async with HttpClient.from_kubeconfig(http.kubeconfig) as made:
        yield made


def cm(name, **data):
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data=data)


async def test_objects(client):
    made = await client.create(cm("a", x="1"))
    assert made.metadata.uid
    assert (await client.get(ConfigMap, "a", "default")) == made
    with pytest.raises(AlreadyExists):
        await client.create(cm("a"))
    made.data = {"x": "2"}
    updated = await client.update(made)
    with pytest.raises(Conflict):
        await client.update(made)
    patched = await client.patch(ConfigMap, "a", {"data": {"y": "3"}}, "default")
    assert patched.data == {"x": "2", "y": "3"}
    with pytest.raises(Conflict):
        await client.patch(ConfigMap, "a", {"data": {}}, "default", resource_version=updated.metadata.resource_version)
    with pytest.raises(Conflict):
        await client.delete(ConfigMap, "a", "default", uid="another")
    await client.delete(ConfigMap, "a", "default", uid=made.metadata.uid)
    with pytest.raises(NotFound):
        await client.get(ConfigMap, "a", "default")
    with pytest.raises(NotFound):
        await client.delete(ConfigMap, "a", "default")
    with pytest.raises(Invalid):
        await client.create(cm("Not A Name"))


async def test_lists_and_selectors(client):
    for name in "abc":
        await client.create(
            ConfigMap(metadata=ObjectMeta(name=name, namespace="default", labels={"even": str(name == "b")}))
        )
    everything = await client.list(ConfigMap)
    assert [o.metadata.name for o in everything.items if o.metadata.namespace == "default"] == ["a", "b", "c"]
    assert everything.items[0].kind == "ConfigMap"
    chosen = await client.list(ConfigMap, "default", labels="even=True")
    assert [o.metadata.name for o in chosen.items] == ["b"]
    chosen = await client.list(ConfigMap, "default", fields="metadata.name=c")
    assert [o.metadata.name for o in chosen.items] == ["c"]
    assert "default" in [n.metadata.name for n in (await client.list(Namespace)).items]


async def test_apply(client):
    first = await client.apply(cm("a", x="1"))
    await client.patch(ConfigMap, "a", {"data": {"theirs": "kept"}}, "default")
    second = await client.apply(cm("a", x="2"))
    assert second.data == {"x": "2", "theirs": "kept"}
    assert second.metadata.uid == first.metadata.uid
    third = await client.apply(cm("a", x="2"))
    assert third.metadata.resource_version == second.metadata.resource_version
    with pytest.raises(NotFound):
        await client.apply(ConfigMap(metadata=ObjectMeta(name="a", namespace="nowhere")))


async def test_watch_goes_on_behind_the_servers_time_outs(client, http):
    listed = await client.list(ConfigMap, "default")
    events = client.watch(ConfigMap, "default", resource_version=listed.resource_version)
    first = asyncio.create_task(anext(events))
    await asyncio.sleep(0.05)
    made = await client.create(cm("a", big="x" * 300_000))
    event = await asyncio.wait_for(first, 60)
    assert (event.type, event.object) == (EventType.ADDED, made)
    for connection in list(http.server._server._state.connections):
        connection.transport.abort()
    await http.cluster.client.delete(ConfigMap, "a", "default")
    event = await asyncio.wait_for(anext(events), 5)
    assert (event.type, event.object.metadata.name) == (EventType.DELETED, "a")
    await events.aclose()


async def test_a_watch_that_is_too_old(client, http):
    for i in range(4):
        await client.create(cm(f"c{i}"))
    await http.cluster.store.compact(1)
    with pytest.raises(Gone):
        await anext(client.watch(ConfigMap, "default", resource_version="1"))


async def test_tokens_and_reviews(client, http):
    await client.create(ServiceAccount(metadata=ObjectMeta(name="bob", namespace="default")))
    token = await client.request_token("default", "bob", audiences=["a"])
    user = await client.review_token(token, ["a"])
    assert (user.name, user.groups) == (
        "system:serviceaccount:default:bob",
        service_account("default", "bob").groups,
    )
    assert await client.review_token(token, ["b"]) is None
    assert await client.review_access(ADMIN, "get", resource="secrets", namespace="default")
    assert not await client.review_access(user, "get", resource="secrets", namespace="default")


async def test_scale(client):
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    deployment = Deployment(
        metadata=ObjectMeta(name="web", namespace="default"),
        spec={"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    )
    await client.create(deployment)
    scaled = await client.patch(Deployment, "web", {"spec": {"replicas": 4}}, "default", subresource="scale")
    assert scaled.spec.replicas == 4


async def test_by_token(http, pki):
    await http.cluster.client.create(ServiceAccount(metadata=ObjectMeta(name="bob", namespace="default")))
    config = yaml.safe_load(http.kubeconfig.read_text())
    path = http.kubeconfig.with_name("bob")
    config["users"][0]["user"] = {"token": await http.tokens.issue(ADMIN, "default", "bob")}
    path.write_text(yaml.safe_dump(config))
    async with HttpClient.from_kubeconfig(path) as bob:
        with pytest.raises(Forbidden):
            await bob.list(Secret)
    config["users"][0]["user"] = {"token": "nonsense"}
    path.write_text(yaml.safe_dump(config))
    async with HttpClient.from_kubeconfig(path) as stranger:
        with pytest.raises(Unauthorized):
            await stranger.list(Secret)


async def test_in_cluster(http, pki, tmp_path, monkeypatch):
    await http.cluster.client.create(ServiceAccount(metadata=ObjectMeta(name="bob", namespace="default")))
    folder = tmp_path / "sa"
    folder.mkdir()
    (folder / "token").write_text(await http.tokens.issue(ADMIN, "default", "bob"))
    (folder / "ca.crt").write_bytes(pki.ca.read_bytes())
    (folder / "namespace").write_text("default")
    with pytest.raises(NoCluster):
        in_cluster(folder)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(http.server.port))
    cluster = in_cluster(folder)
    assert cluster.namespace == "default"
    async with HttpClient(cluster) as bob:
        with pytest.raises(Forbidden):
            await bob.list(Secret)


async def test_a_server_that_is_not_there(tmp_path):
    async with HttpClient(Cluster("http://127.0.0.1:1")) as client:
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            await client.get(ConfigMap, "a", "default")


@pytest.mark.parametrize(
    ("code", "body", "error"),
    [
        (404, b"404 page not found", NotFound),
        (502, b"<html>", InternalError),
        (503, b"", ServiceUnavailable),
        (410, b'{"kind":"Status","reason":"Gone","code":410,"message":"old"}', Gone),
        (409, b'{"kind":"Status","reason":"AlreadyExists","code":409,"message":"x"}', AlreadyExists),
        (429, b'{"kind":"Status","reason":"","code":429,"message":"x"}', None),
    ],
)
def test_errors_of_any_server(code, body, error):
    found = failure(code, body)
    assert isinstance(found, error) if error else found.code == code


def _kubeconfig(path, name, **user):
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": name,
                "clusters": [{"name": name, "cluster": {"server": f"http://{name}.example/"}}],
                "users": [{"name": name, "user": user}],
                "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": f"ns-{name}"}}],
            }
        )
    )
    return path


async def test_several_kubeconfigs(tmp_path, monkeypatch):
    a = _kubeconfig(tmp_path / "a", "a", token="ta")
    b = _kubeconfig(tmp_path / "b", "b", tokenFile="t", **{"as": "jane", "as-groups": ["dev"]})
    (tmp_path / "t").write_text("tb\n")
    monkeypatch.setenv("KUBECONFIG", f"{a}:{tmp_path / 'missing'}:{b}")
    first, second = from_kubeconfig(), from_kubeconfig(context="b")
    assert (first.server, first.namespace) == ("http://a.example", "ns-a")
    assert await first.credentials.header() == "Bearer ta"
    assert await second.credentials.header() == "Bearer tb"
    assert second.headers == (("Impersonate-User", "jane"), ("Impersonate-Group", "dev"))
    with pytest.raises(NoCluster, match='no context "c"'):
        from_kubeconfig(context="c")
    with pytest.raises(NoCluster, match="no current context"):
        from_kubeconfig(tmp_path / "missing")
    basic = from_kubeconfig(_kubeconfig(tmp_path / "c", "c", username="u", password="p"))
    assert await basic.credentials.header() == "Basic " + base64.b64encode(b"u:p").decode()
    with pytest.raises(NoCluster, match="obsolete"):
        from_kubeconfig(_kubeconfig(tmp_path / "d", "d", **{"auth-provider": {"name": "gcp"}}))


async def test_exec_plugins(tmp_path):
    counter = tmp_path / "count"
    program = tmp_path / "plugin"
    program.write_text(
        f"#!{sys.executable}\nimport json, os\n"
        f"open({str(counter)!r}, 'a').write('x')\n"
        "assert json.loads(os.environ['KUBERNETES_EXEC_INFO'])['kind'] == 'ExecCredential'\n"
        "print(json.dumps({'status': {'token': os.environ['T'], 'expirationTimestamp': '2999-01-01T00:00:00Z'}}))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    plugin = ExecPlugin({"command": str(program), "env": [{"name": "T", "value": "secret"}]})
    assert await asyncio.gather(plugin.header(), plugin.header()) == ["Bearer secret"] * 2
    assert counter.read_text() == "x"
    with pytest.raises(NoCluster, match="failed with 3"):
        await ExecPlugin({"command": sys.executable, "args": ["-c", "raise SystemExit(3)"]}).header()
    for printed, why in (("{}", "no ExecCredential"), ("text", "no ExecCredential"), ('{"status": {}}', "no token")):
        with pytest.raises(NoCluster, match=why):
            await ExecPlugin({"command": "echo", "args": [printed]}).header()


async def test_token_files_are_read_again(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("headrace.client.kubeconfig.time.monotonic", lambda: now[0])
    path = tmp_path / "token"
    path.write_text("one")
    credentials = TokenFile(path)
    assert await credentials.header() == "Bearer one"
    path.write_text("two")
    assert await credentials.header() == "Bearer one"
    now[0] += 61
    assert await credentials.header() == "Bearer two"

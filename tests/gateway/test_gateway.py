"""The front door: who is let in, where requests go, and how answers come back."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from headrace.api import _wire
from headrace.api.core import Endpoints
from headrace.components.serving.types import InferenceService
from headrace.gateway import Gateway, models
from headrace.gateway.upstream import Pool
from headrace.machinery.component import ConfigurationError
from headrace.machinery.manager import Manager
from headrace.machinery.settings import Settings
from headrace.testing import embedded_cluster, eventually

if TYPE_CHECKING:
    from pathlib import Path

NS = "kubeflow-user-example-com"
HOST = f"digits-{NS}.example.com"
PREDICT = "/v1/models/digits:predict"


class NoDialer:
    """There is nobody to dial."""

    async def dial(self, host: str, port: int) -> socket.socket:
        raise OSError(f"{host}:{port}")


async def ask(world: Any, method: str, path: str, **options: Any) -> tuple[int, Any, Any]:
    async with world.session.request(method, world.url + path, **options) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if text.startswith(("{", "[")) else text, answer.headers


async def serve(world: Any) -> dict[str, str]:
    """A model that answers; headers of somebody who may use it."""
    await world.model()
    await world.pods(world.port)
    headers = await world.auth()
    await eventually(lambda: _answers(world, headers))
    world.backend.seen.clear()
    return headers


async def _answers(world: Any, headers: dict[str, str]) -> bool:
    return (await ask(world, "GET", f"/serving/{NS}/digits/", headers=headers))[0] == 200


# Who is let in


async def test_without_a_token_nothing_but_health_and_the_root_is_told(world: Any) -> None:
    assert (await ask(world, "GET", "/healthz"))[:2] == (200, "ok")
    status, said, _ = await ask(world, "GET", "/")
    assert status == 200
    assert said["apis"] == ["/apis/v2beta1", "/apis/v2beta1/runs", "/pipeline"]
    status, page, headers = await ask(world, "GET", "/", headers={"Accept": "text/html,*/*"})
    assert headers["content-type"].startswith("text/html")
    assert "create token" in page
    for path in ("/apis/v2beta1/runs", f"/serving/{NS}/digits/v1/models", "/nowhere"):
        status, said, headers = await ask(world, "GET", path)
        assert status == 401
        assert "kubectl -n NAMESPACE create token default-editor" in said["error"]
        assert (said["code"], said["message"]) == (16, said["error"]), "google.rpc.Status, for pipelines' clients"
        assert headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("value", ["Bearer nonsense", "Bearer ", "Basic dXNlcjpw", "Bearer a.b.c", "Bearer \xff"])
async def test_an_invalid_token_is_refused(world: Any, value: str) -> None:
    assert (await ask(world, "GET", "/apis/v2beta1", headers={"Authorization": value}))[0] == 401


async def test_a_token_whose_service_account_is_gone_ends_soon(world: Any) -> None:
    from headrace.api.core import ServiceAccount
    from headrace.api.meta import ObjectMeta

    await world.client.create(ServiceAccount(metadata=ObjectMeta(name="brief", namespace=NS)))
    headers = await world.auth("brief")
    await world.client.delete(ServiceAccount, "brief", NS)
    assert (await ask(world, "GET", "/apis/v2beta1", headers=headers))[0] == 401


async def test_a_token_for_pipelines_is_let_in_and_one_for_others_is_not(world: Any) -> None:
    pipelines = await world.auth(audiences=("pipelines.kubeflow.org",))
    assert (await ask(world, "GET", "/apis/v2beta1", headers=pipelines))[0] == 200
    vault = await world.auth(audiences=("vault",))
    assert (await ask(world, "GET", "/apis/v2beta1", headers=vault))[0] == 401


async def test_identity_headers_are_the_gateways_own(world: Any) -> None:
    headers = {**await world.auth(), "kubeflow-userid": "admin@example.com", "Kubeflow-Groups": "system:masters"}
    _, said, _ = await ask(world, "GET", "/apis/v2beta1/experiments", headers=headers)
    user = f"system:serviceaccount:{NS}:default-editor"
    assert said["user"] == user
    assert [v for n, v in said["headers"] if n == "kubeflow-userid"] == [user]
    groups = [v for n, v in said["headers"] if n == "kubeflow-groups"]
    assert len(groups) == 1
    assert "system:masters" not in groups[0]


async def test_a_model_is_for_those_who_may(world: Any) -> None:
    await serve(world)
    path = f"/serving/{NS}/digits{PREDICT}"
    expected = {
        ("default-editor", NS): (200, 200),
        ("default-viewer", NS): (200, 403),
        ("default-editor", "other"): (403, 403),
    }
    for (account, namespace), (get, post) in expected.items():
        headers = await world.auth(account, namespace)
        assert (await ask(world, "GET", path, headers=headers))[0] == get, account
        status, said, _ = await ask(world, "POST", path, headers=headers, data=b"{}")
        assert status == post, account
        if post == 403:
            assert f"may not create inferenceservices.serving.kserve.io 'digits' in namespace '{NS}'" in said["error"]


async def test_a_stranger_does_not_learn_which_models_exist(world: Any) -> None:
    await serve(world)
    headers = await world.auth("default-editor", "other")
    for name in ("digits", "absent"):
        assert (await ask(world, "GET", f"/serving/{NS}/{name}/", headers=headers))[0] == 403


# Where requests go


@pytest.mark.parametrize(
    "host",
    [
        HOST,
        HOST.upper(),
        f"{HOST}:8080",
        f"digits.{NS}.example.com",
        f"digits.{NS}.localhost",
        f"digits-predictor-{NS}.example.com",
    ],
)
async def test_a_model_by_host(world: Any, host: str) -> None:
    headers = {**await serve(world), "Host": host}
    status, said, answered = await ask(world, "POST", f"{PREDICT}?a=b%20c", headers=headers, data=b"{}")
    assert status == 200
    assert (said["method"], said["path"], said["query"], said["length"]) == ("POST", PREDICT, "a=b%20c", 2)
    assert answered["x-model"] == "yes"
    assert said["headers"]["host"] == host


async def test_a_model_by_path(world: Any) -> None:
    headers = await serve(world)
    for path, below in ((f"/serving/{NS}/digits{PREDICT}", PREDICT), (f"/serving/{NS}/digits", "/")):
        status, said, _ = await ask(world, "POST", path, headers=headers, data=b"{}")
        assert (status, said["path"]) == (200, below)
    url = f"/serving/{NS}/digits/v1/models/a%2Fb"
    _, said, _ = await ask(world, "GET", aiohttp.client.URL(url, encoded=True).raw_path, headers=headers)
    assert said["headers"]["kubeflow-userid"] == f"system:serviceaccount:{NS}:default-editor"


async def test_the_token_stays_at_the_gateway(world: Any) -> None:
    headers = {**await serve(world), "X-Mine": "kept"}
    _, said, _ = await ask(world, "GET", f"/serving/{NS}/digits/x", headers=headers)
    assert "authorization" not in said["headers"]
    assert said["headers"]["x-mine"] == "kept"


async def test_components_by_the_longest_path(world: Any) -> None:
    headers = await world.auth()
    for path, root in (
        ("/apis/v2beta1", "/apis/v2beta1"),
        ("/apis/v2beta1/experiments", "/apis/v2beta1"),
        ("/apis/v2beta1/runs/x", "/apis/v2beta1/runs"),
        ("/pipeline/apis/v2beta1/runs", "/pipeline"),
    ):
        _, said, _ = await ask(world, "GET", path, headers=headers)
        assert (said["root"], said["path"]) == (root, path)
    for path in ("/apis/v2beta1x", "/other"):
        status, said, _ = await ask(world, "GET", path, headers=headers)
        assert status == 404
        assert "GET / says what is here" in said["error"]


async def test_unknown_models_are_named(world: Any) -> None:
    headers = await serve(world)
    status, said, _ = await ask(world, "GET", f"/serving/{NS}/absent/", headers=headers)
    assert (status, said["error"]) == (404, f"There is no InferenceService 'absent' in namespace '{NS}'.")
    status, said, _ = await ask(world, "GET", "/", headers={**headers, "Host": "absent-x.example.com"})
    assert status == 404
    assert "kubectl get inferenceservices -A" in said["error"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_services_with_one_host_the_older_keeps_it(order: tuple[int, int]) -> None:
    table = models.Models(Pool(NoDialer()))
    objects = [
        _wire.convert(
            models.INFERENCE_SERVICE,
            {"metadata": {"name": name, "namespace": namespace, "creationTimestamp": f"2026-01-0{day}T00:00:00Z"}},
        )
        for name, namespace, day in (("z", "b-c", 1), ("z-b", "c", 2))
    ]
    for index in order:
        table._on_service(None, objects[index])
    found = table.by_host("z-b-c.example.com")
    assert found
    assert found.key == "b-c/z"
    table._on_service(objects[0], None)
    found = table.by_host("z-b-c.example.com")
    assert found
    assert found.key == "c/z-b"


def test_the_machines_own_servers_are_no_models() -> None:
    table = models.Models(Pool(NoDialer()), "10.199.0.1")
    model = models.Model("ns", "x", 1.0, ready=True, coming=True, why="")
    addresses = [{"ip": "10.199.0.1"}, {"ip": "10.199.0.9"}]
    body = {"metadata": {"name": "x-predictor", "namespace": "ns"}}
    table._on_endpoints(
        None, _wire.convert(Endpoints, {**body, "subsets": [{"addresses": addresses, "ports": [{"port": 1}]}]})
    )
    assert [a.ip for a in table.addresses(model)] == ["10.199.0.9"]


# When there is nobody to answer


async def test_no_ready_pod_is_explained(world: Any) -> None:
    headers = await world.auth()
    await world.model()
    await eventually(lambda: world.gateway._models.by_key(NS, "digits"))
    path = f"/serving/{NS}/digits{PREDICT}"
    status, said, answered = await ask(world, "POST", path, headers=headers, data=b"{}")
    assert (status, answered["retry-after"]) == (503, "1")
    assert said == {"error": "InferenceService 'digits' does not answer: it is being created."}
    await world.condition("False", "Model file model.joblib does not load: ValueError: bad.")

    async def explained() -> bool:
        _, said, _ = await ask(world, "POST", path, headers=headers, data=b"{}")
        words = "InferenceService 'digits' does not answer: Model file model.joblib does not load: ValueError: bad."
        return said == {"error": words}

    await eventually(explained)


@pytest.mark.parametrize("status", ["True", "Unknown"])
async def test_a_model_without_a_pod_at_this_moment_gets_a_moment(world: Any, status: str) -> None:
    headers = await serve(world)
    await world.condition(status)
    await world.pods()
    key = f"{NS}/digits"
    await eventually(lambda: world.gateway._models._models[key].coming and not world.gateway._models._addresses)
    waiting = asyncio.create_task(ask(world, "GET", f"/serving/{NS}/digits/x", headers=headers))
    await eventually(lambda: world.gateway._models._waiters)
    await world.pods(world.port)
    assert (await waiting)[0] == 200


async def test_who_waits_for_a_model_hears_at_once_that_it_failed(world: Any) -> None:
    headers = await serve(world)
    await world.condition("Unknown")
    await world.pods()
    await eventually(lambda: not world.gateway._models._addresses)
    waiting = asyncio.create_task(ask(world, "GET", f"/serving/{NS}/digits/x", headers=headers))
    await eventually(lambda: world.gateway._models._waiters)
    await world.condition("False", "It does not load.")
    status, said, _ = await waiting
    assert (status, said["error"]) == (503, "InferenceService 'digits' does not answer: It does not load.")


async def test_a_pod_that_is_gone_is_passed_over(world: Any) -> None:
    headers = await serve(world)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = taken.getsockname()[1]
        await world.pods(dead, world.port)
        await eventually(lambda: len(world.gateway._models._addresses[f"{NS}/digits-predictor"]) == 2)
        for _ in range(3):
            assert (await ask(world, "GET", f"/serving/{NS}/digits/x", headers=headers))[0] == 200
        await world.pods(dead)
        await eventually(lambda: len(world.gateway._models._addresses[f"{NS}/digits-predictor"]) == 1)
        status, said, _ = await ask(world, "GET", f"/serving/{NS}/digits/x", headers=headers)
        assert status == 503
        assert said["error"].startswith("InferenceService 'digits': No connection")


async def test_a_model_that_takes_too_long(world: Any) -> None:
    await world.model(timeout=1)
    await world.pods(world.port)
    headers = await world.auth()
    await eventually(lambda: _answers(world, headers))
    status, said, _ = await ask(world, "POST", f"/serving/{NS}/digits/slow", headers=headers, data=b"{}")
    assert (status, said["error"]) == (
        504,
        "InferenceService 'digits': The model server did not answer within 1 seconds.",
    )


async def test_an_answer_that_breaks_off_is_not_a_whole_one(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    headers = await serve(world)
    with pytest.raises(aiohttp.ClientPayloadError):
        await ask(world, "GET", f"/serving/{NS}/digits/break", headers=headers)
    await eventually(lambda: "broke off" in caplog.text)


async def test_what_is_not_http_is_a_bad_gateway(world: Any) -> None:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await writer.drain()
        writer.close()

    headers = await serve(world)
    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await world.pods(port)
        await eventually(lambda: world.gateway._models._addresses[f"{NS}/digits-predictor"][0].port == port)
        status, said, _ = await ask(world, "GET", f"/serving/{NS}/digits/x", headers=headers)
        assert status == 502
        assert "InferenceService 'digits'" in said["error"]


async def test_before_the_models_are_known_nothing_is_called_absent(world: Any) -> None:
    headers = await serve(world)
    manager = Manager(world.client, world.cluster.clock)
    gateway = Gateway(world.gateway._settings, world.client, world.dialer, manager=manager)
    await gateway.start()
    try:
        url = "http://{}:{}".format(*gateway.address) + f"/serving/{NS}/digits/x"
        async with world.session.get(url, headers=headers) as answer:
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        await manager.start()
        async with world.session.get(url, headers=headers) as answer:
            assert answer.status == 200
    finally:
        await gateway.stop()
        await manager.stop()


# How bodies travel


async def test_bodies_stream_both_ways(world: Any) -> None:
    headers = await serve(world)
    data = bytes(range(256)) * 20_000  # five megabytes, with a length
    url = f"{world.url}/serving/{NS}/digits/echo"
    async with world.session.post(url, data=io.BytesIO(data), headers=headers) as answer:
        assert await answer.read() == data

    async def pieces():
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    async with world.session.post(url, data=pieces(), headers=headers) as answer:
        assert await answer.read() == data
    _, said, _ = await ask(world, "GET", f"/serving/{NS}/digits/stream", headers=headers)
    assert said == "one two three"


async def test_answers_keep_their_status_and_lose_hop_by_hop_headers(world: Any) -> None:
    headers = await serve(world)
    status, _, answered = await ask(world, "GET", f"/serving/{NS}/digits/teapot", headers=headers)
    assert status == 418
    assert answered["x-model"] == "yes"
    assert answered.get("connection", "") != "x-hop"


async def test_head(world: Any) -> None:
    headers = await serve(world)
    for _ in range(2):
        status, body, answered = await ask(world, "HEAD", f"/serving/{NS}/digits/x", headers=headers)
        assert (status, body) == (200, "")
        assert int(answered["content-length"]) > 0


async def test_connections_are_kept(world: Any) -> None:
    headers = await serve(world)
    before = world.dialer.dialed
    for _ in range(20):
        assert (await ask(world, "POST", f"/serving/{NS}/digits/x", headers=headers, data=b"{}"))[0] == 200
    assert world.dialer.dialed - before <= 1


async def test_a_kept_connection_that_the_server_closes_is_replaced(world: Any) -> None:
    answers = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answers
        await reader.readuntil(b"\r\n\r\n")
        answers += 1
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        await reader.read(1)  # the next request arrives, and nobody answers it
        writer.close()

    headers = await serve(world)
    server = await asyncio.start_server(once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await world.pods(port)
    await eventually(lambda: world.gateway._models._addresses[f"{NS}/digits-predictor"][0].port == port)
    for _ in range(3):
        assert (await ask(world, "GET", f"/serving/{NS}/digits/x", headers=headers))[:2] == (200, "ok")
    server.close()  # and no more: the gateway still holds the last connection, which newer asyncio would wait for
    assert answers == 3


async def test_when_the_client_leaves_the_model_is_told(world: Any) -> None:
    headers = await serve(world)
    with pytest.raises(asyncio.TimeoutError):
        timeout = aiohttp.ClientTimeout(total=0.3)
        await ask(world, "POST", f"/serving/{NS}/digits/slow", headers=headers, data=b"{}", timeout=timeout)
    await asyncio.wait_for(world.backend.gone.wait(), 5)


async def test_a_slow_answer_arrives(world: Any) -> None:
    headers = await serve(world)
    path = f"/serving/{NS}/digits/slow"
    waiting = asyncio.create_task(ask(world, "GET", path, headers=headers))
    await asyncio.sleep(0.2)  # past the moment when the gateway begins to watch the client
    world.backend.hold.set()
    assert (await waiting)[0] == 200


async def test_a_request_that_tries_to_smuggle_another_is_refused(world: Any) -> None:
    headers = await serve(world)
    token = headers["Authorization"]
    reader, writer = await asyncio.open_connection(*world.gateway.address)
    writer.write(
        f"POST /serving/{NS}/digits/x HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n"
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n".encode()
    )
    answer = await reader.read(4096)
    writer.close()
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert all(said["path"] != "/hidden" for said in world.backend.seen)


# Where it listens


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.com", "::"])
async def test_without_people_it_listens_on_loopback_only(world: Any, tmp_path: Path, host: str) -> None:
    settings = Settings(home=tmp_path, gateway_host=host)
    gateway = Gateway(settings, world.client, world.dialer, manager=world.cluster.manager)
    with pytest.raises(ConfigurationError, match="nobody can log in with a password"):
        await gateway.start()


async def test_a_platform_without_serving(world: Any, tmp_path: Path) -> None:
    async with embedded_cluster() as bare:
        gateway = Gateway(world.gateway._settings, bare.client, world.dialer, manager=bare.manager)
        await gateway.start()
        try:
            async with world.session.get("http://{}:{}/healthz".format(*gateway.address)) as answer:
                assert answer.status == 200
        finally:
            await gateway.stop()


async def test_a_deleted_model_is_forgotten(world: Any) -> None:
    headers = await serve(world)
    await world.client.delete(InferenceService, "digits", NS)

    async def gone() -> bool:
        return (await ask(world, "GET", f"/serving/{NS}/digits/x", headers=headers))[0] == 404

    await eventually(gone)

"""People at the API server: ID tokens of the platform's issuer, and kubectl after `headrace login`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import ssl
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import click
import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa

from headrace.api import rbac
from headrace.api.core import ConfigMap, Namespace
from headrace.api.meta import ObjectMeta
from headrace.apiserver.http.server import ApiServer
from headrace.apiserver.pki.authority import ensure
from headrace.cli import logins
from headrace.components.identity.api import grants

from .conftest import USER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HOME = "team"
WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@pytest.fixture
async def server(world: Any) -> AsyncIterator[ApiServer]:
    """The API server of the gateway's cluster; the user owns a namespace there."""
    files = ensure(world.settings)
    made = ApiServer(world.settings, world.cluster.registry, world.cluster.tokens, clock=world.clock, pki=files)
    made.people = world.parts.people
    await made.start()
    meta = ObjectMeta(name="kube-root-ca.crt", namespace="auth")
    await world.client.create(ConfigMap(metadata=meta, data={"ca.crt": files.ca.read_text()}))
    await world.client.create(Namespace(metadata=ObjectMeta(name=HOME, annotations={"owner": USER})))
    role = rbac.RoleRef(kind="ClusterRole", name="looks", api_group="rbac.authorization.k8s.io")
    subject = rbac.Subject(kind="User", name=USER, api_group="rbac.authorization.k8s.io")
    rule = rbac.PolicyRule(api_groups=[""], resources=["configmaps"], verbs=["get", "list"])
    await world.client.create(rbac.ClusterRole(metadata=ObjectMeta(name="looks"), rules=[rule]))
    await world.client.create(
        rbac.RoleBinding(metadata=ObjectMeta(name="own", namespace=HOME), role_ref=role, subjects=[subject])
    )
    yield made
    await made.stop()


async def issued(world: Any, client: str = "kubernetes", key: Any = None, **changed: Any) -> str:
    """An ID token, with other claims where the test wants them."""
    exchange = await world.parts.people._issuer().exchange()
    person = await world.parts.people._directory.find(USER)
    claims = {**exchange.claims(person, client), **changed}
    return jwt.encode(claims, key, "RS256", headers={"kid": exchange.key.id}) if key else exchange.sign(claims)


async def asked(world: Any, server: ApiServer, token: str, path: str, body: Any = None) -> tuple[int, Any]:
    trusted = ssl.create_default_context(cafile=str(world.settings.pki / "ca.crt"))
    method = "GET" if body is None else "POST"
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, server.url + path, headers=headers, json=body, ssl=trusted) as answer,
    ):
        return answer.status, await answer.json()


async def test_an_id_token_is_its_person(world: Any, server: ApiServer) -> None:
    await world.parts.people._directory.change(USER, groups=["ds"])
    token = await issued(world)
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    status, said = await asked(world, server, token, WHO, review)
    assert (status, said["status"]["userInfo"]["username"]) == (201, USER)
    assert said["status"]["userInfo"]["groups"] == ["ds", "system:authenticated"]
    for namespace, expected in ((HOME, 200), ("auth", 403)):
        status, _ = await asked(world, server, token, f"/api/v1/namespaces/{namespace}/configmaps")
        assert status == expected, namespace


async def test_other_tokens_are_refused(world: Any, server: ApiServer) -> None:
    foreign = rsa.generate_private_key(65537, 2048)
    now = int(world.clock.now().timestamp())
    refused = {
        "another client's": await issued(world, "headrace-cli"),
        "the gateway's own": await issued(world, "kubeflow-oidc-authservice"),
        "expired": await issued(world, exp=now - 1),
        "a foreign issuer's": await issued(world, iss="https://accounts.google.com"),
        "signed with a foreign key": await issued(world, key=foreign),
        "not signed": jwt.encode({"iss": "x", "aud": "kubernetes", "email": USER}, "", "none"),
        "nonsense": "a.b.c",
    }
    for what, token in refused.items():
        status, _ = await asked(world, server, token, f"/api/v1/namespaces/{HOME}/configmaps")
        assert status == 401, what
    good = await issued(world)
    await world.parts.people._directory.remove(USER)
    assert (await asked(world, server, good, f"/api/v1/namespaces/{HOME}/configmaps"))[0] == 401, "nobody any more"


async def test_a_token_review_knows_people(world: Any, server: ApiServer) -> None:
    admin = rbac.RoleRef(kind="ClusterRole", name="reviewer", api_group="rbac.authorization.k8s.io")
    rule = rbac.PolicyRule(api_groups=["authentication.k8s.io"], resources=["tokenreviews"], verbs=["create"])
    await world.client.create(rbac.ClusterRole(metadata=ObjectMeta(name="reviewer"), rules=[rule]))
    subject = rbac.Subject(kind="User", name=USER, api_group="rbac.authorization.k8s.io")
    meta = ObjectMeta(name="reviewer")
    await world.client.create(rbac.ClusterRoleBinding(metadata=meta, role_ref=admin, subjects=[subject]))
    token = await issued(world)
    for spec, known in (({}, True), ({"audiences": ["vault"]}, False)):
        body = {"spec": {"token": token, **spec}}
        _, said = await asked(world, server, token, "/apis/authentication.k8s.io/v1/tokenreviews", body)
        assert said["status"].get("authenticated", False) is known, said
        assert not known or said["status"]["user"]["username"] == USER


class Machine:
    """A person's own machine: a home folder, `headrace` and kubectl."""

    def __init__(self, home: Path) -> None:
        self.kubeconfig = home / "kube" / "config"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "KUBECONFIG": str(self.kubeconfig),
            "XDG_CONFIG_HOME": str(home / "config"),
            "NO_PROXY": "*",
        }

    @property
    def kept(self) -> Path:
        """The file of the only login."""
        (found,) = (self.kubeconfig.parent.parent / "config" / "headrace" / "logins").glob("*.json")
        return found

    async def start(self, *command: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=self._environment)

    async def run(self, *command: str) -> tuple[int, str, str]:
        process = await self.start(*command)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, out.decode(), err.decode()

    async def headrace(self, *arguments: str) -> tuple[int, str, str]:
        return await self.run(sys.executable, "-m", "headrace.cli", *arguments)

    async def log_in(self, world: Any, server: ApiServer) -> tuple[int, str, str]:
        """As a person does: the command shows a code, which is typed in a browser with a session."""
        person = await world.logged_in()
        command = ("login", world.url, "--server", server.url)
        process = await self.start(sys.executable, "-m", "headrace.cli", *command)
        shown = ""
        while not (code := re.search(r"user_code=([\w-]+)|the code ([\w-]+)", shown)):
            line = await asyncio.wait_for(process.stderr.readline(), 60)
            assert line, "the command has ended"
            shown += line.decode()
        form = {"user_code": code.group(1) or code.group(2), "answer": "yes"}
        async with person.post("/dex/device", data=form) as response:
            assert response.status == 200
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(grants._DeviceEndpoint, "INTERVAL", 1)
    monkeypatch.setattr(grants, "DEVICE_INTERVAL", 0)
    (tmp_path / "kube").mkdir()
    return Machine(tmp_path)


@pytest.mark.clients
async def test_kubectl_after_a_login(world: Any, server: ApiServer, machine: Machine) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on this machine")
    theirs = {"clusters": [{"name": "work", "cluster": {"server": "https://work.example"}}], "contexts": []}
    machine.kubeconfig.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **theirs}))
    code, out, err = await machine.log_in(world, server)
    assert code == 0, err
    assert f"You are {USER}" in out
    name = f"{USER}@{world.settings.context}"
    written = yaml.safe_load(machine.kubeconfig.read_text())
    assert written["current-context"] == name
    assert "work" in {each["name"] for each in written["clusters"]}
    assert machine.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert machine.kept.stat().st_mode & 0o777 == 0o600
    assert json.loads(machine.kept.read_text())["refresh_token"] not in machine.kubeconfig.read_text()

    code, out, err = await machine.run("kubectl", "auth", "whoami", "-o", "json")
    assert json.loads(out)["status"]["userInfo"]["username"] == USER, err
    assert (await machine.run("kubectl", "get", "configmaps"))[0] == 0, "in the namespace of one's own"
    code, _, err = await machine.run("kubectl", "get", "secrets", "-n", "auth")
    assert code != 0
    assert f'User "{USER}" cannot list resource "secrets"' in err

    # Two kubectls at the same time find a token that has ended, and a refresh token works once.
    kept = json.loads(machine.kept.read_text())
    machine.kept.write_text(json.dumps({**kept, "id_token": await issued(world, exp=1)}))
    both = await asyncio.gather(*(machine.run("kubectl", "get", "configmaps") for _ in range(2)))
    assert [code for code, _, _ in both] == [0, 0], both
    renewed = json.loads(machine.kept.read_text())
    assert renewed["refresh_token"] != kept["refresh_token"]

    await world.parts.people._credentials.end_all(USER, tokens=True)
    machine.kept.write_text(json.dumps({**renewed, "id_token": await issued(world, exp=1)}))
    code, out, err = await machine.headrace("token", "--login", name)
    assert (code, out) == (1, ""), "the login was ended elsewhere"
    assert f"`headrace login {world.url}` begins another" in err

    code, out, _ = await machine.headrace("logout")
    assert (code, out) == (0, f"{name} is logged out.\n")
    left = yaml.safe_load(machine.kubeconfig.read_text())
    assert [each["name"] for each in left["clusters"]] == ["work"]
    assert not left["contexts"]
    assert not left["users"]
    code, _, err = await machine.headrace("token", "--login", name)
    assert code == 1
    assert "headrace login" in err


async def test_a_login_that_is_refused_in_the_browser(world: Any, machine: Machine) -> None:
    person = await world.logged_in()

    def show(_address: str, code: str) -> None:
        answers.append(asyncio.ensure_future(_post(person, {"user_code": code, "answer": "no"})))

    answers: list[asyncio.Future[int]] = []
    with pytest.raises(click.ClickException, match="refused in the browser"):
        await logins.by_device(logins.Login("", world.url), show)
    assert await answers[0] == 200


async def _post(session: aiohttp.ClientSession, form: dict[str, str]) -> int:
    async with session.post("/dex/device", data=form) as response:
        return response.status

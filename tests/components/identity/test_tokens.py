"""Personal access tokens, the protocol's tokens, and the account API."""

from __future__ import annotations

import asyncio
import base64

import jwt
import pytest

from headrace.api import rbac
from headrace.api.core import ConfigMap, Secret
from headrace.api.meta import ObjectMeta
from headrace.components.identity.controller import CredentialController

from .conftest import PASSWORD, USER, query_of

JSON = {"accept": "application/json"}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def make_token(session, *scopes, days=3):
    body = {"name": "ci", "scopes": list(scopes), "days": days}
    async with session.post("/api/identity/tokens", json=body) as response:
        assert response.status == 201, await response.text()
        return (await response.json())["token"]


@pytest.mark.parametrize(
    ("scope", "get", "post", "predict"),
    [("read", 200, 403, 403), ("write", 200, 200, 404), ("predict", 403, 403, 404)],
)
async def test_a_token_does_what_its_scope_says(world, scope, get, post, predict):
    token = await make_token(await world.logged_in(), scope)
    anyone = world.browser()
    async with anyone.get("/apis/v2beta1", headers=bearer(token)) as response:
        assert response.status == get
    async with anyone.post("/apis/v2beta1", headers=bearer(token)) as response:
        assert response.status == post
    async with anyone.post("/serving/ns/m/v1/models/m:predict", headers=bearer(token)) as response:
        # Without serving there is no model: 404 says that the token was good for it, unless RBAC says no first.
        assert response.status in ({403, 404} if predict == 404 else {403})
        said = await response.json()
        assert ("scopes" in said["error"]) == (predict == 403)


async def test_a_token_ends_by_time_by_hand_and_with_its_owner(world):
    session = await world.logged_in()
    brief, ended, left = [await make_token(session, "read", days=d) for d in (1, 30, 30)]
    async with session.get("/api/identity/tokens") as response:
        listed = (await response.json())["items"]
    assert [item["detail"] for item in listed] == ["ci"] * 3
    assert not any(secret in str(listed) for secret in (brief, ended, left))
    name = next(
        secret.metadata.name
        for secret in (await world.client.list(Secret, "auth")).items
        if secret.metadata.name == _name(ended)
    )
    async with session.delete(f"/api/identity/credentials/{name}") as response:
        assert response.status == 204
    world.clock.ahead = 2 * 86400
    anyone = world.browser()
    for token, status in ((brief, 401), (ended, 401), (left, 200)):
        async with anyone.get("/apis/v2beta1", headers=bearer(token)) as response:
            assert response.status == status
    await world.parts.people._directory.remove(USER)
    async with anyone.get("/apis/v2beta1", headers=bearer(left)) as response:
        assert response.status == 401


def _name(secret: str) -> str:
    from headrace.components.identity.render import TOKEN, credential_name

    return credential_name(TOKEN, secret)


async def test_nobody_ends_what_is_anothers(world):
    mine = await world.logged_in()
    token = await make_token(mine, "read")
    await world.parts.people._directory.add("ada@example.com", "correct horse battery")
    ada = await world.logged_in("ada@example.com", "correct horse battery")
    async with ada.delete(f"/api/identity/credentials/{_name(token)}") as response:
        assert response.status == 404
    async with ada.get("/api/identity/tokens") as response:
        assert (await response.json())["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"name": "", "scopes": ["read"]},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["everything"]},
        {"name": "x", "scopes": ["read"], "days": 0},
        {"name": "x", "scopes": ["read"], "days": True},
        {"name": 5, "scopes": ["read"]},
        [],
    ],
)
async def test_a_token_that_cannot_be_is_refused_in_words(world, body):
    session = await world.logged_in()
    async with session.post("/api/identity/tokens", json=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]


async def test_people_are_managed_by_who_may(world):
    session = await world.logged_in()
    new = {"email": "Ada@Example.com", "password": "correct horse battery", "groups": ["ds"]}
    for method, path in (("GET", ""), ("POST", ""), ("PATCH", f"/{USER}"), ("DELETE", f"/{USER}")):
        async with session.request(method, f"/api/identity/users{path}", json=new) as response:
            assert response.status == 403, method
    metadata = ObjectMeta(name="boss")
    role = rbac.RoleRef(kind="ClusterRole", name="cluster-admin", api_group="rbac.authorization.k8s.io")
    subject = rbac.Subject(kind="User", name=USER, api_group="rbac.authorization.k8s.io")
    await world.client.create(rbac.ClusterRoleBinding(metadata=metadata, role_ref=role, subjects=[subject]))
    async with session.post("/api/identity/users", json=new) as response:
        assert response.status == 201
    async with session.post("/api/identity/users", json=new) as response:
        assert response.status == 409
        assert "already" in (await response.json())["error"]
    for bad in ({"password": "short"}, {"email": "no address"}, {"groups": ["system:masters"]}):
        async with session.post("/api/identity/users", json={**new, "email": "b@example.com", **bad}) as response:
            assert response.status == 400, bad
    async with session.get("/api/identity/users") as response:
        assert [u["email"] for u in (await response.json())["users"]] == ["ada@example.com", USER]
    ada = await world.logged_in("ada@example.com", "correct horse battery")
    async with session.patch("/api/identity/users/ada@example.com", json={"password": "another one, long"}) as response:
        assert response.status == 204
    async with ada.get("/page", headers=JSON) as response:
        assert response.status == 401, "a new password ends sessions"
    async with session.delete("/api/identity/users/ada@example.com") as response:
        assert response.status == 204
    assert (await world.enter(world.browser(), "ada@example.com", "another one, long"))[0] == 401
    async with session.get("/api/identity/audit") as response:
        actions = [e["action"] for e in (await response.json())["entries"]]
    assert {"user created", "user changed", "user deleted", "login", "login failed"} <= set(actions)


async def test_ones_own_password(world):
    session = await world.logged_in()
    for body, status in (({"old": "wrong", "new": "something long"}, 403), ({"old": PASSWORD, "new": "short"}, 400)):
        async with session.put("/api/identity/me/password", json=body) as response:
            assert response.status == status
    async with session.put("/api/identity/me/password", json={"old": PASSWORD, "new": "something long"}) as response:
        assert response.status == 204
    async with session.get("/page", headers=JSON) as response:
        assert response.status == 401
    await world.logged_in(USER, "something long")


async def test_the_device_flow_lets_a_command_line_in(world):
    anyone = world.browser()
    asked = {"client_id": "headrace-cli", "scope": "openid email groups offline_access"}
    async with anyone.post("/dex/device/code", data=asked) as response:
        device = await response.json()
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": device["device_code"],
        "client_id": "headrace-cli",
    }
    async with anyone.post("/dex/token", data=form) as response:
        assert (response.status, (await response.json())["error"]) == (400, "authorization_pending")
    async with anyone.post("/dex/token", data=form) as response:
        assert (await response.json())["error"] == "slow_down"
    yes = {"user_code": device["user_code"], "answer": "yes"}
    async with anyone.post("/dex/device", data=yes, allow_redirects=False) as response:
        assert response.status == 302, "not without a session"
    person = await world.logged_in()
    async with person.post("/dex/device", data=yes, headers={"origin": "http://evil.example"}) as response:
        assert response.status == 403
    async with person.post("/dex/device", data={**yes, "user_code": "AAAA-BBBB"}) as response:
        assert response.status == 400
    async with person.post("/dex/device", data=yes) as response:
        assert "goes on by itself" in await response.text()
    world.clock.ahead += 6
    async with anyone.post("/dex/token", data=form) as response:
        tokens = await response.json()
        assert response.status == 200
    for token in (tokens["id_token"], tokens["access_token"]):
        async with anyone.get("/apis/v2beta1", headers=bearer(token)) as response:
            assert (await response.json())["user"] == USER
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": "headrace-cli"}
    async with anyone.post("/dex/token", data={**refresh, "client_id": "nobody"}) as response:
        assert response.status in {400, 401}
    async with anyone.post("/dex/token", data=refresh) as response:
        newer = await response.json()
        assert newer["refresh_token"] != tokens["refresh_token"]
    async with anyone.post("/dex/token", data=refresh) as response:
        assert (await response.json())["error"] == "invalid_grant", "a refresh token works once"
    await world.parts.people._directory.remove(USER)
    async with anyone.post("/dex/token", data={**refresh, "refresh_token": newer["refresh_token"]}) as response:
        assert response.status == 400
    async with anyone.get("/apis/v2beta1", headers=bearer(newer["id_token"])) as response:
        assert response.status == 401


async def test_a_client_of_dexs_configuration_gets_a_token_that_verifies(world):
    text = """
staticClients:
- {id: notebook, secret: hush, name: A notebook, redirectURIs: ["http://127.0.0.1:9999/cb"]}
"""
    await world.client.create(ConfigMap(metadata=ObjectMeta(name="dex", namespace="auth"), data={"config.yaml": text}))
    session = world.browser()
    asked = {
        "client_id": "notebook",
        "redirect_uri": "http://127.0.0.1:9999/cb",
        "response_type": "code",
        "scope": "openid email groups",
        "nonce": "n1",
        "state": "s1",
    }
    async with session.get("/dex/auth", params=asked) as response:
        form = str(response.url.relative())
        assert "A notebook" in await response.text()
    fields = {"login": USER, "password": PASSWORD}
    codes = []
    for _ in range(2):
        async with session.post(form, data=fields, allow_redirects=False) as response:
            back = response.headers["location"]
            assert back.startswith("http://127.0.0.1:9999/cb?")
            assert query_of(back)["state"] == "s1"
            codes.append(query_of(back)["code"])
    redeem = {"grant_type": "authorization_code", "redirect_uri": "http://127.0.0.1:9999/cb"}
    for secret in ("wrong", ""):
        form = {**redeem, "code": codes[0], "client_id": "notebook", "client_secret": secret}
        async with session.post("/dex/token", data=form) as response:
            assert response.status == 401
    async with session.post(
        "/dex/token", data={**redeem, "code": codes[1]}, headers=_basic("notebook", "hush")
    ) as response:
        tokens = await response.json()
        assert response.status == 200, tokens
    async with session.get("/dex/keys") as response:
        (key,) = (await response.json())["keys"]
    claims = jwt.decode(tokens["id_token"], jwt.PyJWK(key).key, ["RS256"], audience="notebook")
    assert (claims["email"], claims["nonce"], claims["email_verified"]) == (USER, "n1", True)
    async with session.get("/dex/.well-known/openid-configuration") as response:
        assert (await response.json())["issuer"] == claims["iss"]


def _basic(user: str, password: str):
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"authorization": f"Basic {pair}"}


async def test_a_token_of_another_issuer_is_nobodys(world):
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    claims = {"iss": f"{world.url}/dex", "sub": "x", "aud": "headrace-cli", "exp": 9999999999, "email": USER}
    async with world.browser().get("/dex/keys") as response:
        kid = (await response.json())["keys"][0]["kid"]
    for token in (
        jwt.encode(claims, key, "RS256", headers={"kid": kid}),
        jwt.encode(claims, "k" * 32, "HS256", headers={"kid": kid}),
        jwt.encode(claims, None, "none", headers={"kid": kid}),
    ):
        async with world.browser().get("/apis/v2beta1", headers=bearer(token)) as response:
            assert response.status == 401


async def test_keys_rotate_and_old_tokens_stay_good(world):
    person = await world.logged_in()
    anyone = world.browser()
    async with anyone.get("/dex/keys") as response:
        first = (await response.json())["keys"]
    world.clock.ahead += 30.5 * 86400
    async with anyone.get("/dex/keys") as response:
        second = (await response.json())["keys"]
    assert len(second) == 2
    assert second[0] == first[0]
    world.clock.ahead += 3 * 86400
    async with anyone.get("/dex/keys") as response:
        assert (await response.json())["keys"] == second[1:]
    assert person


async def test_what_has_ended_is_deleted(world):
    controller = CredentialController(world.client, world.clock)
    world.cluster.manager.add(controller, world.client)
    await world.cluster.manager.start()
    await world.logged_in()

    async def sessions():
        found = (await world.client.list(Secret, "auth", labels="headrace.dev/credential=session")).items
        return len(found)

    assert await sessions() == 1
    world.clock.ahead = 90000
    (secret,) = (await world.client.list(Secret, "auth", labels="headrace.dev/credential=session")).items
    await world.client.patch(Secret, secret.metadata.name, {"metadata": {"labels": {"touched": "yes"}}}, "auth")

    async def gone():
        return await sessions() == 0

    async with asyncio.timeout(20):
        while not await gone():
            await asyncio.sleep(0.01)


async def test_programs_ask_about_tokens_and_end_them(world):
    config = """
    staticClients:
    - {id: api, name: An API, secret: s3cret, redirectURIs: [http://api.example/callback]}
    """
    await world.client.create(
        ConfigMap(metadata=ObjectMeta(name="dex", namespace="auth"), data={"config.yaml": config})
    )
    issuer = world.parts.people._issuer()
    person = await world.parts.people._directory.find(USER)
    exchange = await issuer.exchange()
    access = exchange.sign(exchange.claims(person, "headrace-cli"))
    facts = world.parts.people._credentials.facts(person, 3600, client="headrace-cli", scope="openid offline_access")
    await world.parts.people._credentials.keep("refresh", "hrr_secret", facts)
    anyone, api = world.browser(), "api:s3cret"

    async def ask(path, client=api, **form):
        headers = {"authorization": f"Basic {base64.b64encode(client.encode()).decode()}"} if client else {}
        async with anyone.post(f"/dex/token/{path}", data=form, headers=headers) as response:
            return response.status, await response.json()

    status, said = await ask("introspect", token=access)
    assert (status, said["active"], said["client_id"], said["email"]) == (200, True, "headrace-cli", USER)
    status, said = await ask("introspect", token="hrr_secret")
    assert (said["active"], said["token_use"], said["scope"]) == (True, "refresh_token", "openid offline_access")
    assert await ask("introspect", token="nonsense") == (200, {"active": False})
    assert (await ask("introspect"))[0] == 400
    for client in (None, "api:wrong", "headrace-cli:"):
        assert (await ask("introspect", client, token=access))[0] in {400, 401}, client

    assert (await ask("revoke", token="hrr_secret"))[1]["error"] == "invalid_grant", "another client's"
    status, said = await ask("revoke", None, token=access, client_id="headrace-cli")
    assert said["error"] == "unsupported_token_type", "signed tokens end by themselves"
    assert (await ask("introspect", token="hrr_secret"))[1]["active"]
    for _ in range(2):
        assert (await ask("revoke", None, token="hrr_secret", client_id="headrace-cli"))[0] == 200
    assert await ask("introspect", token="hrr_secret") == (200, {"active": False})
    await world.parts.people._directory.remove(USER)
    assert await ask("introspect", token=access) == (200, {"active": False}), "nobody any more"

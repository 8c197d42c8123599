"""Logging in through an outside issuer: another platform's Dex."""

from __future__ import annotations

import socket

import pytest

from headrace.api.core import ConfigMap, Secret
from headrace.api.meta import ObjectMeta
from headrace.components.identity.api.connectors import person_from
from headrace.components.identity.policy import Refused
from headrace.components.identity.types import Connector, ConnectorConfig

from .conftest import PASSWORD, USER, running


@pytest.fixture
async def outside(tmp_path, signing_key):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path / "outside"
    home.mkdir()
    async with running(home, signing_key, port) as made:
        yield made


async def configure(world, text):
    body = ConfigMap(metadata=ObjectMeta(name="dex", namespace="auth"), data={"config.yaml": text})
    await world.client.create(body)


async def trust(world, outside, **config):
    """`world` lets people in whom `outside` knows."""
    back = f"{world.settings.gateway_url}/dex/callback"
    clients = f"staticClients:\n- {{id: inner, secret: hush, name: Inner, redirectURIs: ['{back}']}}\n"
    await configure(outside, clients)
    more = "".join(f"    {key}: {value}\n" for key, value in config.items())
    await configure(
        world,
        f"enablePasswordDB: false\nconnectors:\n- type: oidc\n  id: corp\n  name: Corporation\n  config:\n"
        f"    issuer: {outside.url}/dex\n    clientID: inner\n    clientSecret: $CORP\n{more}",
    )
    await world.client.create(
        Secret(metadata=ObjectMeta(name="dex-oidc-client", namespace="auth"), string_data={"CORP": "hush"})
    )


async def through(world, outside, session):
    """From a page of `world` to the outside form, and back to the callback's address here."""
    async with session.get(f"{world.url}/page?x=1") as response:
        assert str(response.url).startswith(f"{outside.url}/dex/auth/local/login"), "the only way is gone at once"
        form = str(response.url)
    async with session.post(form, data={"login": USER, "password": PASSWORD}, allow_redirects=False) as response:
        assert response.status == 303
        back = response.headers["location"]
    assert back.startswith(f"{world.settings.gateway_url}/dex/callback?")
    return world.url + back.removeprefix(world.settings.gateway_url)


async def test_a_person_of_an_outside_issuer_is_let_in(world, outside):
    await trust(world, outside)
    session = world.browser()
    back = await through(world, outside, session)
    async with session.get(back) as response:
        assert (response.status, response.url.path) == (200, "/page")
        assert (await response.json())["user"] == USER
    async with session.get(f"{world.url}/oauth2/userinfo") as response:
        assert (await response.json())["email"] == USER
    login = next(e for e in world.auditor.recent(5) if e.action == "login")
    assert login.detail == "corp"
    async with session.get(back) as response:
        assert response.status == 403, "what came back works once"


async def test_what_nobody_began_is_refused(world, outside):
    await trust(world, outside)
    for query in ("", "?state=x&code=y", "?error=access_denied&state=x"):
        async with world.browser().get(f"/dex/callback{query}", allow_redirects=False) as response:
            assert response.status == 403
            assert "set-cookie" not in response.headers


async def test_a_code_that_the_outside_did_not_give_is_refused(world, outside):
    await trust(world, outside)
    session = world.browser()
    back = await through(world, outside, session)
    async with session.get(back.replace("code=", "code=x")) as response:
        assert response.status == 403
        assert "invalid_grant" in await response.text() or "answers 400" in await response.text()


async def test_an_outside_issuer_that_does_not_answer_is_said_so(world):
    await configure(
        world,
        "connectors:\n- {type: oidc, id: corp, config: {issuer: 'http://127.0.0.1:1/dex', clientID: inner}}\n"
        "- {type: ldap, id: tree}\n",
    )
    for name, words in (("corp", "does not answer"), ("tree", "not supported"), ("none", "no way to log in")):
        query = "client_id=kubeflow-oidc-authservice&response_type=code&redirect_uri=/oauth2/callback"
        query += "&code_challenge=" + "x" * 43
        async with world.browser().get(f"/dex/auth/{name}?{query}", allow_redirects=False) as response:
            text = await response.text()
            assert response.status in {400, 404}
            assert words in text


def config(**more):
    return Connector(type="oidc", id="corp", config=ConnectorConfig(**more))


@pytest.mark.parametrize(
    ("more", "claims", "expected"),
    [
        ({}, {}, ("ada@example.com", ())),
        ({}, {"groups": ["a"]}, ("ada@example.com", ())),
        ({"insecure_enable_groups": True}, {"groups": ["a", "system:masters", "b,c"]}, ("ada@example.com", ("a",))),
        ({"claim_mapping": {"email": "upn"}}, {"upn": "X@Y.org"}, ("x@y.org", ())),
        ({"hosted_domains": ["example.com"]}, {}, ("ada@example.com", ())),
        ({"hosted_domains": ["other.org"]}, {}, "not of"),
        ({}, {"email_verified": False}, "not verified"),
        ({"insecure_skip_email_verified": True}, {"email_verified": False}, ("ada@example.com", ())),
        ({}, {"email": ""}, "no e-mail"),
        ({}, {"email": "system:serviceaccount:kubeflow:identity"}, "no e-mail"),
    ],
)
def test_whom_claims_are_about(more, claims, expected):
    given = {"sub": "1", "email": "Ada@Example.com", "email_verified": True, "name": "Ada", **claims}
    if isinstance(expected, str):
        with pytest.raises(Refused, match=expected):
            person_from(config(**more), given)
        return
    found = person_from(config(**more), given)
    assert (found.email, found.groups) == expected
    assert found.connector == "corp"

"""The login as a browser and as a script see it."""

from __future__ import annotations

import base64

import pytest
from yarl import URL

from headrace.api.core import ConfigMap
from headrace.api.meta import ObjectMeta
from headrace.components.identity.policy import object_name
from headrace.components.identity.types import Password

from .conftest import PASSWORD, USER


async def test_from_a_page_to_the_form_and_back(world):
    session = await world.logged_in()
    async with session.get("/page", headers={"accept": "text/html"}) as response:
        assert await response.json() == {"user": USER, "groups": ["system:authenticated"]}
    async with session.get("/oauth2/userinfo") as response:
        assert (await response.json())["email"] == USER
    async with session.get("/oauth2/auth") as response:
        assert response.status == 202


@pytest.mark.parametrize(
    ("email", "password"), [(USER, "wrong"), ("nobody@example.com", PASSWORD), ("", ""), ("x' OR 1=1", "y" * 5000)]
)
async def test_a_wrong_password_and_an_unknown_person_look_the_same(world, email, password):
    session = world.browser()
    status, path = await world.enter(session, email, password)
    assert status == 401
    assert path.startswith("/dex/auth/local/login?")
    async with session.get("/page", allow_redirects=False) as response:
        assert response.status == 302
    assert not [c for c in session.cookie_jar if c.key.startswith("oauth2_proxy_kubeflow") and "csrf" not in c.key]


async def test_after_five_wrong_passwords_there_is_a_wait_even_for_the_right_one(world):
    session = world.browser()
    for _ in range(5):
        assert (await world.enter(session, USER, "wrong"))[0] == 401
    status, _ = await world.enter(session, USER, PASSWORD)
    assert status == 429
    world.clock.ahead += 6
    assert (await world.enter(session, USER, PASSWORD))[0] == 200
    failed = [e for e in world.auditor.recent(50) if e.action == "login failed"]
    assert [(e.user, e.address) for e in failed] == [(USER, "127.0.0.1")] * 5


async def test_the_wait_of_one_person_is_not_anothers(world):
    await world.parts.people._directory.add("ada@example.com", "correct horse battery")
    session = world.browser()
    for _ in range(6):
        await world.enter(session, USER, "wrong")
    assert (await world.enter(session, "ada@example.com", "correct horse battery"))[0] == 200


async def test_the_form_takes_nothing_from_another_site(world):
    session = world.browser()
    async with session.get("/page") as response:
        form = str(response.url.relative())
    fields = {"login": USER, "password": PASSWORD}
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        async with session.post(form, data=fields, headers=headers, allow_redirects=False) as response:
            assert response.status == 403
            assert "set-cookie" not in response.headers


async def test_a_code_serves_only_the_browser_that_began(world):
    mine, other = world.browser(), world.browser()
    async with mine.get("/page") as response:
        form = str(response.url.relative())
    async with mine.post(form, data={"login": USER, "password": PASSWORD}, allow_redirects=False) as response:
        assert response.status == 303
        back = response.headers["location"]
    assert back.startswith("/oauth2/callback?code=")
    await other.get("/oauth2/start", allow_redirects=False)
    for session in (other, world.browser()):
        async with session.get(back, allow_redirects=False) as response:
            assert response.status == 403
    async with mine.get(back, allow_redirects=False) as response:
        assert response.status == 302, "the others could not use it up"
        assert response.headers["location"] == "/page?x=1" or response.headers["location"] == "/page"
    async with mine.get(back, allow_redirects=False) as response:
        assert response.status == 403, "a code works once"


async def test_a_login_ends_the_session_that_was_there(world):
    session = await world.logged_in()
    old = {c.key: c.value for c in session.cookie_jar}
    again = world.browser()
    async with again.get("/oauth2/start?rd=/page", cookies=old) as response:
        form = str(response.url.relative())
    async with again.post(form, data={"login": USER, "password": PASSWORD}, cookies=old) as response:
        assert response.status == 200
    async with world.browser().get("/page", cookies=old, allow_redirects=False) as response:
        assert response.status == 302


async def test_signing_out(world):
    session = await world.logged_in()
    async with session.get("/oauth2/sign_out?rd=/page", allow_redirects=False) as response:
        assert response.headers["location"] == "/page"
    async with session.get("/page", headers={"accept": "application/json"}) as response:
        assert response.status == 401


@pytest.mark.parametrize(
    "query",
    [
        "",
        "client_id=nobody&response_type=code&redirect_uri=/oauth2/callback",
        "client_id=kubeflow-oidc-authservice&response_type=code&redirect_uri=http://evil.example/",
        "client_id=kubeflow-oidc-authservice&response_type=code&redirect_uri=//evil.example/oauth2/callback",
        "client_id=headrace-cli&response_type=code&redirect_uri=http://evil.example/",
    ],
)
async def test_an_authorization_request_of_nobody_known_goes_nowhere(world, query):
    for path in ("/dex/auth", "/dex/auth/local", "/dex/auth/local/login"):
        async with world.browser().get(f"{path}?{query}", allow_redirects=False) as response:
            assert response.status == 400
            assert "location" not in response.headers


async def test_static_people_of_dexs_configuration(world):
    import bcrypt

    digest = bcrypt.hashpw(b"from the config map", bcrypt.gensalt(4)).decode()
    text = f"""
staticPasswords:
- email: Static@Example.com
  hash: {digest}
  username: static
  userID: "42"
  groups: [ds, "system:masters"]
storage: {{type: kubernetes}}
"""
    await world.client.create(ConfigMap(metadata=ObjectMeta(name="dex", namespace="auth"), data={"config.yaml": text}))
    session = await world.logged_in("static@example.com", "from the config map")
    async with session.get("/page") as response:
        said = await response.json()
    assert said == {"user": "static@example.com", "groups": ["ds", "system:authenticated"]}, "no system group"
    assert (await world.enter(world.browser(), "static@example.com", "other"))[0] == 401


async def test_a_bcrypt_hash_as_dex_keeps_it(world):
    import bcrypt

    digest = base64.b64encode(bcrypt.hashpw(b"by dex itself", bcrypt.gensalt(4))).decode()
    name = object_name("dex@example.com")
    body = Password(metadata=ObjectMeta(name=name, namespace="auth"), email="dex@example.com", hash=digest)
    await world.client.create(body)
    await world.logged_in("dex@example.com", "by dex itself")


def test_names_are_dexs_own():
    # dexidp/dex storage/kubernetes: idToName of this address
    assert object_name("Admin@Example.com") == object_name("admin@example.com")
    assert object_name("admin@example.com").startswith("mfsg22lo")


async def test_identity_headers_do_not_reach_an_open_page(world):
    async with world.browser().get("/oauth2/userinfo", headers={"kubeflow-userid": "admin@example.com"}) as response:
        assert response.status == 401


async def test_the_gateway_is_not_exposed_while_everybody_knows_the_password(world):
    assert "headrace user passwd user@example.com" in await world.parts.people.exposed()
    await world.parts.people._directory.change(USER, password="something of my own")
    assert await world.parts.people.exposed() == ""


@pytest.mark.parametrize(
    ("accept", "chosen", "tag", "words", "wrong"),
    [
        ("ko-KR,ko;q=0.9", "", "ko", "비밀번호", "주소 또는 비밀번호가 틀렸습니다."),
        ("zh-TW", "", "zh-TW", "密碼", "地址或密碼錯誤。"),
        ("ko", "zh-TW", "zh-TW", "密碼", "地址或密碼錯誤。"),
        ("ko", "nonsense", "ko", "비밀번호", "주소 또는 비밀번호가 틀렸습니다."),
        ("fr", "", "en", "Password", "The address or the password is wrong."),
    ],
)
async def test_the_login_speaks_the_readers_language(world, accept, chosen, tag, words, wrong):  # noqa: PLR0917
    headers = {"accept-language": accept}
    cookies = {"lang": chosen} if chosen else {}
    session = world.browser()
    session.cookie_jar.update_cookies(cookies, URL(world.url))
    async with session.get("/page?x=1", headers=headers) as response:
        form, text = str(response.url.relative()), await response.text()
    assert f'lang="{tag}"' in text
    assert f">{words}</label>" in text
    async with session.post(form, data={"login": USER, "password": "not this one"}, headers=headers) as response:
        assert wrong in await response.text()
    person = await world.logged_in()
    person.cookie_jar.update_cookies(cookies, URL(world.url))
    data = {"user_code": "AAAA-BBBB", "answer": "yes"}
    async with person.post("/dex/device", data=data, headers=headers) as response:
        assert (f'lang="{tag}"' in await response.text(), response.status) == (True, 400)

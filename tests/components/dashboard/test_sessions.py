"""Login by a link: what a session may, and what it never may."""

from __future__ import annotations

import os
import time

import pytest
from dashboard_world import HOME, SPEC

from headrace.machinery import logins


async def test_the_link_sets_a_cookie_that_ends_with_its_token(world):
    async with world.anonymous() as session:
        link = f"/login?token={await world.token(seconds=1200)}"
        async with session.get(link, allow_redirects=False) as response:
            assert response.status == 303
            assert response.headers["location"] == "/"
            assert response.headers["referrer-policy"] == "no-referrer"
            assert response.headers["cache-control"] == "no-store"
            cookie = response.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        assert 1150 <= int(cookie.partition("Max-Age=")[2].partition(";")[0]) <= 1200
        await world.page(session, "/")


async def test_a_code_logs_in_once(world):
    code = logins.offer(world.settings, await world.token())
    assert (world.settings.run / "logins" / code).stat().st_mode & 0o777 == 0o600
    async with world.anonymous() as session:
        async with session.head(f"/login?code={code}", allow_redirects=False) as response:
            assert response.status == 401
        async with session.get(f"/login?code={code}", allow_redirects=False) as response:
            assert response.status == 303
        await world.page(session, "/")
    async with world.anonymous() as session, session.get(f"/login?code={code}", allow_redirects=False) as response:
        assert response.status == 401
        assert "set-cookie" not in response.headers
    assert not list((world.settings.run / "logins").iterdir())


@pytest.mark.parametrize("code", ["x", "../../pki/sa.key", "a" * 32, "%2e%2e%2f"])
async def test_a_code_that_nobody_offered_logs_nobody_in(world, code):
    async with (
        world.anonymous() as session,
        session.get("/login", params={"code": code}, allow_redirects=False) as response,
    ):
        assert response.status == 401
        assert "set-cookie" not in response.headers


async def test_a_code_that_is_too_old_is_worth_nothing(world):
    code = logins.offer(world.settings, await world.token())
    past = time.time() - logins.SECONDS - 5
    os.utime(world.settings.run / "logins" / code, (past, past))
    assert logins.take(world.settings, code) == ""


@pytest.mark.parametrize(
    ("asked", "lands"),
    [
        ("/runs?state=failed", "/runs?state=failed"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example/", "/"),
        ("/%2fevil.example", "/"),
        ("/a%0d%0aset-cookie:x=y", "/"),
    ],
)
async def test_after_login_only_paths_of_this_platform_are_gone_to(world, asked, lands):
    async with world.anonymous() as session:
        query = {"token": await world.token(), "next": asked}
        async with session.get("/login", params=query, allow_redirects=False) as response:
            assert response.headers["location"] == lands


async def test_a_link_that_is_not_valid_logs_nobody_in(world):
    async with world.anonymous() as session:
        for token in ("nonsense", "", (await world.token())[:-3] + "abc"):
            async with session.get(f"/login?token={token}", allow_redirects=False) as response:
                assert response.status == 401
                assert "set-cookie" not in response.headers
                assert "headrace dashboard" in await response.text()


@pytest.mark.parametrize("path", ["/", "/runs", "/workloads", "/models", "/live?url=/", "/static/x/app.js", "/nowhere"])
async def test_without_a_session_a_browser_is_told_the_command_and_a_program_gets_401(world, path):
    async with world.anonymous() as session:
        async with session.get(path) as response:
            assert response.status == 401
            assert "headrace dashboard" in await response.text()
        async with session.get(path, headers={"accept": "application/json"}) as response:
            assert response.status == 401
            assert response.content_type == "application/json"
            assert "www-authenticate" in response.headers


async def test_a_session_ends_with_its_token(world):
    session = await world.browser()
    await world.page(session, "/runs")
    world.clock.ahead = 3700
    (cookie,) = session.cookie_jar
    async with world.anonymous() as later, later.get("/runs", cookies={cookie.key: cookie.value}) as response:
        assert response.status == 401
        assert "has ended" in await response.text()


async def test_a_session_reads_but_does_not_write(world):
    session = await world.browser()
    body = {"display_name": "r", "pipeline_spec": SPEC}
    async with session.get("/apis/v2beta1/runs", params={"namespace": HOME}) as response:
        assert response.status == 200
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        async with session.request(method, "/apis/v2beta1/runs", json=body) as response:
            assert response.status == 401, method
            assert "bearer token" in (await response.json())["error"]
    bearer = {"authorization": f"Bearer {await world.token()}"}
    async with session.post("/apis/v2beta1/runs", json=body, headers=bearer) as response:
        assert response.status == 200


async def test_a_session_does_not_reach_models(world):
    """Their answers come from somebody's program and would run as the dashboard."""
    session = await world.browser()
    async with session.get(f"/serving/{HOME}/digits/v1/models/digits") as response:
        assert response.status == 401
    bearer = {"authorization": f"Bearer {await world.token()}"}
    async with session.get(f"/serving/{HOME}/digits/v1/models/digits", headers=bearer) as response:
        assert response.status == 404  # there is none


async def test_logging_out_takes_the_cookie_away(world):
    session = await world.browser()
    async with session.get("/logout") as response:
        assert response.status == 200
        assert "Max-Age=0" in response.headers["set-cookie"]
    async with session.get("/") as response:
        assert response.status == 401


def test_a_session_is_not_passed_on_to_pods():
    from headrace.gateway.session import without_session

    assert without_session(b"a=1; headrace-session-8080=secret; b=2") == b"a=1; b=2"
    assert without_session(b"headrace-session-8080=secret") == b""
    assert without_session(b"a=1") == b"a=1"

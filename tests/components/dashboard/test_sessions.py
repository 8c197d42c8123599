"""A browser's session at the dashboard: how it begins and ends, and what it may."""

from __future__ import annotations

import os
import time

import pytest
from dashboard_world import HOME, OWNER, SPEC

from headrace.machinery import logins

PATHS = ("/", "/runs", "/workloads", "/models", "/live?url=/", "/static/x/app.js", "/nowhere")


async def test_a_code_logs_in_once(world):
    code = logins.offer(world.settings, OWNER)
    assert (world.settings.run / "logins" / code).stat().st_mode & 0o777 == 0o600
    async with world.anonymous() as session:
        async with session.head(f"/login?code={code}", allow_redirects=False) as response:
            assert response.status == 401
        async with session.get(f"/login?code={code}", allow_redirects=False) as response:
            assert response.status == 302
            assert response.headers["location"] == "/"
            assert response.headers["cache-control"] == "no-store"
            first, second = (dict.fromkeys(c.split("; ")) for c in response.headers.getall("set-cookie"))
        assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=86400"} <= set(first)
        assert next(iter(second)).startswith("XSRF-TOKEN=")
        assert "HttpOnly" not in second
        await world.page(session, "/")
    async with world.anonymous() as session, session.get(f"/login?code={code}", allow_redirects=False) as response:
        assert response.status == 401
        assert "set-cookie" not in response.headers
        assert "headrace dashboard" in await response.text()
    assert not list((world.settings.run / "logins").iterdir())


@pytest.mark.parametrize("code", ["x", "../../pki/sa.key", "a" * 32, "%2e%2e%2f"])
async def test_a_code_that_nobody_offered_logs_nobody_in(world, code):
    async with (
        world.anonymous() as session,
        session.get("/login", params={"code": code}, allow_redirects=False) as response,
    ):
        assert response.status == 401
        assert "set-cookie" not in response.headers


async def test_a_code_for_somebody_unknown_logs_nobody_in(world):
    code = logins.offer(world.settings, "gone@example.com")
    async with world.anonymous() as session, session.get(f"/login?code={code}", allow_redirects=False) as response:
        assert response.status == 401
        assert "set-cookie" not in response.headers


async def test_a_code_that_is_too_old_is_worth_nothing(world):
    code = logins.offer(world.settings, OWNER)
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
        ("/logout", "/"),
    ],
)
async def test_after_login_only_paths_of_this_platform_are_gone_to(world, asked, lands):
    async with world.anonymous() as session:
        query = {"code": logins.offer(world.settings, OWNER), "next": asked}
        async with session.get("/login", params=query, allow_redirects=False) as response:
            assert response.headers["location"] == lands


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_session_a_browser_is_sent_to_the_login_and_a_program_gets_401(world, path):
    async with world.anonymous() as session:
        async with session.get(path, allow_redirects=False) as response:
            assert response.status == 302
            assert response.headers["location"].startswith("/oauth2/start?rd=/")
        async with session.get(path, headers={"accept": "application/json"}) as response:
            assert response.status == 401
            assert response.content_type == "application/json"
            assert "www-authenticate" in response.headers


async def test_a_session_ends_after_a_day(world):
    session = await world.browser()
    await world.page(session, "/runs")
    world.clock.ahead = 86500
    cookies = {cookie.key: cookie.value for cookie in session.cookie_jar}
    async with world.anonymous() as later, later.get("/runs", cookies=cookies, allow_redirects=False) as response:
        assert response.status == 302


async def test_a_session_ends_with_its_person(world):
    from headrace.components.identity.policy import object_name
    from headrace.components.identity.types import Password

    session = await world.browser()
    await world.page(session, "/runs")
    await world.client.delete(Password, object_name(OWNER), "auth")
    async with session.get("/runs", allow_redirects=False) as response:
        assert response.status == 302


async def test_a_session_may_write_but_not_for_another_site(world):
    session = await world.browser()
    body = {"display_name": "r", "pipeline_spec": SPEC}
    xsrf = next(cookie.value for cookie in session.cookie_jar if cookie.key == "XSRF-TOKEN")
    foreign = (
        {"origin": "http://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": world.url},
        {"x-xsrf-token": "guessed"},
    )
    for headers in foreign:
        async with session.post("/apis/v2beta1/runs", json=body, headers=headers) as response:
            assert response.status == 403, headers
    for headers in ({}, {"origin": world.url}, {"sec-fetch-site": "same-origin", "x-xsrf-token": xsrf}):
        async with session.post("/apis/v2beta1/runs", json=body, headers=headers) as response:
            assert response.status == 200, headers
    async with session.get("/apis/v2beta1/runs", params={"namespace": HOME}) as response:
        assert len((await response.json())["runs"]) == 3


async def test_logging_out_ends_the_session_also_for_who_kept_the_cookie(world):
    session = await world.browser()
    kept = {cookie.key: cookie.value for cookie in session.cookie_jar}
    async with session.get("/logout") as response:
        assert response.status == 200
        assert all("Max-Age=0" in cookie for cookie in response.headers.getall("set-cookie"))
    async with world.anonymous() as later, later.get("/", cookies=kept, allow_redirects=False) as response:
        assert response.status == 302


def test_a_session_is_not_passed_on_to_pods():
    from headrace.machinery.people import without_session

    assert without_session(b"a=1; oauth2_proxy_kubeflow=secret; b=2") == b"a=1; b=2"
    assert without_session(b"oauth2_proxy_kubeflow_8081=secret") == b""
    assert without_session(b"a=1") == b"a=1"

"""One's own account, people, and the audit log, as browsers see them."""

from __future__ import annotations

import asyncio
import html
import re

import pytest
from dashboard_world import HOME, HOSTILE, OWNER, STRANGER, VIEWER, administer, live

from headrace.components.identity.policy import object_name
from headrace.components.identity.types import Password
from headrace.components.identity.ui import audit
from headrace.testing import eventually

JSON = {"accept": "application/json"}


async def post(session, path: str, status: int = 200, **form):
    async with session.post(path, data=form, headers=JSON) as response:
        said = await response.json()
        assert response.status == status, said
        return said


async def make_token(world, session, name: str = "ci", **form) -> tuple[str, str]:
    """The secret, and where it was shown."""
    said = await post(session, "/account", action="make", name=name, **({"days": "3", "scope": "read"} | form))
    page = await world.page(session, said["location"])
    found = re.search(r"hrp_[\w-]+", page)
    assert found is not None
    return found.group(), said["location"]


async def test_a_token_is_shown_once_where_it_was_made_and_works_until_it_is_ended(world):
    session, elsewhere = await world.browser(), await world.browser()
    assert "No entries" not in await world.page(session, "/account")
    secret, where = await make_token(world, session)
    assert secret not in await world.page(elsewhere, "/account")
    stranger = await world.browser(STRANGER)
    assert secret not in await world.page(stranger, where)
    headers = {"authorization": f"Bearer {secret}", "accept": "text/html"}
    anyone = world.anonymous()
    async with anyone.get("/account", headers=headers) as response:
        shown = await response.text()
        assert response.status == 200
        assert secret not in shown
    await post(session, where, action="seen")
    assert secret not in await world.page(session, where)
    names = re.findall(r'name="name" value="(token-\w+)"', await world.page(session, "/account"))
    assert len(names) == 1
    await post(stranger, "/account", 404, action="end", name=names[0])
    await post(session, "/account", action="end", name=names[0])
    async with anyone.get("/account", headers=headers) as response:
        assert response.status == 401


async def test_a_secret_is_forgotten_by_time(world):
    session = await world.browser()
    secret, where = await make_token(world, session)
    world.clock.ahead += 301
    assert secret not in await world.page(session, where)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"name": ""}, "needs a name"),
        ({"days": "0"}, "from 1 to 366"),
        ({"days": "many"}, "from 1 to 366"),
        ({"scope": "everything"}, "no scope"),
    ],
)
async def test_a_token_that_cannot_be_made(world, form, words):
    session = await world.browser()
    said = await post(session, "/account", 400, action="make", **({"name": "x", "days": "3", "scope": "read"} | form))
    assert words in said["error"]


async def test_a_session_is_ended_from_another_browser(world):
    first = await world.browser()
    page = await world.page(first, "/account")
    (own,) = re.findall(r'value="(session-\w+)"', page)
    second = await world.browser()
    await post(second, "/account", action="end", name=own)
    async with first.get("/account", headers={"accept": "application/json"}) as response:
        assert response.status == 401


async def test_a_token_that_reads_changes_nothing(world):
    session = await world.browser()
    secret, _where = await make_token(world, session)
    headers = {**JSON, "authorization": f"Bearer {secret}"}
    form = {"action": "make", "name": "more", "days": "3", "scope": "write"}
    async with world.anonymous().post("/account", data=form, headers=headers) as response:
        assert response.status == 403


async def test_people_are_managed_by_administrators_and_nobody_else(world):
    for email in (OWNER, VIEWER):
        session = await world.browser(email)
        page = await world.page(session, "/people", 403)
        assert "administrators" in page
        assert 'href="/people' not in page
        new = {"action": "add", "email": "eve@example.com", "password": "a long password"}
        await post(session, "/people", 403, **new)
        for action in ("password", "change", "remove"):
            form = {"action": action, "password": "a long password", "groups": "system"}
            await post(session, f"/people?person={STRANGER}", 403, **form)
    assert not (await world.client.get(Password, object_name(STRANGER), "auth")).groups

    await administer(world, OWNER)
    session = await world.browser()
    assert 'href="/people' in await world.page(session, "/")
    new = {"action": "add", "email": "Eve@Example.com", "password": "a long password", "groups": f"ml, {HOSTILE}"}
    await post(session, "/people", **new)
    page = await world.page(session, "/people?person=eve@example.com")
    assert HOSTILE not in page
    assert html.escape(HOSTILE) in page
    await post(session, "/people", 409, **new)
    await post(session, "/people?person=eve@example.com", action="change", username="Eve", groups="ml,web")
    eve = await world.client.get(Password, object_name("eve@example.com"), "auth")
    assert (eve.username, eve.groups) == ("Eve", ["ml", "web"])
    said = await post(session, "/people?person=eve@example.com", 400, action="password", password="short")
    assert "needs 8 or more" in said["error"]
    hers = await world.browser("eve@example.com")
    await post(session, "/people?person=eve@example.com", action="password", password="an other password")
    async with hers.get("/account", headers=JSON) as response:
        assert response.status == 401
    said = await post(session, f"/people?person={OWNER}", 400, action="remove")
    assert "yourself" in said["error"]
    await post(session, "/people?person=eve@example.com", action="remove")
    assert "eve@example.com" not in await world.page(session, "/people")


async def test_ones_own_password(world):
    await administer(world, OWNER)
    boss = await world.browser()
    await post(boss, f"/people?person={VIEWER}", action="password", password="the first password")
    session = await world.browser(VIEWER)
    form = {"action": "password", "old": "the first password", "new": "the second password"}
    said = await post(session, "/account", 400, **form, again="the third password")
    assert "differ" in said["error"]
    said = await post(session, "/account", 403, **{**form, "old": "a guess"}, again=form["new"])
    assert "old password is wrong" in said["error"]
    await post(session, "/account", **form, again=form["new"])
    async with session.get("/account", headers=JSON) as response:
        assert response.status == 401


async def test_the_audit_log_shows_ones_own_and_administrators_everything(world):
    await administer(world, OWNER)
    boss, viewer = await world.browser(), await world.browser(VIEWER)
    await make_token(world, viewer, "viewers-own")
    await make_token(world, boss, "secret-of-the-boss")
    await post(boss, "/people", 409, action="add", email=VIEWER, password="a long password")
    for path in ("/audit", f"/audit?user={OWNER}"):
        page = await world.page(viewer, path)
        assert "viewers-own" in page
        assert "secret-of-the-boss" not in page
    page = await world.page(boss, "/audit")
    assert "viewers-own" in page
    assert "secret-of-the-boss" in page
    assert "secret-of-the-boss" not in await world.page(boss, f"/audit?user={VIEWER}")
    refused = await world.page(boss, "/audit?outcome=refused")
    assert "409" in refused
    assert "viewers-own" not in refused
    found = await world.page(boss, "/audit?q=VIEWERS-own")
    assert "viewers-own" in found
    assert "secret-of-the-boss" not in found


async def test_the_account_in_another_language(world):
    session = await world.browser()
    async with session.get(f"/account?ns={HOME}", headers={"accept-language": "ko"}) as response:
        assert "내 계정" in await response.text()


@pytest.mark.parametrize("page", ["/audit", "/account"])
async def test_what_one_does_is_on_the_open_page_without_a_reload(world, page):
    session = await world.browser()
    async with live(session, page) as stream:
        await stream.next("page", 60)
        body = {"name": "just now", "scopes": ["read"], "days": 1}
        async with session.post("/api/identity/tokens", json=body) as response:
            assert response.status == 201
        while "token created" not in (await stream.next("page", 60))["html"]:
            pass


async def test_a_burst_is_one_reading_and_the_last_entry_is_not_lost(monkeypatch):
    monkeypatch.setattr(audit, "PAUSE_SECONDS", 0.05)
    listeners, woken = [], []
    end = audit.calmly(lambda callback: listeners.append(callback) or listeners.clear, lambda: woken.append(1))
    for _ in range(100):
        listeners[0]()
    assert len(woken) == 1
    await eventually(lambda: len(woken) == 2)
    await asyncio.sleep(0)
    end()
    assert listeners == []

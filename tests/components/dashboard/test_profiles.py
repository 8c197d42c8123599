"""Profiles in the dashboard: the list, members, quotas, the end of a profile, and the first login."""

from __future__ import annotations

import asyncio

import pytest
from dashboard_world import HOME, NOBODY, OTHER, OWNER, STRANGER, VIEWER, administer

from headrace.api.core import Namespace
from headrace.api.errors import NotFound
from headrace.api.limits import ResourceQuota
from headrace.api.rbac import RoleBinding
from headrace.components.profiles import policy, render
from headrace.components.profiles.types import Profile
from headrace.components.profiles.ui import quota

JSON = {"accept": "application/json"}
OURS = "ours"


async def until(condition, seconds: float = 20):
    """Waits until the coroutine function's answer is true."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):
            await asyncio.sleep(0.02)
        return found


async def post(session, path: str, status: int = 200, **form):
    async with session.post(path, data=form, headers=JSON) as response:
        said = await response.json()
        assert response.status == status, said
        return said


@pytest.fixture
async def ours(world):
    """A profile of OWNER's, ready and in every cache."""
    await world.client.create(render.default_profile(OURS, OWNER))

    async def ready() -> bool:
        found = (await world.site.cache(Profile)).get(OURS)
        return found is not None and any(c.type == "Successful" for c in found.status.conditions)

    await until(ready)
    return world


async def bound(world, name: str) -> bool:
    try:
        await world.client.get(RoleBinding, name, OURS)
    except NotFound:
        return False
    return True


async def test_the_list_shows_ones_own_and_administrators_all(ours):
    assert f'href="/profiles/{OURS}"' in await ours.page(await ours.browser(), "/profiles")
    for email in (STRANGER, VIEWER):
        session = await ours.browser(email)
        assert f'href="/profiles/{OURS}"' not in await ours.page(session, "/profiles")
        page = await ours.page(session, f"/profiles/{OURS}", 404)
        assert "or you are not in it" in page
        assert "or you are not in it" in await ours.page(session, "/profiles/nothing", 404)
    await administer(ours, STRANGER)
    session = await ours.browser(STRANGER)
    assert f'href="/profiles/{OURS}"' in await ours.page(session, "/profiles")
    assert OWNER in await ours.page(session, f"/profiles/{OURS}")


async def test_an_owner_adds_members_who_can_do_what_their_role_says(ours):
    owner, path = await ours.browser(), f"/profiles/{OURS}"
    guest = await ours.browser(VIEWER)
    await ours.page(guest, f"/workloads?ns={OURS}", 403)
    await post(owner, path, action="add", user=VIEWER, role="view")
    await ours.page(guest, f"/workloads?ns={OURS}")
    page = await ours.page(guest, path)
    assert OWNER in page
    assert 'value="remove"' not in page
    assert 'value="add"' not in page
    assert 'value="delete"' not in page
    await post(owner, path, 409, action="add", user=VIEWER, role="view")
    await post(owner, path, action="add", user=VIEWER, role="edit")
    edit, view = (policy.binding_name("User", VIEWER, "ClusterRole", role) for role in ("edit", "view"))
    assert (await bound(ours, edit), await bound(ours, view)) == (True, False)
    await post(owner, path, action="remove", user=VIEWER, role="edit")
    await ours.page(guest, f"/workloads?ns={OURS}", 403)
    await post(owner, path, 404, action="remove", user=VIEWER, role="edit")


@pytest.mark.parametrize("email", [STRANGER, VIEWER, NOBODY])
async def test_who_does_not_own_a_profile_changes_nothing(ours, email):
    owner = await ours.browser()
    if email == VIEWER:  # a contributor is no owner either
        await post(owner, f"/profiles/{OURS}", action="add", user=VIEWER, role="edit")
    session, path = await ours.browser(email), f"/profiles/{OURS}"
    await post(session, path, 403, action="add", user=email, role="edit")
    await post(session, path, 403, action="remove", user=OWNER, role="admin")
    await post(session, path, 403, action="quota", cpu="1")
    await post(session, path, 403, action="delete", typed=OURS)
    assert await bound(ours, "namespaceAdmin")
    assert not (await ours.client.get(Profile, OURS)).spec.resource_quota_spec.hard


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({"action": "add", "user": "ada", "role": "edit"}, 400, "e-mail address"),
        ({"action": "add", "user": "ada@example.com", "role": "admin"}, 400, "contributor or viewer"),
        ({"action": "remove", "user": OWNER, "role": "admin"}, 403, "has an owner"),
        ({"action": "quota", "cpu": "1"}, 403, "administrators"),
        ({"action": "delete", "typed": "something else"}, 400, "nothing has happened"),
    ],
)
async def test_what_even_the_owner_cannot_do(ours, form, status, words):
    said = await post(await ours.browser(), f"/profiles/{OURS}", status, **form)
    assert words in said["error"]
    assert (await ours.client.get(Profile, OURS)).metadata.deletion_timestamp is None
    assert await bound(ours, "namespaceAdmin")


async def test_an_administrator_sets_a_quota_and_everybody_reads_it_in_words(ours):
    await administer(ours, STRANGER)
    session, path = await ours.browser(STRANGER), f"/profiles/{OURS}"
    await post(session, path, 400, action="quota", cpu="many")
    await post(session, path, 400, action="quota", cpu="-1")
    await post(session, path, action="quota", cpu="4", memory="8Gi")

    async def there() -> bool:
        found = (await ours.site.cache(ResourceQuota)).get(f"{OURS}/{render.QUOTA}")
        return found is not None

    await until(there)
    owner = await ours.browser()
    for where in (path, f"/?ns={OURS}"):
        page = await ours.page(owner, where)
        assert "0 of 4 CPUs in use" in page
        assert "0 B of 8.0 GiB of memory in use" in page
    assert "CPUs in use" not in await ours.page(owner, f"/?ns={HOME}")
    await post(session, path, action="quota", memory="8Gi")
    assert (await ours.client.get(Profile, OURS)).spec.resource_quota_spec.hard == {"memory": "8Gi"}


async def test_a_profile_is_deleted_by_typing_its_name(ours):
    said = await post(await ours.browser(), f"/profiles/{OURS}", action="delete", typed=f" {OURS} ")
    assert said["location"] == "/profiles"

    async def gone() -> bool:
        try:
            return (await ours.client.get(Profile, OURS)).metadata.deletion_timestamp is not None
        except NotFound:
            return True

    assert await gone()


@pytest.mark.parametrize(
    ("name", "used", "hard", "words"),
    [
        ("cpu", "2", "4", "2 of 4 CPUs in use"),
        ("requests.cpu", "500m", "4", "0.5 of 4 CPUs in use"),
        ("limits.cpu", "0", "10", "0 of 10 CPUs in use (as limits)"),
        ("requests.memory", "1Gi", "8Gi", "1.0 GiB of 8.0 GiB of memory in use"),
        ("requests.nvidia.com/gpu", "1", "2", "1 of 2 GPUs in use"),
        ("pods", "3", "20", "3 of 20 pods"),
        ("requests.storage", "0", "50Gi", "0 B of 50.0 GiB of volumes in use"),
        ("count/jobs.batch", "1", "2", "1 of 2 jobs.batch"),
        ("cpu", "nonsense", "4", "0 of 4 CPUs in use"),
    ],
)
def test_quotas_in_words(name, used, hard, words):
    assert quota.words(name, used, hard) == words


# The first login


@pytest.mark.parametrize(
    ("address", "taken", "name"),
    [
        ("ada@example.com", (), "ada"),
        ("ada@example.com", ("ada",), "ada-example-com"),
        ("ada@example.com", ("ada", "ada-example-com"), "ada-example-com-2"),
        ("Ada.Love_Lace+x@example.com", (), "ada-love-lace-x"),
        ("kube-system@example.com", (), "profile"),
        ("+@x.y", (), "x-y"),
        ("--", ("profile",), "profile-2"),
    ],
)
def test_names_that_are_suggested(address, taken, name):
    assert policy.suggest(address, taken) == name


@pytest.mark.parametrize("local", ["a" * 64, "a" * 58 + "-b", "x" * 200])
def test_a_suggested_name_is_never_too_long(local):
    found = policy.suggest(f"{local}@example.com", ())
    assert policy.checked_name(found) == found


async def test_who_has_no_namespace_makes_one_and_then_is_at_home(world):
    session = await world.browser(NOBODY)
    page = await world.page(session, "/")
    assert 'value="nobody"' in page
    said = await post(session, "/", action="make", name="nobodys-own")
    assert said["location"] == "/?ns=nobodys-own"
    page = await world.page(session, said["location"])
    assert "This machine" in page
    await world.page(session, "/workloads?ns=nobodys-own")
    found = await world.client.get(Namespace, "nobodys-own")
    assert found.metadata.annotations["owner"] == NOBODY


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        (HOME, 409, "already"),
        ("kube-mine", 400, "kept for the platform"),
        ("Ada", 400, "lower-case"),
        ("a" * 64, 400, "63"),
        ("", 400, "not a name"),
    ],
)
async def test_names_that_cannot_be_taken(world, name, status, words):
    session = await world.browser(NOBODY)
    said = await post(session, "/welcome", status, action="make", name=name)
    assert words in said["error"]
    assert not [p for p in (await world.client.list(Profile)).items if p.spec.owner.name == NOBODY]


@pytest.mark.parametrize("email", [OWNER, VIEWER])
async def test_who_has_or_sees_a_namespace_is_not_greeted(world, email):
    assert "This machine" in await world.page(await world.browser(email), "/")


async def test_a_service_account_is_not_greeted(world):
    headers = {"authorization": f"Bearer {await world.token('nobody', OTHER)}", "accept": "text/html"}
    async with world.anonymous().get("/", headers=headers) as response:
        assert "This machine" in await response.text()

"""What the command palette finds, and for whom."""

from __future__ import annotations

import pytest
from dashboard_world import HOME, HOSTILE, NOBODY, OTHER, OWNER, STRANGER, VIEWER

from headrace.api import _wire
from headrace.components.serving.types import InferenceService
from headrace.machinery.offers import Hit
from headrace.machinery.pages import PageError

JSON = {"accept": "application/json"}


async def find(session, text: str, namespace: str = HOME) -> list[tuple[str, str]]:
    """Kinds and titles."""
    async with session.get("/find", params={"q": text, "ns": namespace}) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        return [(hit["kind"], hit["title"]) for hit in (await response.json())["hits"]]


@pytest.fixture
async def filled(world):
    """Something of every kind is called zebra in HOME."""
    await world.record_run(display_name="zebra run")
    await world.pod("zebra-pod")
    body = {
        "metadata": {"name": "zebra-model", "namespace": HOME},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://b/m"}}},
    }
    await world.client.create(_wire.convert(InferenceService, body))
    return world


ALL = {("Run", "zebra run"), ("Pod", "zebra-pod"), ("Model", "zebra-model")}


@pytest.mark.parametrize(
    ("email", "namespace", "found"),
    [(OWNER, HOME, ALL), (VIEWER, HOME, ALL), (STRANGER, HOME, set()), (NOBODY, HOME, set()), (OWNER, OTHER, set())],
)
async def test_a_search_finds_what_the_person_may_see(filled, email, namespace, found):
    session = await filled.browser(email)
    await filled.page(session, f"/workloads?ns={HOME}", 200 if email in {OWNER, VIEWER} else 403)
    assert set(await find(session, "zebra", namespace)) == found


async def test_who_has_not_logged_in_finds_nothing(world):
    async with world.anonymous() as session, session.get("/find?q=a", headers=JSON) as response:
        assert response.status == 401


async def test_words_in_any_order_pages_and_actions(filled):
    session = await filled.browser()
    assert (await find(session, "run zebra"))[0] == ("Run", "zebra run")
    assert ("Page", "Workloads") in await find(session, "workl")
    assert ("Do", "Log out") in await find(session, "log out")
    assert ("Do", "Run a pipeline") in await find(session, "run a pip")
    assert ("Do", "Your account") in await find(session, "account")
    assert ("Page", "People") not in await find(session, "people")
    assert ("Namespace", HOME) in await find(session, "kubeflow-user")
    assert ("Namespace", OTHER) not in await find(session, OTHER)
    assert await find(session, "no such thing at all") == []
    first = await find(session, "")
    assert ("Page", "Home") in first
    assert ("Run", "zebra run") in first


async def test_a_finder_that_fails_leaves_its_place_to_the_others(filled):
    async def broken(_request, _text):
        raise RuntimeError("no")

    async def refusing(_request, _text):
        raise PageError(503, "Starting", "Not yet.")

    async def hostile(_request, _text):
        return [Hit("Run", f"zebra {HOSTILE}", "/runs/x")]

    filled.site.finders += [broken, refusing, hostile]
    found = await find(await filled.browser(), "zebra")
    assert set(found) == {*ALL, ("Run", f"zebra {HOSTILE}")}


async def test_the_bar_has_a_button_for_it(world):
    page = await world.page(await world.browser(), "/")
    assert "data-palette" in page
    assert "palette.js" in page

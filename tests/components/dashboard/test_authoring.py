"""Pipelines by hand: upload with a look, versions, the form of a run; and who may not."""

from __future__ import annotations

import copy
import json
from typing import Any

import aiohttp
import pytest
import yaml
from dashboard_world import HOME, HOSTILE, NOBODY, OTHER, OWNER, SPEC, STRANGER, VIEWER
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from headrace.api.identity import AUTHENTICATED, User
from headrace.components.pipelines.api.fetch import Packages
from headrace.components.pipelines.ui.drafts import Drafts
from headrace.components.pipelines.ui.upload import UploadPage
from headrace.machinery.component import Context
from headrace.machinery.pages import Form, PageRequest
from headrace.machinery.serve import Server

JSON = {"accept": "application/json"}
TYPED = copy.deepcopy(SPEC)
TYPED["root"]["inputDefinitions"] = {
    "parameters": {
        "who": {"parameterType": "STRING", "defaultValue": "world", "description": "Whom to greet."},
        "times": {"parameterType": "NUMBER_INTEGER"},
        "rate": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.5},
        "loud": {"parameterType": "BOOLEAN", "defaultValue": True},
        "extra": {"parameterType": "LIST", "isOptional": True},
        "options": {"parameterType": "STRUCT", "defaultValue": {"a": 1}},
    }
}


async def post(session, path: str, status: int = 200, file: bytes | None = None, **fields: str) -> dict[str, Any]:
    form = aiohttp.FormData(fields)
    if file is not None:
        form.add_field("file", file, filename="greet.yaml")
    async with session.post(path, data=form, headers=JSON) as response:
        found = await response.json()
        assert response.status == status, found
        return found


async def save(session, spec: dict[str, Any] = SPEC, name: str = "greet", query: str = f"?ns={HOME}") -> str:
    """Upload by hand; where the browser is sent then."""
    path = f"/pipelines/new{query}"
    found = await post(session, path, file=yaml.safe_dump(spec).encode(), action="look")
    draft = found["location"].partition("draft=")[2].partition("&")[0]
    found = await post(session, found["location"], action="save", draft=draft, name=name, description="Says it.")
    return found["location"]


async def api(world, path: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {await world.token()}"}
    async with world.anonymous() as session, session.get(f"/apis/v2beta1{path}", headers=headers) as response:
        return await response.json()


async def test_a_person_uploads_looks_and_saves(world):
    session = await world.browser()
    assert "/pipelines/new" in await world.page(session, "/pipelines")
    path = f"/pipelines/new?ns={HOME}"
    found = await post(session, path, file=json.dumps(SPEC).encode(), action="look")
    text = await world.page(session, found["location"])
    assert ">say<" in text
    assert 'value="greet"' in text
    assert (await api(world, f"/pipelines?namespace={HOME}")).get("pipelines") is None, "saved before it was asked"
    draft = found["location"].partition("draft=")[2].partition("&")[0]
    await post(session, found["location"], action="save", draft=draft, name="greeter", description="Says it.")
    text = await world.page(session, "/pipelines")
    assert "greeter" in text
    assert "Says it." in text
    ((pipeline,),) = [(await api(world, f"/pipelines?namespace={HOME}"))["pipelines"]]
    assert (pipeline["display_name"], pipeline["namespace"]) == ("greeter", HOME)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"root: [", "not valid YAML"),
        (b"just: something", "does not parse"),
        (json.dumps({**SPEC, "components": {}}).encode(), "comp-say"),
    ],
)
async def test_what_cannot_run_is_refused_before_it_is_saved(world, content, words):
    found = await post(await world.browser(), "/pipelines/new", 422, content, action="look")
    assert words in found["error"]


async def test_an_address_is_read_for_who_may_make_pipelines_and_only_if_it_is_public(world):
    path = f"/pipelines/new?ns={HOME}"
    session = await world.browser()
    assert 'name="url"' in await world.page(session, path)
    found = await post(session, path, 422, action="look", url=f"{world.url}/pipelines")
    assert "not a public address" in found["error"]
    for email in (VIEWER, STRANGER, NOBODY):
        found = await post(await world.browser(email), path, 403, action="look", url="https://example.com/x.yaml")
        assert "may not create pipelines" in found["error"]


async def test_what_was_read_from_an_address_is_what_is_saved(world, tmp_path):
    """The page itself, with loopback as public, so that there is something to read."""
    served = Server(
        Starlette(routes=[Route("/a/greet.yaml", lambda _: Response(yaml.safe_dump(SPEC)))]), "127.0.0.1", 0
    )
    await served.start()
    try:
        context = Context("pipelines", world.settings, world.client, world.clock, None, None)
        page = UploadPage(context, None, Drafts(), Packages(None, lambda _: True))
        user = User(OWNER, groups=(AUTHENTICATED,))
        request = PageRequest(user, "/pipelines/new", HOME, world.clock.now())
        url = f"http://127.0.0.1:{served.address[1]}/a/greet.yaml"
        done = await page.look(request, Form({"url": (url,)}))
        draft = page._drafts.get(OWNER, done.location.partition("draft=")[2])
        assert (draft.spec.name, draft.file.name, draft.url) == ("greet", "greet.yaml", url)
    finally:
        await served.stop()


async def test_names_descriptions_and_tags_are_edited(world):
    session = await world.browser()
    ident = (await save(session)).partition("/pipelines/")[2].partition("?")[0]
    page = f"/pipelines/{ident}"
    (version,) = (await api(world, f"{page}/versions"))["pipeline_versions"]
    assert 'value="edit-version"' in await world.page(session, page)
    given = {"name": "greeter", "description": "Now\r\nlonger.", "tags": "team=vision\r\n\r\nstage = trial"}
    await post(session, page, action="edit", **given)
    found = await api(world, page)
    assert (found["display_name"], found["description"]) == ("greeter", "Now\nlonger.")
    assert found["tags"] == {"team": "vision", "stage": "trial"}
    ident = version["pipeline_version_id"]
    await post(session, page, action="edit-version", version=ident, name="first", description="", tags="a=b")
    found = await api(world, f"{page}/versions/{ident}")
    assert (found["display_name"], found["tags"]) == ("first", {"a": "b"})
    text = await world.page(session, page)
    for words in ("team=vision", "a=b", "greeter", "first"):
        assert words in text
    assert "is no tag" in (await post(session, page, 422, action="edit", name="x", tags="nonsense"))["error"]
    viewer = await world.browser(VIEWER)
    assert 'value="edit"' not in await world.page(viewer, page)
    await post(viewer, page, 403, action="edit", name="mine")


async def test_an_upload_is_its_persons_alone(world):
    found = await post(await world.browser(), "/pipelines/new", file=json.dumps(SPEC).encode(), action="look")
    draft = found["location"].partition("draft=")[2]
    other = await world.browser(STRANGER)
    assert "not kept any more" in await world.page(other, f"/pipelines/new?ns={OTHER}&draft={draft}")
    await post(other, f"/pipelines/new?ns={OTHER}", 410, action="save", draft=draft)


async def test_versions_and_what_differs(world):
    session = await world.browser()
    first = await save(session)
    ident = first.partition("/pipelines/")[2].partition("?")[0]
    changed = copy.deepcopy(SPEC)
    changed["deploymentSpec"]["executors"]["exec-say"]["container"]["image"] = "python:3.12"
    await save(session, changed, "second", f"?ns={HOME}&pipeline={ident}")
    text = await world.page(session, f"/pipelines/{ident}?tab=changes")
    assert "-        image: python:3.11" in text
    assert "+        image: python:3.12" in text
    assert "schemaVersion" in await world.page(session, f"/pipelines/{ident}?tab=yaml")
    versions = (await api(world, f"/pipelines/{ident}/versions"))["pipeline_versions"]
    assert {v["name"] for v in versions} == {"greet", "second"}
    old = next(v for v in versions if v["name"] == "greet")["pipeline_version_id"]
    await post(session, f"/pipelines/{ident}", action="delete-version", version=old)
    assert len((await api(world, f"/pipelines/{ident}/versions"))["pipeline_versions"]) == 1
    await post(session, f"/pipelines/{ident}", action="delete")
    await world.page(session, f"/pipelines/{ident}", 404)


async def test_the_form_of_a_run_and_its_clone(world):
    session = await world.browser()
    ident = (await save(session, TYPED)).partition("/pipelines/")[2].partition("?")[0]
    text = await world.page(session, f"/pipelines/{ident}/run")
    for part in ("Whom to greet.", 'value="world"', 'name="p.times"', 'type="number"', "list, as JSON", "0.5"):
        assert part in text
    fields = {
        "p.who": "you",
        "p.times": "3",
        "p.rate": "1",
        "p.loud": "false",
        "p.extra": "",
        "p.options": '{"b": [2]}',
    }
    path = f"/runs/new?pipeline={ident}"
    assert "p.who" in await world.page(session, path)
    found = await post(session, path, action="start", name="by hand", **fields)
    run = await api(world, found["location"])
    wanted = {"who": "you", "times": 3, "rate": 1, "loud": False, "options": {"b": [2]}}
    assert run["runtime_config"]["parameters"] == wanted
    assert run["display_name"] == "by hand"
    assert run["pipeline_version_reference"]["pipeline_id"] == ident
    text = await world.page(session, f"/runs/new?clone={run['run_id']}")
    assert "Clone of by hand" in text
    assert 'value="you"' in text
    found = await post(session, f"/runs/new?clone={run['run_id']}", action="start", **(fields | {"p.times": "4"}))
    assert (await api(world, found["location"]))["runtime_config"]["parameters"]["times"] == 4


async def test_a_run_without_a_pipeline_is_cloned_too_and_without_its_cache(world):
    session = await world.browser()
    run = await world.start_run("inline")
    found = await post(session, f"/runs/new?clone={run}", action="start", name="again", cache="off")
    again = await api(world, found["location"])
    assert again["display_name"] == "again"
    task = again["pipeline_spec"]["root"]["dag"]["tasks"]["say"]
    assert task["cachingOptions"] == {}


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"p.who": "you"}, 400, "needs a value for times"),
        ({"p.times": "many"}, 422, "times must be a whole number"),
        ({"p.times": "1.5"}, 400, "must be a whole number"),
        ({"p.times": "1", "p.options": "[1]"}, 400, "must be an object"),
        ({"p.times": "1", "experiment": "none"}, 404, "Experiment"),
    ],
)
async def test_wrong_parameters_are_said_in_words(world, fields, status, words):
    session = await world.browser()
    ident = (await save(session, TYPED)).partition("/pipelines/")[2].partition("?")[0]
    found = await post(session, f"/pipelines/{ident}/run", status, action="start", **fields)
    assert words in found["error"]


async def test_a_viewer_sees_and_changes_nothing(world):
    location = await save(await world.browser())
    ident = location.partition("/pipelines/")[2].partition("?")[0]
    viewer = await world.browser(VIEWER)
    assert "greet" in await world.page(viewer, f"/pipelines?ns={HOME}")
    await world.page(viewer, f"/pipelines/{ident}?ns={HOME}")
    for path, fields in (
        (f"/pipelines/{ident}?ns={HOME}", {"action": "delete"}),
        (f"/pipelines/{ident}?ns={HOME}", {"action": "delete-version", "version": "x"}),
        (f"/pipelines/{ident}/run?ns={HOME}", {"action": "start"}),
    ):
        assert "may not" in (await post(viewer, path, 403, **fields))["error"]
    draft = (await post(viewer, f"/pipelines/new?ns={HOME}", file=json.dumps(SPEC).encode(), action="look"))["location"]
    ident = draft.partition("draft=")[2]
    await post(viewer, f"/pipelines/new?ns={HOME}", 403, action="save", draft=ident, name="theirs")


@pytest.mark.parametrize("person", [STRANGER, NOBODY])
async def test_others_see_nothing(world, person):
    ident = (await save(await world.browser())).partition("/pipelines/")[2].partition("?")[0]
    run = await world.start_run()
    other = await world.browser(person)
    for path in (
        f"/pipelines?ns={HOME}",
        f"/pipelines/{ident}",
        f"/pipelines/{ident}/run",
        f"/runs/new?clone={run}",
        f"/pipelines/new?ns={HOME}&pipeline={ident}",
    ):
        await world.page(other, path, 403)
    await post(other, f"/runs/new?clone={run}", 403, action="start")


async def test_ids_of_an_address_stay_in_their_place(world):
    session = await world.browser()
    for path in ("/pipelines/a:b", "/runs/new?clone=../x", "/runs/new?pipeline=x%2Fy", "/pipelines/nothing"):
        await world.page(session, path, 404)


async def test_hostile_names_are_only_text(world):
    session = await world.browser(OWNER)
    spec = copy.deepcopy(SPEC)
    spec["root"]["dag"]["tasks"]["say"]["taskInfo"]["name"] = HOSTILE
    spec["root"]["inputDefinitions"] = {
        "parameters": {HOSTILE: {"parameterType": "STRING", "defaultValue": HOSTILE, "description": HOSTILE}}
    }
    ident = (await save(session, spec, HOSTILE)).partition("/pipelines/")[2].partition("?")[0]
    for path in ("/pipelines", f"/pipelines/{ident}", f"/pipelines/{ident}?tab=yaml", f"/pipelines/{ident}/run"):
        text = await world.page(session, path)
        assert HOSTILE not in text
        assert "alert(1)" in text

"""What pages' forms post: to whom it answers how, and what is refused; and the reader's language."""

from __future__ import annotations

import aiohttp
import pytest
from dashboard_world import HOME, OWNER, VIEWER

from headrace.components.dashboard.api import forms
from headrace.machinery.html import el
from headrace.machinery.pages import Done, Form, Fragment, Page, PageError, PageRequest, authorize
from headrace.machinery.words import LANGUAGES, _, catalogue, preferred, speaking

JSON = {"accept": "application/json"}


@pytest.fixture
def box(world):
    """A page with a box in which something can be put by whoever may create pods."""
    found: list[tuple[str, Form]] = []

    async def render(_request: PageRequest) -> Fragment:
        return Fragment("Box", el("h1", "A box"))

    async def put(request: PageRequest, form: Form) -> Done:
        await authorize(world.client, request, "create", "pods")
        if form.text("what") == "bad":
            raise PageError(422, "That does not fit", "It is too big for the box.")
        found.append((request.user.name, form))
        return Done(form.text("to"), "It is in the box.")

    world.site.pages.append(Page("/box", "Box", render, lambda _r, _w: lambda: None, actions={"put": put}))
    return found


async def test_a_script_gets_json_and_a_plain_form_a_redirection(world, box):
    session = await world.browser()
    form = {"action": "put", "what": "ball", "to": "/runs"}
    async with session.post(f"/box?ns={HOME}", data=form, headers=JSON) as response:
        assert response.status == 200
        assert await response.json() == {"location": "/runs", "message": "It is in the box."}
    async with session.post("/box?x=1", data={**form, "to": ""}, allow_redirects=False) as response:
        assert (response.status, response.headers["location"]) == (303, "/box?x=1")
    assert [user for user, _form in box] == [OWNER, OWNER]
    assert box[0][1].text("what") == "ball"


async def test_files_and_several_values(world, box):
    session = await world.browser()
    form = aiohttp.FormData({"action": "put"})
    form.add_field("pick", "a")
    form.add_field("pick", "b")
    form.add_field("file", b"\x00\x01", filename="../x.yaml")
    form.add_field("none", b"", filename="")
    async with session.post("/box", data=form, headers=JSON) as response:
        assert response.status == 200
    ((_user, sent),) = box
    assert sent.all("pick") == ("a", "b")
    assert sent.files["file"].content == b"\x00\x01"
    assert "none" not in sent.files
    assert (sent.text("missing"), sent.all("missing")) == ("", ())


@pytest.mark.parametrize(
    ("path", "form", "status", "words"),
    [
        ("/box", {"action": "put", "what": "bad"}, 422, "too big"),
        ("/box", {"action": "take"}, 404, "no such action"),
        ("/box", {}, 404, "no such action"),
        ("/runs/nothing", {"action": "put"}, 404, "no such action"),
        ("/box?ns=kube-system", {"action": "put"}, 403, "may not create pods in namespace kube-system"),
    ],
)
async def test_what_cannot_be_done_is_said_in_both_ways(world, box, path, form, status, words):  # noqa: PLR0917
    session = await world.browser()
    async with session.post(path, data=form, headers=JSON) as response:
        assert response.status == status
        assert words in (await response.json())["error"]
    async with session.post(path, data=form) as response:
        assert response.status == status
        assert words in await response.text()
    assert box == []


async def test_a_viewer_presses_in_vain(world, box):
    async with (await world.browser(VIEWER)).post("/box", data={"action": "put"}, headers=JSON) as response:
        assert response.status == 403
    async with world.anonymous() as session, session.post("/box", data={"action": "put"}) as response:
        assert response.status == 401
    assert box == []


async def test_another_site_presses_in_vain(world, box):
    session = await world.browser()
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"x-xsrf-token": "guess"}):
        async with session.post("/box", data={"action": "put"}, headers=headers) as response:
            assert response.status == 403
    assert box == []


async def test_too_much_is_refused(world, box, monkeypatch):
    monkeypatch.setattr(forms, "MAX_BYTES", 1000)
    session = await world.browser()
    form = aiohttp.FormData({"action": "put"})
    form.add_field("file", b"x" * 5000, filename="x")
    async with session.post("/box", data=form, headers=JSON) as response:
        assert response.status == 413
    assert box == []


async def test_what_is_no_form_is_refused(world, box):
    session = await world.browser()
    headers = {**JSON, "content-type": "multipart/form-data; boundary=x"}
    async with session.post("/box", data=b"nonsense", headers=headers) as response:
        assert response.status in {400, 404}
    assert box == []


# Languages


@pytest.mark.parametrize(
    ("accept", "tag"),
    [
        ("", "en"),
        ("ko", "ko"),
        ("ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ("zh-TW", "zh-TW"),
        ("zh-Hant;q=0.5,en;q=0.1", "zh-TW"),
        ("de,fr;q=0.9", "en"),
        ("en;q=0.3,ko;q=0.9", "ko"),
        ("ko;q=0,en", "en"),
        ("ko;q=x", "en"),
        (",;,", "en"),
    ],
)
def test_the_browsers_language(accept, tag):
    assert preferred(accept) == tag


async def test_a_page_speaks_the_language_that_was_chosen(world):
    session = await world.browser()
    async with session.get("/runs", headers={"accept-language": "ko"}) as response:
        text = await response.text()
    assert '<html lang="ko">' in text
    assert "실행" in text
    async with session.get("/runs", headers={"accept-language": "ko"}, cookies={"lang": "zh-TW"}) as response:
        assert "執行" in await response.text()
    async with session.get("/runs", cookies={"lang": "xx"}) as response:
        assert '<html lang="en">' in await response.text()


@pytest.mark.parametrize("tag", [tag for tag in LANGUAGES if tag != "en"])
def test_a_catalogue_keeps_the_placeholders(tag):
    import string

    def names(text: str) -> set[str]:
        return {field for _literal, field, _spec, _conversion in string.Formatter().parse(text) if field is not None}

    found = catalogue(tag)
    assert found
    for text, translated in found.items():
        assert names(text) == names(translated), text


def test_values_and_what_has_no_translation():
    with speaking("ko"):
        assert _("Runs") == "실행"
        assert _("no such {thing}", thing="word") == "no such word"
    assert _("Runs") == "Runs"
    with speaking("tlh"):
        assert _("Runs") == "Runs"

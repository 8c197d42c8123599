"""Pages on real data: what they say, to whom, and that nothing in them runs."""

from __future__ import annotations

import re

import pytest
from dashboard_world import HOME, HOSTILE, NOBODY, STRANGER, VIEWER, event, live

from headrace.api import _wire
from headrace.components.pipelines.store.models import NewArtifact, Report, RuntimeState, TaskRow, TaskType, TaskUpdate
from headrace.components.serving.types import InferenceService
from headrace.testing import eventually

PAGES = ("/", "/runs", "/models", "/workloads")


async def fill(world, name: str = "work") -> str:
    """A failed run, a pod in trouble and a model, all of this name."""
    await world.record_run(display_name=name, pipeline_name=name)
    root = TaskRow("t0", "run-1", "root", "root", TaskType.ROOT, state=RuntimeState.RUNNING)
    step = TaskRow("t1", "run-1", "root/say", "say", TaskType.RUNTIME, "t0", display_name=name, pod_name="say-0")
    step.state = RuntimeState.RUNNING
    step.inputs.parameters = {name: {name: [name]}}
    await world.runs.create_tasks("run-1", [root, step])
    made = NewArtifact("metrics", name, "system.Metrics", f"minio://{name}", {name: 0.5, "text": name})
    report = Report(0, RuntimeState.FAILED, {"Output": name}, [made], exit_code=1, error_message=f"It broke: {name}")
    await world.runs.record_outputs("t1", report)
    await world.runs.update_tasks(
        [TaskUpdate("t1", {"state": RuntimeState.FAILED, "error_message": f"It broke: {name}"})]
    )
    await world.runs.finish_run("run-1", RuntimeState.FAILED, error_message=f"Task: {name}")
    return "run-1"


def inert(text: str) -> None:
    """No markup of a document that was made of hostile names can run or style anything."""
    assert HOSTILE not in text
    assert "alert(1)" in text, "the name is not on the page, so this proves nothing"
    assert not re.search(r"<script(?![^>]*\bsrc=\"/static/)", text)
    tags = re.findall(r"<[a-zA-Z][^>]*>", text)
    assert not [tag for tag in tags if re.search(r"\s(on\w+|style)\s*=", re.sub(r'"[^"]*"', '""', tag))]
    assert "javascript:" not in text


@pytest.mark.parametrize(
    "query", ["", "?tab=values", "?tab=log", "?tab=events", "?view=table", "?task=nope", "?fold=t0"]
)
async def test_hostile_names_are_only_text_on_a_run(world, query):
    run = await fill(world, HOSTILE)
    session = await world.browser()
    inert(await world.page(session, f"/runs/{run}{query}"))


async def test_hostile_names_are_only_text_elsewhere(world):
    await fill(world, HOSTILE)
    pod = await world.pod(phase="Failed", reason=HOSTILE, message=HOSTILE)
    await event(world, pod, "Broken", HOSTILE)
    model = {"metadata": {"name": "m", "namespace": HOME}, "spec": {"predictor": {"sklearn": {"storageUri": HOSTILE}}}}
    await world.client.create(_wire.convert(InferenceService, model))
    ready = {"type": "Ready", "status": "False", "reason": HOSTILE, "message": HOSTILE}
    patch = {"status": {"conditions": [ready], "url": HOSTILE}}
    await world.client.patch(InferenceService, "m", patch, HOME, subresource="status")
    session = await world.browser()
    for path in ("/", "/runs", "/models", "/workloads", "/workloads?tab=events", "/workloads?pod=alert(1)" + HOSTILE):

        async def shown(path: str = path) -> bool:
            return "alert(1)" in await world.page(session, path)

        await eventually(shown)
        inert(await world.page(session, path))
    inert(await world.page(session, f"/runs?q={HOSTILE}alert(1)"))


async def test_a_failed_run_says_where_and_why(world):
    run = await fill(world, "flaky-step")
    session = await world.browser()
    text = await world.page(session, f"/runs/{run}")
    assert "Why it failed" in text
    assert "It broke: flaky-step" in text
    assert "task=t1" in text
    home = await world.page(session, "/")
    assert "Recent failures" in home
    assert "Task: flaky-step" in home


async def test_the_list_filters_by_state_and_text(world):
    await fill(world, "broken")
    await world.start_run("going on")
    session = await world.browser()
    for query, there in (("", (True, True)), ("?state=failed", (True, False)), ("?state=running", (False, True))):
        text = await world.page(session, f"/runs{query}")
        assert ('href="/runs/run-1" data-row' in text, "going on</a>" in text) == there, query
    assert "No run matches" in await world.page(session, "/runs?q=nothing-like-it")
    assert "going on</a>" in await world.page(session, "/runs?q=GOING")
    assert "Begin again" in await world.page(session, "/runs?after=nonsense", 400)


async def test_empty_pages_say_what_to_do(world):
    session = await world.browser()
    for path, words in (
        ("/", "headrace quickstart"),
        ("/runs", "headrace quickstart"),
        ("/models", "kubectl apply"),
        ("/workloads", "kubectl -n"),
    ):
        text = await world.page(session, path)
        assert words in text, path


async def test_a_stranger_sees_nothing_of_another_namespace(world):
    run = await fill(world, "secret-name")
    await world.pod("secret-name-pod")
    owner, stranger = await world.browser(), await world.browser(STRANGER)

    async def there() -> bool:
        return "secret-name-pod" in await world.page(owner, "/workloads")

    await eventually(there)
    assert "secret-name" in await world.page(owner, "/runs")
    for path in (
        f"/runs/{run}",
        f"/runs?ns={HOME}",
        f"/models?ns={HOME}",
        f"/workloads?ns={HOME}",
        f"/runs/{run}?tab=log",
    ):
        text = await world.page(stranger, path, 403)
        assert "secret-name" not in text, path
        async with live(stranger, path) as stream:
            assert "secret-name" not in (await stream.next("page"))["html"]
    text = await world.page(stranger, f"/?ns={HOME}")
    assert "secret-name" not in text
    assert f'value="{HOME}"' not in await world.page(stranger, "/")


async def test_a_viewer_may_look_and_an_account_without_rights_may_not(world):
    run = await fill(world, "shared")
    viewer, nobody = await world.browser(VIEWER), await world.browser(NOBODY)
    for path in (*PAGES, f"/runs/{run}"):
        await world.page(viewer, path)
    for path in ("/runs", "/models", "/workloads"):
        assert "may not list" in await world.page(nobody, path, 403)
    assert "Recent failures" not in await world.page(nobody, "/")


async def test_what_is_not_there_is_404(world):
    session = await world.browser()
    assert "no such run" in await world.page(session, "/runs/none", 404)
    assert "no such page" in await world.page(session, "/nope", 404)
    assert "no such experiment" in await world.page(session, "/runs?experiment=none", 404)
    async with session.get("/static/x/none.js") as response:
        assert response.status == 404


async def test_programs_are_told_in_json_that_nothing_is_there(world):
    bearer = {"authorization": f"Bearer {await world.token()}", "accept": "application/json"}
    async with world.anonymous() as session:
        async with session.get("/apis/v9/runs", headers=bearer) as response:
            assert response.status == 404
            assert "Nothing is served at '/apis/v9/runs'" in (await response.json())["error"]
        async with session.post("/apis/v9/runs", headers=bearer) as response:
            assert response.status == 404
            assert "Nothing is served at '/apis/v9/runs'" in (await response.json())["error"]
        async with session.put("/apis/v9/runs", headers=bearer) as response:
            assert response.status == 405
            assert "not an API" in (await response.json())["error"]


async def test_a_change_comes_over_the_stream(world):
    run = await world.start_run("to be stopped")
    session = await world.browser()
    async with live(session, f"/runs/{run}") as stream:
        first = await stream.next("page")
        assert "Succeeded" not in first["html"]
        bearer = {"authorization": f"Bearer {await world.token()}"}
        async with session.post(f"/apis/v2beta1/runs/{run}:terminate", headers=bearer) as response:
            assert response.status == 200
        html = ""
        while "Stopped" not in html:
            html = (await stream.next("page"))["html"]


async def test_a_page_that_the_browser_has_is_not_sent_again(world):
    session = await world.browser()
    text = await world.page(session, "/workloads")
    have = re.search(r'data-version="(\w+)"', text)[1]
    async with live(session, "/workloads", have) as stream:
        await world.pod("newcomer")
        assert "newcomer" in (await stream.next("page"))["html"]


async def test_a_log_stays_when_its_pod_is_gone(world):
    run = await fill(world)
    world.write_log(HOME, "say-0", "uid-of-old", "hello", HOSTILE)
    session = await world.browser()
    text = await world.page(session, f"/runs/{run}?task=t1&tab=log")
    assert "log-uid-of-old-main" in text
    async with live(session, f"/runs/{run}?task=t1&tab=log") as stream:
        lines = (await stream.next("log"))["text"].splitlines()
    assert lines[0].endswith(" hello")
    assert len(lines) == 2


async def test_files_are_kept_by_the_browser_and_need_a_session(world):
    session = await world.browser()
    text = await world.page(session, "/")
    total = len(text)
    for path in set(re.findall(r'(?:href|src)="(/static/[^"]+)"', text)):
        async with session.get(path) as response:
            assert response.status == 200
            assert "immutable" in response.headers["cache-control"]
            total += len(await response.read())
    assert total < 350_000


async def test_upstream_paths_show_a_page_whose_script_reads_the_hash(world):
    session = await world.browser()
    for path in ("/pipeline/", "/pipeline", "/_/pipeline/"):
        assert "early.js" in await world.page(session, path)


async def test_a_component_in_trouble_says_so(world):
    from headrace.machinery.pages import ComponentFacts

    async def broken() -> str:
        return "its disk is full"

    async def raising() -> str:
        raise OSError("no route to it")

    world.site.components += [ComponentFacts("a", "Alpha", broken), ComponentFacts("b", "Beta", raising)]
    text = await world.page(await world.browser(), "/")
    assert "its disk is full" in text
    assert "no route to it" in text

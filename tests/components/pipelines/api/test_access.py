"""Who may what: every denial beside its permission."""

from __future__ import annotations

import pytest
from pipelines_harness import HOME, OTHER, PATHS, SPEC, V1_PATHS

RUN = {"display_name": "r", "pipeline_spec": SPEC, "runtime_config": {"parameters": {"who": "x"}}}
WRITES = [
    ("POST", "/runs", RUN),
    ("POST", "/runs/{run}:terminate", None),
    ("POST", "/runs/{run}:archive", None),
    ("POST", "/runs/{run}:unarchive", None),
    ("POST", "/experiments", {"display_name": "new"}),
    ("POST", "/experiments/{experiment}:archive", None),
    ("POST", "/experiments/{experiment}:unarchive", None),
    ("POST", "/pipelines", {"name": "new"}),
    ("DELETE", "/pipelines/{pipeline}", None),
    ("DELETE", "/runs/{run}", None),
]
READS = [
    ("GET", "/runs", None),
    ("GET", "/runs/{run}", None),
    ("GET", "/runs?experiment_id={experiment}", None),
    ("GET", "/experiments", None),
    ("GET", "/experiments/{experiment}", None),
    ("GET", "/pipelines", None),
    ("GET", "/pipelines/{pipeline}", None),
    ("GET", "/pipelines/{pipeline}/versions", None),
    ("GET", "/pipelines/names/greet", None),
    ("GET", "/artifacts", None),
]


async def fill(api) -> dict[str, str]:
    run = await api.start_run()
    pipeline = await api.ok("POST", "/pipelines", {"name": "greet"})
    return {"run": run["run_id"], "experiment": run["experiment_id"], "pipeline": pipeline["pipeline_id"]}


def home(path: str) -> str:
    """With the namespace, for users whose own is another."""
    return f"{path}{'&' if '?' in path else '?'}namespace={HOME}"


async def test_an_editor_may_read_and_write(api):
    ids = await fill(api)
    for method, path, body in READS + WRITES:
        await api.ok(method, path.format(**ids), body)


async def test_the_owner_may_without_naming_the_namespace(api):
    ids = await fill(api)
    for method, path, body in READS + WRITES:
        await api.ok(method, path.format(**ids), body, user="person")


async def test_a_viewer_may_read_and_nothing_else(api):
    ids = await fill(api)
    for method, path, body in READS:
        await api.ok(method, path.format(**ids), body, user="viewer")
    for method, path, body in WRITES:
        status, code, message = await api.refused(method, path.format(**ids), body, user="viewer")
        assert (status, code) == (403, 7), path
        assert HOME in message
    assert (await api.ok("GET", f"/runs/{ids['run']}"))["state"] == "PENDING"


@pytest.mark.parametrize("user", ["other", "nobody"])
async def test_others_may_nothing(api, user):
    ids = await fill(api)
    for method, path, body in READS + WRITES:
        given = body
        if path == "/runs" and method == "POST":
            given = body | {"experiment_id": ids["experiment"]}
        elif body is not None:
            given = body | {"namespace": HOME}
        assert (await api.refused(method, home(path.format(**ids)), given, user=user))[:2] == (403, 7), path


async def test_a_version_of_another_namespace_cannot_be_run(api):
    from aiohttp import FormData
    from yaml import safe_dump

    form = FormData()
    form.add_field("uploadfile", safe_dump(SPEC), filename="greet.yaml")
    theirs = await api.ok("POST", "/pipelines/upload?name=theirs", data=form, user="other")
    assert theirs["namespace"] == OTHER
    body = {k: v for k, v in RUN.items() if k != "pipeline_spec"}
    body["pipeline_version_reference"] = {"pipeline_id": theirs["pipeline_id"]}
    await api.ok("POST", "/runs", body, user="other")
    assert (await api.refused("POST", "/runs", body))[:2] == (403, 7)


async def test_without_a_token_nothing_answers(api):
    for path in ("/healthz", "/runs"):
        assert (await api.call("GET", path, user=""))[0] == 401


async def test_the_app_itself_refuses_a_request_without_a_user():
    from headrace.components.pipelines.api.access import user_of
    from headrace.components.pipelines.types.rest import RpcError

    with pytest.raises(RpcError) as caught:
        user_of({"type": "http"})
    assert caught.value.code.http == 401


async def test_healthz_is_open_to_whoever_is_authenticated(api):
    assert await api.ok("GET", "/healthz", user="nobody") == {"multi_user": True, "pipeline_store": "database"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/workflows"),
        ("GET", "/filters"),
        ("POST", "/tasks"),
        ("PATCH", "/tasks/x"),
        ("POST", "/artifact_tasks"),
        ("POST", f"/visualizations/{HOME}"),
    ],
)
async def test_what_is_not_there_is_refused_by_name(api, method, path):
    status, code, message = await api.refused(method, path)
    assert (status, code) == (501, 12)
    assert "not available in this release" in message


async def test_visualizations_ask_first_whether_one_may(api):
    assert (await api.call("POST", f"/visualizations/{HOME}", user=""))[0] == 401
    assert (await api.refused("POST", f"/visualizations/{HOME}", user="other"))[:2] == (403, 7)


@pytest.mark.parametrize("prefix", [PATHS[0], V1_PATHS[0]])
async def test_the_authorization_query(api, prefix):
    query = f"/auth?namespace={HOME}&resources=VIEWERS&verb="
    for verb in ("GET", "CREATE", "DELETE"):
        assert await api.ok("GET", query + verb, prefix=prefix) == {}
        assert (await api.refused("GET", query + verb, user="other", prefix=prefix))[:2] == (403, 7)
        assert (await api.call("GET", query + verb, user="", prefix=prefix))[0] == 401
    for wrong in (query, query + "PATCH", "/auth?resources=VIEWERS&verb=GET", f"/auth?namespace={HOME}&verb=GET"):
        assert (await api.refused("GET", wrong, prefix=prefix))[:2] == (400, 3)


async def test_unknown_paths_and_methods_speak_the_same_dialect(api):
    assert (await api.refused("GET", "/nothing"))[:2] == (404, 5)
    assert (await api.refused("PUT", "/runs"))[:2] == (501, 12)
    assert (await api.refused("GET", "/runs/"))[:2] == (404, 5)


async def test_the_permission_denied_of_both_prefixes_is_the_same(api):
    ids = await fill(api)
    answers = [await api.refused("GET", f"/runs/{ids['run']}", user="other", prefix=p) for p in PATHS]
    assert answers[0] == answers[1]

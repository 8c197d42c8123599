"""The bytes of artifacts through the API, from a real object store."""

# ruff: noqa: PTH123
# No `from __future__ import annotations` here: kfp reads the annotations of components.
import base64
import functools
import io
import tarfile
import warnings

import pytest
from pipelines_harness import HOME

from headrace.components.pipelines.store.models import NewArtifact, Report, RuntimeState, TaskRow, TaskType

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from kfp import dsl
    from kfp.dsl import Dataset, Output

component = functools.partial(dsl.component, base_image="python:3.11-slim")


@component
def write(text: str, data: Output[Dataset]):
    with open(data.path, "w") as file:
        file.write(text * 100)


@pytest.fixture
async def made(lab):
    @dsl.pipeline(name="bytes")
    def pipeline():
        write(text="héllo")

    return await lab.run(pipeline)


async def test_bytes_by_node_by_download_and_by_link(lab, made):
    content = ("héllo" * 100).encode()
    (artifact,) = made.artifacts("write", "data")
    task, run = made.task("write"), made.row.run.id
    for node in (task.id, task.pod_name, "write"):
        read = await lab.api.ok("GET", f"/runs/{run}/nodes/{node}/artifacts/data:read")
        assert base64.b64decode(read["data"]) == content
    shown = await lab.api.ok("GET", f"/artifacts/{artifact.id}?view=DOWNLOAD")
    async with lab.api.session.get(shown["download_url"]) as response:
        assert (response.status, await response.read()) == (200, content)
    async with lab.api.session.get(shown["download_url"].replace("Expires=900", "Expires=9000")) as response:
        assert response.status == 403
    assert "download_url" not in await lab.api.ok("GET", f"/artifacts/{artifact.id}")
    assert (await lab.api.refused("GET", f"/artifacts/{artifact.id}?view=ALL"))[:2] == (400, 3)
    url = f"{lab.api.url}/apis/v2beta1/artifacts/{artifact.id}:download"
    headers = {"authorization": "Bearer viewer"}
    async with lab.api.session.get(url, headers=headers) as response:
        assert (response.status, await response.read()) == (200, content)
        assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''data"
        assert response.headers["content-security-policy"].startswith("sandbox")
    async with lab.api.session.get(url, headers=headers | {"range": "bytes=0-2"}) as response:
        assert (response.status, await response.read()) == (206, content[:3])
        assert response.headers["content-range"] == f"bytes 0-2/{len(content)}"


async def test_the_log_of_a_step_is_read_as_upstreams_artifact_of_it(lab):
    """Also of an earlier attempt, and when the pods are gone."""
    run = (await lab.api.start_run())["run_id"]
    failed = TaskRow("t-failed", run, "root/t", "t", TaskType.RUNTIME, pod_name="p-1")
    failed.detail = {"failed_pods": ["p-0"]}
    await lab.api.runs.create_tasks(run, [failed])
    for pod in ("p-0", "p-1"):
        folder = lab.api.pod_logs / f"{lab.namespace}_{pod}_uid-{pod}" / "main"
        folder.mkdir(parents=True)
        (folder / "0.log").write_text(f"2026-01-02T03:04:05.000000000Z stdout F said by {pod}\n")
    path = f"/runs/{run}/nodes/{{}}/artifacts/{{}}:read"
    for node, name, pod in (
        ("t", "executor-logs", "p-1"),
        ("t", "executor-logs-1", "p-1"),
        ("t", "executor-logs-0", "p-0"),
        ("p-0", "executor-logs", "p-0"),
        ("p-1", "executor-logs", "p-1"),
    ):
        read = await lab.api.ok("GET", path.format(node, name))
        assert base64.b64decode(read["data"]) == f"said by {pod}\n".encode()
    streamed = await lab.api.session.get(
        f"{lab.api.url}/apis/v2beta1/runs/{run}/nodes/t/artifacts/executor-logs:stream",
        headers={"authorization": "Bearer editor"},
    )
    assert (await streamed.text(), streamed.headers["x-content-type-options"]) == ("said by p-1\n", "nosniff")
    for name in ("executor-logs-2", "executor-logs-x", "executor"):
        assert (await lab.api.refused("GET", path.format("t", name)))[0] == 404
    assert (await lab.api.refused("GET", path.format("t", "executor-logs"), user="other"))[0] == 403
    gone = TaskRow("t-gone", run, "root/g", "g", TaskType.RUNTIME, pod_name="p-gone")
    await lab.api.runs.create_tasks(run, [gone])
    status, _, message = await lab.api.refused("GET", path.format("g", "executor-logs"))
    assert (status, "The log of pod p-gone cannot be read" in message) == (404, True)


async def test_who_may_and_what_is_not_there(lab, made):
    (artifact,) = made.artifacts("write", "data")
    run = made.row.run.id
    for path in (
        f"/runs/{run}/nodes/write/artifacts/data:read",
        f"/artifacts/{artifact.id}?view=DOWNLOAD",
        f"/artifacts/{artifact.id}:download",
    ):
        assert (await lab.api.refused("GET", path, user="other"))[:2] == (403, 7)
    for path in (
        "/runs/none/nodes/write/artifacts/data:read",
        f"/runs/{run}/nodes/none/artifacts/data:read",
        f"/runs/{run}/nodes/write/artifacts/none:read",
        "/artifacts/none:download",
    ):
        assert (await lab.api.refused("GET", path))[:2] == (404, 5)


@pytest.mark.parametrize(
    ("uri", "status", "words"),
    [
        ("minio://mlpipeline/v2/artifacts/kubeflow-user-example-com/gone", 404, "no object at"),
        ("minio://mlpipeline/v2/artifacts/other-team/secret", 403, "may not read"),
        ("s3://elsewhere/key", 403, "may not read"),
        ("gs://bucket/key", 400, "does not lie in this platform's object store"),
        ("minio://mlpipeline", 400, "does not lie in this platform's object store"),
    ],
)
async def test_what_cannot_be_read_says_why(lab, uri, status, words):
    run = await lab.api.start_run()
    task = TaskRow(id="t", run_id=run["run_id"], path="root/odd", name="odd", type=TaskType.RUNTIME)
    await lab.api.runs.create_tasks(run["run_id"], [task])
    report = Report(0, RuntimeState.SUCCEEDED, {}, [NewArtifact("data", "data", "system.Dataset", uri)])
    await lab.api.runs.record_outputs("t", report)
    found = await lab.api.refused("GET", f"/runs/{run['run_id']}/nodes/t/artifacts/data:read")
    assert found[0] == status
    assert words in found[2]


async def test_the_bytes_of_a_node_are_streamed_in_ranges(lab, made):
    content = ("héllo" * 100).encode()
    url = f"{lab.api.url}/apis/v2beta1/runs/{made.row.run.id}/nodes/write/artifacts/data:stream"
    headers = {"authorization": "Bearer editor"}
    async with lab.api.session.get(url, headers=headers) as response:
        assert (response.status, await response.read()) == (200, content)
    async with lab.api.session.get(url, headers=headers | {"range": "bytes=-4"}) as response:
        assert (response.status, await response.read()) == (206, content[-4:])
    for user, status in (("", 401), ("other", 403)):
        async with lab.api.session.get(url, headers={"authorization": f"Bearer {user}"}) as response:
            assert response.status == status


async def test_a_preview_shows_the_beginning(lab, made):
    (artifact,) = made.artifacts("write", "data")
    path = f"/artifacts/{artifact.id}:preview"
    whole = await lab.api.ok("GET", path)
    assert (whole["kind"], whole["text"], whole["size"], whole["truncated"]) == ("text", "héllo" * 100, 600, False)
    part = await lab.api.ok("GET", f"{path}?bytes=2")
    assert (part["text"], part["size"], part["truncated"]) == ("h", 600, True)
    for wrong in ("0", "-1", "x", "10000000"):
        assert (await lab.api.refused("GET", f"{path}?bytes={wrong}"))[:2] == (400, 3)
    assert (await lab.api.refused("GET", path, user="other"))[:2] == (403, 7)
    assert (await lab.api.call("GET", path, user=""))[0] == 401


async def test_an_artifact_is_recorded_uploaded_and_read(lab):
    given = {"artifact": {"name": "given.csv", "type": "Dataset", "metadata": {"k": "v"}, "description": "d"}}
    made = await lab.api.ok("POST", "/artifacts", given)
    assert (made["type"], made["metadata"]) == ("system.Dataset", {"k": "v", "description": "d"})
    url = f"{lab.api.url}/apis/v2beta1/artifacts/{made['artifact_id']}"
    headers = {"authorization": "Bearer editor"}

    async def chunks():
        for _ in range(3):
            yield b"a,b\n"

    async with lab.api.session.put(f"{url}:upload", data=b"a,b\n1,2\n", headers=headers) as response:
        assert response.status == 200, await response.text()
    async with lab.api.session.get(f"{url}:download", headers=headers) as response:
        assert await response.read() == b"a,b\n1,2\n"
    assert (await lab.api.ok("GET", f"/artifacts/{made['artifact_id']}:preview"))["rows"] == [["1", "2"]]
    async with lab.api.session.put(f"{url}:upload", data=chunks(), headers=headers) as response:
        assert response.status == 400
    for user, status in (("", 401), ("other", 403), ("viewer", 403)):
        for method, target, body in (
            ("PUT", f"{url}:upload", b"x"),
            ("POST", f"{url.rpartition('/')[0]}?namespace=" + lab.namespace, b"{}"),
        ):
            bearer = {"authorization": f"Bearer {user}"}
            async with lab.api.session.request(method, target, data=body, headers=bearer) as response:
                assert response.status == status, (user, method)
    async with lab.api.session.put(f"{url}:upload", data=b"", headers=headers) as response:
        assert response.status == 200
    empty = await lab.api.ok("GET", f"/artifacts/{made['artifact_id']}:preview")
    assert (empty["size"], empty["text"]) == (0, "")


async def test_a_browser_shows_pages_and_pictures_and_nothing_else(lab):
    picture, page = b"\x89PNG\r\n\x1a\n" + bytes(500), b"<script>parent.alert(1)</script>"
    for name, kind, content, media in (
        ("page", "HTML", page, "text/html; charset=utf-8"),
        ("drawn.html", "Artifact", page, "text/html; charset=utf-8"),
        ("picture", "Artifact", picture, "image/png"),
        ("text.svg", "Artifact", b"<svg onload='alert(1)'/>", ""),
        ("empty.txt", "Artifact", b"", ""),
    ):
        made = await lab.api.ok("POST", "/artifacts", {"artifact": {"name": name, "type": kind}})
        url = f"{lab.api.url}/apis/v2beta1/artifacts/{made['artifact_id']}"
        headers = {"authorization": "Bearer editor"}
        async with lab.api.session.put(f"{url}:upload", data=content, headers=headers) as response:
            assert response.status == 200
        async with lab.api.session.get(f"{url}:show", headers=headers) as response:
            if not media:
                assert response.status == 400
                assert "Only pictures and HTML pages" in (await response.json())["message"]
                continue
            assert (response.status, await response.read()) == (200, content)
            assert response.headers["content-type"] == media
            assert response.headers["x-content-type-options"] == "nosniff"
            policy = response.headers["content-security-policy"]
            assert policy.startswith("sandbox allow-scripts; default-src 'none';")
            assert "allow-same-origin" not in policy
            assert "connect-src" not in policy
        for user, status in (("", 401), ("other", 403)):
            async with lab.api.session.get(f"{url}:show", headers={"authorization": f"Bearer {user}"}) as response:
                assert response.status == status


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 400),
        ({"artifact": {"type": "Model"}}, 400),
        ({"artifact": {"name": "x", "type": "Planet"}}, 400),
        ({"artifact": {"name": "x", "type": "Model"}, "task_id": "t"}, 501),
    ],
)
async def test_an_artifact_that_cannot_be_recorded(lab, given, status):
    assert (await lab.api.refused("POST", "/artifacts", given))[0] == status


async def test_what_lies_elsewhere_is_not_uploaded_to(lab, made):
    (artifact,) = made.artifacts("write", "data")
    given = {"artifact": {"name": "mine", "type": "Dataset", "uri": artifact.uri}}
    mine = await lab.api.ok("POST", "/artifacts", given)
    url = f"{lab.api.url}/apis/v2beta1/artifacts/{mine['artifact_id']}:upload"
    async with lab.api.session.put(url, data=b"x", headers={"authorization": "Bearer editor"}) as response:
        assert response.status == 400
        assert "not a place for uploads" in (await response.json())["message"]
    assert (await lab.api.ok("GET", f"/artifacts/{artifact.id}:preview"))["size"] == 600


async def test_what_a_step_made_is_not_replaced(lab, made):
    (artifact,) = made.artifacts("write", "data")
    url = f"{lab.api.url}/apis/v2beta1/artifacts/{artifact.id}:upload"
    async with lab.api.session.put(url, data=b"x", headers={"authorization": "Bearer editor"}) as response:
        assert response.status == 400
        assert "made by a step" in (await response.json())["message"]


async def test_a_folder_is_listed_and_comes_as_one_archive(lab):
    uri = "minio://mlpipeline/v2/artifacts/kubeflow-user-example-com/a-model"
    files = {"model.joblib": b"x" * 700, "deep/ü.txt": "ü".encode(), "empty": b""}
    for name, content in files.items():
        await lab.put(f"v2/artifacts/kubeflow-user-example-com/a-model/{name}", content)
    await lab.put("v2/artifacts/kubeflow-user-example-com/a-model-of-others/x", b"no")
    run = await lab.api.start_run()
    task = TaskRow(id="t", run_id=run["run_id"], path="root/odd", name="odd", type=TaskType.RUNTIME)
    await lab.api.runs.create_tasks(run["run_id"], [task])
    report = Report(0, RuntimeState.SUCCEEDED, {}, [NewArtifact("model", "model", "system.Model", uri)])
    await lab.api.runs.record_outputs("t", report)
    [made] = (await lab.api.ok("GET", f"/artifacts?namespace={HOME}"))["artifacts"]
    path = f"/artifacts/{made['artifact_id']}"
    told = await lab.api.ok("GET", f"{path}:preview")
    assert (told["kind"], told["truncated"]) == ("folder", False)
    assert {file["path"]: file["size"] for file in told["files"]} == {name: len(data) for name, data in files.items()}
    url = f"{lab.api.url}/apis/v2beta1{path}:download"
    async with lab.api.session.get(url, headers={"authorization": "Bearer viewer"}) as response:
        assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''a-model.tar"
        raw = await response.read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert {member.name: archive.extractfile(member).read() for member in archive.getmembers()} == files
    async with lab.api.session.get(url, headers={"authorization": "Bearer other"}) as response:
        assert response.status == 403

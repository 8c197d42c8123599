"""The bytes of artifacts through the API, from a real object store."""

# ruff: noqa: PTH123
# No `from __future__ import annotations` here: kfp reads the annotations of components.
import base64
import functools
import warnings

import pytest

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

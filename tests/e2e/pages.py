"""Every page of the dashboard with an address that shows something, from the pages' own registry.

A page that is new is found here by itself; one whose path has parameters needs a line in `addresses`, and says so.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.machinery.clock import SystemClock
from headrace.machinery.component import Context
from headrace.machinery.settings import Ports, Settings
from headrace.platform import load_components

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.machinery.pages import Page

NAMESPACE = "kubeflow-user-example-com"


PIPELINE = {
    "pipelineInfo": {"name": "looked-at"},
    "schemaVersion": "2.1.0",
    "sdkVersion": "kfp-2.16.1",
    "root": {
        "inputDefinitions": {
            "parameters": {
                "rate": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.5},
                "kinds": {"parameterType": "LIST", "isOptional": True},
                "loud": {"parameterType": "BOOLEAN"},
            }
        },
        "dag": {
            "tasks": {
                "say": {"taskInfo": {"name": "say"}, "componentRef": {"name": "comp-say"}},
                "hear": {
                    "taskInfo": {"name": "hear"},
                    "componentRef": {"name": "comp-say"},
                    "dependentTasks": ["say"],
                },
            }
        },
    },
    "components": {"comp-say": {"executorLabel": "exec-say"}},
    "deploymentSpec": {"executors": {"exec-say": {"container": {"image": "python:3.11", "command": ["true"]}}}},
}


def registry() -> list[Page]:
    """What the components bring. They are built for nobody: no page of these is ever rendered."""
    found: list[Page] = []
    nobody: Any = None
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), ports=Ports(api=0, gateway=0, objectstore=0))
        settings.state.mkdir()
        for part in load_components():
            found += part.build(Context(part.name, settings, nobody, SystemClock(), nobody, nobody)).pages
    return found


def prepare(ask: Callable[..., dict[str, Any]]) -> None:
    """A pipeline, a run of it that has ended well, and one that has not."""
    edge = "a-part-of-the-form"
    part = f'--{edge}\r\ncontent-disposition: form-data; name="uploadfile"; filename="pipeline.yaml"\r\n\r\n'
    body = f"{part}{json.dumps(PIPELINE)}\r\n--{edge}--\r\n".encode()
    path = f"/apis/v2beta1/pipelines/upload?namespace={NAMESPACE}&name=looked-at"
    pipeline = ask(path, body, kind=f"multipart/form-data; boundary={edge}")["pipeline_id"]
    asked = {"pipeline_version_reference": {"pipeline_id": pipeline}, "runtime_config": {"parameters": {"loud": True}}}
    failing = json.loads(json.dumps(PIPELINE).replace('["true"]', '["false"]'))
    other = {"pipeline_spec": failing, "runtime_config": {"parameters": {"loud": False}}}
    for name, body, end in (("looked at", asked, "SUCCEEDED"), ("failed", other, "FAILED")):
        run = ask("/apis/v2beta1/runs", {"display_name": name, **body})["run_id"]
        while (state := ask(f"/apis/v2beta1/runs/{run}")["state"]) not in {"SUCCEEDED", "FAILED"}:
            time.sleep(0.1)
        assert state == end


def addresses(ask: Callable[..., dict[str, Any]], run: str) -> dict[str, str]:
    """Every page's path and where it can be seen. `ask` reads from the gateway; `run` is the id of a run that made an
    artifact, and there is a pipeline.
    """
    of = f"namespace={NAMESPACE}"
    runs = ask(f"/apis/v2beta1/runs?{of}&sort_by=created_at%20desc&page_size=3")["runs"]
    others = [each["run_id"] for each in runs if each["run_id"] != run][:2]
    pipeline = ask(f"/apis/v2beta1/pipelines?{of}")["pipelines"][0]["pipeline_id"]
    artifact = ask(f"/apis/v2beta1/artifacts?{of}&page_size=1")["artifacts"][0]["artifact_id"]
    given = {
        "/runs/{run}": f"/runs/{run}",
        "/compare": f"/compare?{'&'.join(f'run={each}' for each in (run, *others))}",
        "/pipelines/{id}": f"/pipelines/{pipeline}",
        "/pipelines/{id}/run": f"/pipelines/{pipeline}/run",
        "/artifacts/{id}": f"/artifacts/{artifact}",
        "/profiles/{profile}": f"/profiles/{NAMESPACE}",
    }
    paths = [page.path for page in registry()]
    unknown = [path for path in paths if "{" in path and path not in given]
    assert not unknown, f"say in {__file__} where {unknown} can be seen"
    return {path: given.get(path, path) for path in paths}

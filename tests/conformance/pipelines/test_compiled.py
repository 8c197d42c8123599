"""Pipelines of ours, compiled by several SDKs (compiled.yaml, and v1.yaml for kfp 1), come to what is expected of them.

Neither an SDK nor the network is needed: sdk/pipelines.py says how the documents were made. What two SDKs compile
alike runs once. Steps run as local processes, as in the engine's own tests; what a step asks of Kubernetes is read
from its pod.
"""

from __future__ import annotations

import asyncio
import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pipelines_harness import HOME

from headrace.api import _wire
from headrace.api.core import ConfigMap, Secret
from headrace.api.meta import ObjectMeta
from headrace.components.pipelines.render.step import RUN_LABEL

FOLDER = Path(__file__).parent
COMPILED: dict[str, list[dict[str, Any]]] = yaml.safe_load((FOLDER / "compiled.yaml").read_text())
EXPECTED: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "expected.yaml").read_text())
WORKFLOWS: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "v1.yaml").read_text())
EXPECTED_V1: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "expected_v1.yaml").read_text())
AT_ONCE = 4


def documents() -> list[tuple[str, str, dict[str, Any]]]:
    found = []
    for name, variants in COMPILED.items():
        for variant in variants:
            label = f"{name} (kfp {', '.join(variant['sdks'])})"
            document = copy.deepcopy(variant["document"])
            inner = document.get("pipeline_spec", document)
            # Each variant is a pipeline of its own, or one would be taken from another's cache.
            inner["pipelineInfo"]["name"] += "-" + variant["sdks"][0].replace(".", "-")
            found.append((name, label, document))
    return found


def test_every_compiled_pipeline_has_an_expectation_and_no_more():
    assert set(EXPECTED) == set(COMPILED)
    assert set(EXPECTED_V1) == set(WORKFLOWS)


@pytest.mark.timeout(600)
async def test_what_the_sdks_compile_comes_to_what_is_expected(lab):
    each = [(label, document, EXPECTED[name]) for name, label, document in documents()]
    await all_as_expected(lab, each)


@pytest.mark.timeout(600)
async def test_what_kfp_1_compiles_comes_to_what_is_expected(lab):
    await all_as_expected(lab, [(name, workflow, EXPECTED_V1[name]) for name, workflow in WORKFLOWS.items()])
    runs = (await lab.api.ok("GET", "/runs?page_size=100", prefix="/apis/v1beta1"))["runs"]
    metrics = [(m["name"], m["number_value"], m["format"]) for run in runs for m in run.get("metrics", [])]
    # What loop_output and digits write into mlpipeline-metrics.
    assert sorted(metrics) == [("accuracy", 0.75, "PERCENTAGE"), ("model_accuracy", 0.8, "PERCENTAGE")]


async def all_as_expected(lab, each: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> None:
    client = lab.api.cluster.client
    keys, settings = ObjectMeta(name="keys", namespace=HOME), ObjectMeta(name="settings", namespace=HOME)
    await client.apply(Secret(metadata=keys, string_data={"key": "k"}))
    await client.apply(ConfigMap(metadata=settings, data={"color": "blue"}))
    await lab.put(f"v2/artifacts/{HOME}/given.txt", b"given")
    limit = asyncio.Semaphore(AT_ONCE)
    wrong: list[str] = []

    async def one(label: str, document: dict[str, Any], expected: dict[str, Any]) -> None:
        async with limit:
            ended = await lab.ended(await lab.start(document, **expected.get("parameters", {})), timeout=240)
            wrong.extend(f"{label}: {line}" for line in differences(ended, expected))
            if "contents" in expected:
                found = await contents(lab, ended)
                wrong.extend([f"{label}: contents: {found}"] if found != expected["contents"] else [])
            if "pod" in expected:
                pods = [p for p in await lab.pods() if p.metadata.labels[RUN_LABEL] == ended.row.run.id]
                shown = [_wire.decode_any(_wire.encode(p)) for p in pods]
                if not any(within(expected["pod"], pod) for pod in shown):
                    wrong.append(f"{label}: no pod has {expected['pod']}, got {[p['spec'] for p in shown]}")

    await asyncio.gather(*(one(*these) for these in each))
    assert not wrong, "\n".join(wrong)


def differences(ended: Any, expected: dict[str, Any]) -> list[str]:
    lines = []
    if ended.state != expected.get("state", "SUCCEEDED"):
        lines.append(f"the run is {ended.state} ({ended.row.run.error_message})")
    states = {path: state for path, state in ended.states.items() if state != "SUCCEEDED"}
    if states != expected.get("not_succeeded", {}):
        lines.append(f"not succeeded: {states}")
    outputs = {
        task.path.removeprefix("root/"): value
        for task in ended.row.tasks
        if task.type == "RUNTIME"
        for value in task.outputs.parameters.values()
    }
    if not same(outputs, expected.get("outputs", {})):
        lines.append(f"outputs: {outputs}")
    attempts = {t.path.removeprefix("root/"): t.attempt + 1 for t in ended.row.tasks if t.attempt}
    if attempts != expected.get("attempts", {}):
        lines.append(f"attempts: {attempts}")
    made = {a.name or a.type: a.type for a in ended.row.artifacts.values() if a.task_id}
    if set(made.values()) != set(expected.get("artifacts", [])):
        lines.append(f"artifacts: {sorted(set(made.values()))}")
    return lines


async def contents(lab, ended: Any) -> dict[str, str]:
    """What lies in the object store, by task and output."""
    found = {}
    for task in ended.row.tasks:
        for name, ids in task.outputs.artifacts.items():
            for ident in ids:
                artifact = ended.row.artifacts[ident]
                data = await lab.get(artifact.uri.removeprefix("minio://mlpipeline/"))
                found[f"{task.path.removeprefix('root/')}/{name}"] = data.decode()
    return found


def same(outputs: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Equal; a text that begins with ~ is an expression."""
    return outputs.keys() == expected.keys() and all(
        re.fullmatch(wanted[1:], str(outputs[name]))
        if isinstance(wanted, str) and wanted.startswith("~")
        else outputs[name] == wanted
        for name, wanted in expected.items()
    )


def within(wanted: Any, given: Any) -> bool:
    """Whether all of `wanted` is in `given`; a list's items each in some item."""
    if isinstance(wanted, dict):
        return isinstance(given, dict) and all(k in given and within(v, given[k]) for k, v in wanted.items())
    if isinstance(wanted, list):
        return isinstance(given, list) and all(any(within(w, g) for g in given) for w in wanted)
    if isinstance(wanted, str) and wanted.startswith("~"):
        return re.fullmatch(wanted[1:], str(given)) is not None
    return bool(wanted == given)

"""The objects of an InferenceService, by golden files; HEADRACE_UPDATE_GOLDEN=1 rewrites them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from headrace.api import _wire
from headrace.api.apps import Deployment
from headrace.components.serving import render
from headrace.components.serving.policy import credentials
from headrace.components.serving.policy.spec import Plan, decide

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.components.serving.types import InferenceService

GOLDEN = Path(__file__).parent / "golden"
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sklearn-s3": ({"sklearn": {"storageUri": "s3://mlpipeline/models/digits"}}, {}),
    "model-pvc": (
        {
            "model": {
                "modelFormat": {"name": "sklearn"},
                "storageUri": "pvc://models/digits/1",
                "protocolVersion": "v2",
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
                "env": [{"name": "PREDICT_PROBA", "value": "true"}],
            },
            "minReplicas": 2,
            "serviceAccountName": "default-editor",
            "labels": {"team": "a"},
            "annotations": {"note": "n"},
        },
        {
            "labels": {"app.kubernetes.io/name": "digits"},
            "annotations": {
                "serving.kserve.io/deploymentMode": "Standard",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "kept": "yes",
            },
        },
    ),
    "custom": (
        {
            "containers": [
                {
                    "name": "mine",
                    "image": "python:3.11",
                    "args": ["serve.py"],
                    "ports": [{"containerPort": 5000, "name": "http"}],
                    "env": [{"name": "STORAGE_URI", "value": "s3://mlpipeline/x"}],
                }
            ]
        },
        {},
    ),
}


def rendered(service: InferenceService) -> tuple[Deployment, dict[str, Any]]:
    plan = decide(service)
    assert isinstance(plan, Plan), plan
    made = render.deployment(service, plan, credentials.environment([]))
    return made, _wire.to_builtins(render.service(service))


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, make_isvc: Callable[..., InferenceService]) -> None:
    predictor, metadata = CASES[name]
    deployment, service = rendered(make_isvc(predictor, uid="u1", **metadata))
    path = GOLDEN / f"{name}.yaml"
    made = [_wire.to_builtins(deployment), service]
    if os.environ.get("HEADRACE_UPDATE_GOLDEN"):
        path.write_text(yaml.safe_dump_all(made, sort_keys=True, width=120))
    assert list(yaml.safe_load_all(path.read_text())) == made


def changes(before: InferenceService, after: InferenceService) -> dict[str, Any]:
    return render.deployment_changes(rendered(before)[0], rendered(after)[0])


def test_nothing_changes_when_nothing_changed(make_isvc: Callable[..., InferenceService]) -> None:
    assert changes(make_isvc(), make_isvc()) == {}


def test_what_the_server_filled_in_stays(make_isvc: Callable[..., InferenceService]) -> None:
    desired = rendered(make_isvc())[0]
    stored = _wire.to_builtins(desired)
    stored["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 30
    stored["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "IfNotPresent"
    assert render.deployment_changes(_wire.convert(Deployment, stored), desired) == {}


def test_a_changed_uri_changes_the_template_only(make_isvc: Callable[..., InferenceService]) -> None:
    patch = changes(make_isvc(), make_isvc({"sklearn": {"storageUri": "s3://mlpipeline/models/other"}}))
    assert set(patch["spec"]) == {"template"}
    assert patch["spec"]["template"]["spec"]["initContainers"][0]["args"] == [
        "s3://mlpipeline/models/other",
        "/mnt/models",
    ]


def test_what_is_no_longer_wanted_is_removed(make_isvc: Callable[..., InferenceService]) -> None:
    patch = changes(make_isvc(), make_isvc({"sklearn": {"storageUri": "pvc://claim/m"}}))
    assert patch["spec"]["template"]["spec"]["initContainers"] is None


def test_replicas_go_back_to_one(make_isvc: Callable[..., InferenceService]) -> None:
    uri = {"sklearn": {"storageUri": "s3://mlpipeline/models/digits"}}
    assert changes(make_isvc({**uri, "minReplicas": 2}), make_isvc(uri)) == {"spec": {"replicas": 1}}


def test_what_somebody_edited_is_put_back(make_isvc: Callable[..., InferenceService]) -> None:
    desired = rendered(make_isvc())[0]
    edited = _wire.convert(Deployment, _wire.to_builtins(desired))
    edited.spec.template.spec.containers[0].image = "other"
    patch = render.deployment_changes(edited, desired)
    assert patch["spec"]["template"]["spec"]["containers"][0]["image"] == desired.spec.template.spec.containers[0].image

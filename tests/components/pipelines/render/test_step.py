"""A task's pod, by golden file; what stands in it is upstream's, but for the launcher's own variables."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from headrace.api import _wire
from headrace.components.pipelines.policy.values import ResolveError
from headrace.components.pipelines.render.platform import apply_config
from headrace.components.pipelines.render.step import step_pod

_SIMULATION = Path(__file__).parents[1] / "policy" / "simulation.py"
if "pipelines_simulation" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("pipelines_simulation", _SIMULATION)
    sys.modules["pipelines_simulation"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["pipelines_simulation"])

from pipelines_simulation import Simulation, component, constant, document, parameter, task  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"
RUNNER = (
    'program_path=$(mktemp -d)\n\nprintf "%s" "$0" > "$program_path/ephemeral_component.py"\n'
    "_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --component_module_path "
    '"$program_path/ephemeral_component.py" "$@"\n'
)
PIP = "python3 -m pip install --quiet"
INSTALL = f"{PIP} 'kfp==2.14.3' '--no-deps' && {PIP} 'pandas<3' && \"$0\" \"$@\"\n"
TRAIN = {
    "image": "{{$.inputs.parameters['image']}}",
    "command": ["sh", "-c", INSTALL, "sh", "-ec", RUNNER, "def train(): print('$HOME $$ $(x)')"],
    "args": ["--executor_input", "{{$}}", "--function_to_execute", "train"],
    "env": [{"name": "MODE", "value": "fast"}],
    "resources": {
        "cpuLimit": 0.5,
        "resourceMemoryLimit": "{{$.inputs.parameters['memory']}}",
        "memoryRequest": 1.0,
        "accelerator": {"resourceType": "nvidia.com/gpu", "resourceCount": "1"},
    },
}


def started(container=None, kubernetes=None, **inputs):
    given = {"image": "python:3.11", "memory": "2Gi"} | inputs
    train = component(
        "train", {name: parameter("STRING") for name in given} | {"more": parameter("LIST", defaultValue=[])}
    )
    train["outputDefinitions"]["artifacts"] = {
        "model": {"artifactType": {"schemaTitle": "system.Model", "schemaVersion": "0.0.1"}, "metadata": {"a": 1.0}}
    }
    tasks = {"train": task("comp-train", inputs={name: constant(value) for name, value in given.items()})}
    spec = document(tasks, {"comp-train": train})
    spec["deploymentSpec"]["executors"]["exec-train"]["container"] = container or TRAIN
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-train": kubernetes or {}}}}}}
    sim = Simulation({"pipeline_spec": spec, "platform_spec": platform})
    sim.turn()
    assert sim.finish is None, sim.finish
    sim.view.run.service_account = "default-editor"
    row = sim.task("train")
    spec = sim.spec.components["comp-train"]
    return step_pod(sim.view, row, spec, sim.spec.executor_of(spec).container)


def check_golden(name, value):
    """Compare with the file; HEADRACE_UPDATE_GOLDEN=1 writes it anew."""
    path = GOLDEN / f"{name}.yaml"
    text = yaml.safe_dump(value, sort_keys=False, width=110)
    if os.environ.get("HEADRACE_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def document_of(pod) -> dict:
    return json.loads(next(v.value for v in pod.spec.containers[0].env if v.name == "HEADRACE_TASK"))


def test_a_lightweight_step():
    pod = started().pod
    shown = _wire.to_builtins(pod)
    variable = next(v for v in shown["spec"]["containers"][0]["env"] if v["name"] == "HEADRACE_TASK")

    assert "$" not in variable["value"]  # Kubernetes would take it for references
    variable["value"] = json.loads(variable["value"])
    check_golden("lightweight", shown)


def test_every_part_of_the_kubernetes_configuration():
    config = {
        "secretAsEnv": [{"secretName": "s", "keyToEnv": [{"secretKey": "k", "envVar": "S"}], "optional": True}],
        "secretAsVolume": [{"secretName": "s", "mountPath": "/s"}],
        "configMapAsEnv": [{"configMapName": "c", "keyToEnv": [{"configMapKey": "k", "envVar": "C"}]}],
        "configMapAsVolume": [{"configMapName": "c", "mountPath": "/c", "optional": True}],
        "pvcMount": [{"constant": "claim", "mountPath": "/data", "subPath": "sub"}],
        "emptyDirMounts": [{"volumeName": "e", "mountPath": "/e", "medium": "Memory", "sizeLimit": "1Gi"}],
        "enabledSharedMemory": {"volumeName": "shm", "size": "64Mi"},
        "genericEphemeralVolume": [
            {
                "volumeName": "g",
                "mountPath": "/g",
                "accessModes": ["ReadWriteOnce"],
                "size": "1Gi",
                "defaultStorageClass": True,
            }
        ],
        "imagePullPolicy": "Always",
        "imagePullSecret": [{"secretName": "pull"}],
        "nodeSelector": {"labels": {"disk": "ssd"}},
        "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": "60"}],
        "nodeAffinity": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}], "weight": 5}],
        "podMetadata": {"labels": {"team": "mill", "pipeline/runid": "no"}, "annotations": {"note": "yes"}},
        "activeDeadlineSeconds": "600",
        "fieldPathAsEnv": [{"name": "IP", "fieldPath": "status.podIP"}],
        "securityContext": {"runAsUser": "1000", "runAsNonRoot": True},
    }
    plain, pod = started().pod, started(kubernetes=config).pod
    shown = _wire.to_builtins(pod)
    for part in ("env", "volumeMounts"):
        known = len(_wire.to_builtins(plain)["spec"]["containers"][0][part])
        shown["spec"]["containers"][0][part] = shown["spec"]["containers"][0][part][known:]
    check_golden("configured", shown)


def test_init_containers_and_terms_of_pod_affinity():
    config = {
        "emptyDirMounts": [{"volumeName": "shared", "mountPath": "/shared"}],
        "initContainers": [
            {
                "name": "prepare",
                "image": "alpine",
                "command": ["sh"],
                "args": ["-c", "true"],
                "env": [{"name": "A", "value": "1"}],
                "volumeMounts": [{"volumeName": "shared", "mountPath": "/x"}],
                "restartPolicy": "Always",
                "resources": {"requests": {"cpu": "50m"}, "limits": {"memory": "64Mi"}},
            }
        ],
        "podAffinity": [
            {"matchPodLabels": {"a": "b"}, "topologyKey": "host", "namespaces": ["n"]},
            {"matchPodExpressions": [{"key": "c", "operator": "Exists"}], "topologyKey": "host", "anti": True},
            {"matchPodLabels": {"d": "e"}, "matchNamespaceLabels": {"n": "1"}, "topologyKey": "z", "weight": 3},
        ],
    }
    spec = started(kubernetes=config).pod.spec

    assert _wire.to_builtins(spec.init_containers) == [
        {
            "name": "prepare",
            "image": "alpine",
            "command": ["sh"],
            "args": ["-c", "true"],
            "env": [{"name": "A", "value": "1"}],
            "volumeMounts": [{"name": "shared", "mountPath": "/x"}],
            "restartPolicy": "Always",
            "resources": {"requests": {"cpu": "50m"}, "limits": {"memory": "64Mi"}},
        }
    ]
    required, preferred = (f"{kind}DuringSchedulingIgnoredDuringExecution" for kind in ("required", "preferred"))
    selector = {"matchLabels": {"d": "e"}}
    weighed = {"topologyKey": "z", "labelSelector": selector, "namespaceSelector": {"matchLabels": {"n": "1"}}}
    assert spec.affinity == {
        "podAffinity": {
            required: [{"topologyKey": "host", "labelSelector": {"matchLabels": {"a": "b"}}, "namespaces": ["n"]}],
            preferred: [{"weight": 3, "podAffinityTerm": weighed}],
        },
        "podAntiAffinity": {
            required: [
                {"topologyKey": "host", "labelSelector": {"matchExpressions": [{"key": "c", "operator": "Exists"}]}}
            ]
        },
    }


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({}, "has no name"),
        ({"name": "main", "image": "a"}, "two containers named 'main'"),
        ({"name": "x"}, "init container 'x' has no image"),
        ({"name": "x", "image": "a", "restartPolicy": "Never"}, "restart policy Always only"),
        ({"name": "x", "image": "a", "env": [{"value": "1"}]}, "environment variable without a name"),
        ({"name": "x", "image": "a", "volumeMounts": [{"volumeName": "v", "mountPath": "m"}]}, "absolute path"),
        ({"name": "x", "image": "a", "volumeMounts": [{"volumeName": "v", "mountPath": "/m"}]}, "volume 'v', which"),
    ],
)
def test_init_containers_that_cannot_be(entry, problem):
    with pytest.raises((ResolveError, AssertionError), match=problem):
        started(kubernetes={"initContainers": [entry]})


def handed_on(*passthroughs, kubernetes=None, **more):
    """The task config that a component gets, and its pod."""
    container = {
        "image": "alpine",
        "command": ["true"],
        "env": [{"name": "MODE", "value": "fast"}],
        "resources": {"resourceCpuLimit": "2", "resourceMemoryRequest": "1Gi"},
    }
    say = component("say", {"config": parameter("TASK_CONFIG"), "text": parameter("STRING")})
    say["taskConfigPassthroughs"] = [dict(p) for p in passthroughs]
    spec = document({"say": task("comp-say", inputs={"text": constant("{{$.workspace_path}}")})}, {"comp-say": say})
    spec["deploymentSpec"]["executors"]["exec-say"]["container"] = container
    platform = {
        "deploymentSpec": {"executors": {"exec-say": kubernetes or {}}},
        "pipelineConfig": {"workspace": {"size": "1Gi"}},
    }
    sim = Simulation({"pipeline_spec": spec, "platform_spec": {"platforms": {"kubernetes": platform}}}, **more)
    sim.turn()
    assert sim.finish is None, sim.finish
    found = sim.spec.components["comp-say"]
    pod = step_pod(sim.view, sim.task("say"), found, sim.spec.executor_of(found).container).pod
    return document_of(pod)["executor_input"]["inputs"]["parameterValues"]["config"], pod


KUBERNETES = {
    "pvcMount": [{"constant": "data", "mountPath": "/data"}],
    "secretAsEnv": [{"secretName": "s", "keyToEnv": [{"secretKey": "k", "envVar": "S"}]}],
    "nodeSelector": {"labels": {"disk": "ssd"}},
    "tolerations": [{"key": "k", "operator": "Exists"}],
    "nodeAffinity": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}],
    "emptyDirMounts": [{"volumeName": "e", "mountPath": "/e"}],
}
FIELDS = ("RESOURCES", "ENV", "KUBERNETES_VOLUMES", "KUBERNETES_NODE_SELECTOR", "KUBERNETES_TOLERATIONS")
ALL = [{"field": name} for name in (*FIELDS, "KUBERNETES_AFFINITY")]


def test_settings_that_are_handed_on_are_a_value_and_not_the_pods():
    config, pod = handed_on(*ALL, kubernetes=KUBERNETES)
    main = pod.spec.containers[0]

    assert config["resources"] == {"limits": {"cpu": "2"}, "requests": {"memory": "1Gi"}}
    assert [v["name"] for v in config["env"]] == ["MODE", "S"]
    assert [v["name"] for v in config["volumes"]] == ["data", "kfp-workspace"]
    assert [m["mountPath"] for m in config["volumeMounts"]] == ["/data", "/kfp-workspace"]
    assert config["nodeSelector"] == {"disk": "ssd"}
    assert config["tolerations"] == [{"key": "k", "operator": "Exists"}]
    assert list(config["affinity"]) == ["nodeAffinity"]
    assert main.resources.limits == {}
    assert not {"MODE", "S"} & {v.name for v in main.env}
    assert "e" in {v.name for v in pod.spec.volumes}  # an emptyDir is the pod's in any case
    assert not {"data", "kfp-workspace"} & {v.name for v in pod.spec.volumes}
    assert (pod.spec.node_selector, pod.spec.tolerations, pod.spec.affinity) == ({}, [], None)


def test_a_passthrough_that_is_also_applied_and_what_is_not_named():
    config, pod = handed_on({"field": "ENV", "applyToTask": True}, kubernetes=KUBERNETES)

    assert [v["name"] for v in config["env"]] == ["MODE", "S"]
    assert config["volumes"] is config["nodeSelector"] is config["affinity"] is None
    assert config["resources"] == {}
    assert {"MODE", "S"} <= {v.name for v in pod.spec.containers[0].env}
    assert pod.spec.containers[0].resources.limits == {"cpu": "2"}
    assert {"data", "kfp-workspace"} <= {v.name for v in pod.spec.volumes}


def test_a_volume_where_the_workspace_is():
    with pytest.raises(ResolveError, match="mounts a volume at /kfp-workspace/x, where the run's workspace is"):
        handed_on(kubernetes={"pvcMount": [{"constant": "data", "mountPath": "/kfp-workspace/x"}]})


def test_a_step_that_is_no_lightweight_component_has_nothing_installed():
    pod = started({"image": "alpine", "command": ["sh", "-c", "echo $HOME"], "args": []}).pod

    assert "headrace.dev/requirements" not in pod.metadata.annotations
    assert "_KFP_RUNTIME" not in {v.name for v in pod.spec.containers[0].env}
    assert document_of(pod)["module"] == ""
    assert document_of(pod)["command"] == ["sh", "-c", "echo $HOME"]


def test_a_step_requests_a_little_when_it_names_nothing():
    plain = {"image": "alpine", "command": ["true"]}

    assert started(plain).pod.spec.containers[0].resources.requests == {"cpu": "50m", "memory": "64Mi"}
    limited = started({**plain, "resources": {"resourceMemoryLimit": "32Mi"}}).pod.spec.containers[0].resources
    assert (limited.requests, limited.limits) == ({"cpu": "50m"}, {"memory": "32Mi"})


def test_a_large_document_is_a_file():
    rendered = started(text="x" * 100_000)

    assert "HEADRACE_TASK" not in {v.name for v in rendered.pod.spec.containers[0].env}
    assert rendered.pod.spec.containers[0].args == ["/etc/headrace-task/task.json"]
    assert rendered.document.metadata.name == rendered.pod.metadata.name
    task_document = json.loads(rendered.document.data["task.json"])
    assert len(task_document["executor_input"]["inputs"]["parameterValues"]["text"]) == 100_000


def test_what_cannot_be_filled_in_is_said():
    with pytest.raises(ResolveError, match="placeholder for input parameter 'gone' cannot be filled"):
        started({"image": "{{$.inputs.parameters['gone']}}", "command": ["true"]})


def test_a_root_that_steps_cannot_reach():
    sim_root = "gs://bucket/root"
    train = component("train")
    sim = Simulation(document({"train": task("comp-train")}, {"comp-train": train}))
    sim.view.run.pipeline_root = sim_root
    from headrace.components.pipelines.policy.view import constants

    sim.view.constants = constants(sim.view.run, sim.spec)
    sim.turn()
    spec = sim.spec.components["comp-train"]
    with pytest.raises(ResolveError, match="is in no store that steps can reach; use minio:// or s3://"):
        step_pod(sim.view, sim.task("train"), spec, sim.spec.executor_of(spec).container)


@pytest.mark.parametrize(
    ("uri", "where"), [("gs://b/k", "in Google Cloud Storage"), ("oci://r/model:1", "a container image")]
)
def test_an_artifact_that_steps_cannot_read_is_refused_in_words(uri, where):
    read = component("read")
    read["inputDefinitions"]["artifacts"] = {"data": {"artifactType": {"schemaTitle": "system.Dataset"}}}
    bring = {"executorLabel": "exec-bring", "outputDefinitions": {"artifacts": {"artifact": {}}}}
    source = {"taskOutputArtifact": {"producerTask": "bring", "outputArtifactKey": "artifact"}}
    tasks = {"bring": task("comp-bring"), "read": {**task("comp-read"), "inputs": {"artifacts": {"data": source}}}}
    spec = document(tasks, {"comp-bring": bring, "comp-read": read})
    spec["deploymentSpec"]["executors"]["exec-bring"] = {"importer": {"artifactUri": {"constant": uri}}}
    sim = Simulation(spec)
    sim.turn()
    sim.turn()
    found = sim.spec.components["comp-read"]
    with pytest.raises(ResolveError, match=f"{where}.*which steps cannot read here; put it into the object store"):
        step_pod(sim.view, sim.task("read"), found, sim.spec.executor_of(found).container)


def test_an_empty_configuration_changes_nothing():
    pod = started().pod
    before = _wire.encode(pod)
    apply_config(pod, {})

    assert _wire.encode(pod) == before

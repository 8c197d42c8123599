"""Our own pipelines of kfp 1, one for each thing that its compiler makes an Argo Workflow of.

Run by an interpreter that has `kfp` 1.8: `python v1_pipelines.py v1.yaml` writes the workflows by name. What they come
to is in `expected_v1.yaml`. Steps are lightweight components, so that they run wherever Python does.
"""

# ruff: noqa: E402, F821, PTH118, PTH123 (components are small programs; the SDK warns when imported)

import os
import sys
import tempfile
import warnings
from typing import NamedTuple

warnings.simplefilter("ignore")

import kfp
import yaml
from kfp import compiler, dsl
from kfp.components import InputPath, OutputPath, create_component_from_func

IMAGE = "python:3.11-slim"
CASES = {}


def case(define):
    CASES[define.__name__] = define
    return define


def component(function):
    return create_component_from_func(function, base_image=IMAGE)


@component
def say(text: str) -> str:
    return text


@component
def add(a: float, b: float = 2.0) -> float:
    return a + b


@component
def numbers() -> NamedTuple("Numbers", [("items", list), ("mlpipeline_metrics", "Metrics")]):
    import json

    metrics = {"metrics": [{"name": "accuracy", "numberValue": 0.75, "format": "PERCENTAGE"}]}
    return ([1, 2, 3], json.dumps(metrics))


@component
def write(text: str, model_path: OutputPath("Model")):
    with open(model_path, "w") as file:
        file.write(text)


@component
def read(model_path: InputPath("Model")) -> str:
    with open(model_path) as file:
        return file.read()


@component
def fail(text: str) -> str:
    raise ValueError(text)


@case
def chain():
    def body(a: float = 1, b: float = 3):
        add(add(a, b).output)

    return body


@case
def artifacts():
    def body(text: str = "bytes"):
        say(read(write(text).outputs["model"]).output)

    return body


@case
def constant_artifact():
    def body():
        say(read("given as text").output)

    return body


@case
def conditions():
    def body(side: str = "left"):
        thrown = say(side)
        with dsl.Condition(thrown.output == "left", "left"):
            again = say("was left")
            with dsl.Condition(again.output != "something else"):
                say("nested")
        with dsl.Condition(thrown.output == "right"):
            say("was right")

    return body


@case
def after_branches():
    def body(side: str = "left"):
        with dsl.Condition(side == "left", "left"):
            left = say("was left")
        with dsl.Condition(side == "right", "right"):
            right = say("was right")
        failed = fail("as planned")
        say("all the same").after(left, right)
        say("never").after(right, failed)
        say("never").after(say("never either").after(failed))

    return body


@case
def loop_items():
    def body():
        with dsl.ParallelFor(["a", "b"]) as item:
            say(item)

    return body


@case
def loop_dictionaries():
    def body(last: str = "!"):
        with dsl.ParallelFor([{"a": "x", "b": "y"}, {"a": "z", "b": "w"}], parallelism=1) as item:
            say(item.a)
            say(item.b)
            say(last)

    return body


@case
def loop_output():
    def body():
        with dsl.ParallelFor(numbers().outputs["items"]) as item:
            add(item)

    return body


@case
def loop_parameter():
    def body(items: list = ["a", "b"]):  # noqa: B006
        with dsl.ParallelFor(items) as item:
            say(item)

    return body


@case
def loop_nested():
    def body():
        with dsl.ParallelFor([1, 2]) as outer, dsl.ParallelFor([10, 20]) as inner:
            add(outer, inner)

    return body


@case
def exit_handler():
    def body(text: str = "as planned"):
        with dsl.ExitHandler(say(text)):
            say("inside")

    return body


@case
def exit_handler_after_failure():
    def body():
        with dsl.ExitHandler(say("{{workflow.status}}")):
            fail("as planned")

    return body


@case
def retries():
    def body():
        fail("again").set_retry(2, backoff_duration="0s")

    return body


@case
def after():
    def body():
        say("second").after(say("first"))

    return body


@case
def settings():
    from kubernetes import client as k8s

    def body():
        task = say("configured")
        task.set_cpu_limit("500m").set_memory_request("64Mi").set_display_name("Shown")
        task.add_pod_annotation("note", "n").add_pod_label("team", "a").add_node_selector_constraint("disk", "ssd")
        task.add_env_variable(k8s.V1EnvVar(name="PLAIN", value="p"))
        reference = k8s.V1SecretKeySelector(name="keys", key="key")
        task.add_env_variable(k8s.V1EnvVar(name="KEY", value_from=k8s.V1EnvVarSource(secret_key_ref=reference)))
        task.add_toleration(k8s.V1Toleration(key="k", operator="Exists", effect="NoSchedule"))
        task.add_volume(k8s.V1Volume(name="s", secret=k8s.V1SecretVolumeSource(secret_name="keys")))
        task.add_volume_mount(k8s.V1VolumeMount(name="s", mount_path="/keys"))
        task.set_timeout(3600).set_image_pull_policy("Always")
        task.execution_options.caching_strategy.max_cache_staleness = "P0D"

    return body


@case
def volume():
    def body():
        made = dsl.VolumeOp(name="scratch", resource_name="scratch", size="10Mi", modes=dsl.VOLUME_MODE_RWO)
        say("on a volume").add_pvolumes({"/scratch": made.volume})

    return body


@component
def get_batch() -> NamedTuple("Outputs", [("datapoints", float), ("dataset_version", str)]):
    return [60000.0, "1.0"]


@component
def get_latest():
    print("nothing new")


@component
def train(epochs: int = 1, optimizer: str = "adam") -> NamedTuple(
    "Output", [("mlpipeline_ui_metadata", "UI_metadata"), ("mlpipeline_metrics", "Metrics")]
):
    import json

    shown = {"outputs": [{"type": "markdown", "storage": "inline", "source": f"# {optimizer}"}]}
    metrics = {"metrics": [{"name": "model_accuracy", "numberValue": 0.5 + epochs / 10, "format": "PERCENTAGE"}]}
    return [json.dumps(shown), json.dumps(metrics)]


@case
def digits():
    """The shape of a well-known example: lightweight steps in the order of `after`, files that kfp 1 shows."""

    def body(epochs, optimizer):
        reshape = say("reshaped").after(get_batch()).after(get_latest())
        trained = train(epochs, optimizer).after(reshape)
        say("served").after(trained)

    return body


def main(out):
    compiled = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, define in CASES.items():
            body = dsl.pipeline(name=name.replace("_", "-"), description=f"Shows {name}.")(define())
            path = os.path.join(folder, "one.yaml")
            compiler.Compiler().compile(body, path)
            with open(path) as file:
                compiled[name] = yaml.safe_load(file)
            compiled[name]["metadata"]["annotations"].pop("pipelines.kubeflow.org/pipeline_compilation_time", None)
    with open(out, "w") as file:
        file.write(f"# Written by sdk/v1_pipelines.py under kfp {kfp.__version__}: do not edit.\n")
        yaml.safe_dump(compiled, file, sort_keys=True, width=120)
    print(f"kfp {kfp.__version__}: {len(compiled)} workflows")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Our own pipelines, one for each construct of the IR and each function of kfp-kubernetes, and their compiler.

Run by an interpreter that has some `kfp` 2 and its `kfp-kubernetes`: `python pipelines.py compiled.yaml` adds what that
SDK compiles, name by name; start with no file and run it once for each SDK. A pipeline that needs what an SDK does not
have is left out for it (`@case(since=...)`). What they come to is in `expected.yaml`, so that the tests need no SDK.
"""

# ruff: noqa: E402, PLR0917, PTH110, PTH118, PTH123, RUF013 (components are small programs; SDKs warn when imported)

import os
import sys
import tempfile
import warnings

warnings.simplefilter("ignore")

import kfp
import yaml
from kfp import compiler, dsl, kubernetes
from kfp.dsl import (
    ClassificationMetrics,
    ConcatPlaceholder,
    ContainerSpec,
    Dataset,
    IfPresentPlaceholder,
    Input,
    Metrics,
    Output,
    OutputPath,
    PipelineTaskFinalStatus,
)

IMAGE = "python:3.11-slim"
VERSION = tuple(int(part) for part in kfp.__version__.split(".")[:2])
CASES = {}


def case(since=(2, 0)):
    """Under the function's name, when the SDK can."""

    def keep(define):
        if since <= VERSION:
            CASES[define.__name__] = define
        return define

    return keep


def pipeline(name, function, **more):
    return dsl.pipeline(name=name, **more)(function)


def shell(script, *args):
    return ContainerSpec(image=IMAGE, command=["sh", "-ec", script], args=list(args))


@dsl.container_component
def say(text: str, out: OutputPath(str)):
    return shell('mkdir -p "$(dirname "$1")"; printf %s "$0" > "$1"', text, out)


@dsl.container_component
def pair(first: str, second: str, out: OutputPath(str)):
    return shell('mkdir -p "$(dirname "$2")"; printf %s%s "$0" "$1" > "$2"', first, second, out)


@dsl.container_component
def say_nothing():
    return shell("true")


@dsl.container_component
def fail(text: str):
    return shell('echo "$0" >&2; exit 3', text)


@dsl.container_component
def numbers(out: OutputPath(list)):
    return shell('mkdir -p "$(dirname "$0")"; printf "[1, 2, 3]" > "$0"', out)


@dsl.container_component
def write(text: str, data: Output[Dataset]):
    return shell('mkdir -p "$(dirname "$1")"; printf %s "$0" > "$1"', text, data.path)


@dsl.container_component
def read(data: Input[Dataset], out: OutputPath(str)):
    return shell('mkdir -p "$(dirname "$1")"; cat "$0" > "$1"', data.path, out)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def join(words: list) -> str:
    return "+".join(str(word) for word in words)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def types(i: int, f: float, s: str, b: bool, li: list, d: dict) -> str:
    return repr([i, f, s, b, li, d])


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def optional(text: str = "own", absent: str = None) -> str:
    return f"{text} {absent}"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def measure(metrics: Output[Metrics], classes: Output[ClassificationMetrics]):
    metrics.log_metric("accuracy", 0.75)
    classes.log_confusion_matrix(["cat", "dog"], [[8, 2], [1, 9]])
    classes.log_roc_curve([0.0, 0.5, 1.0], [0.0, 0.8, 1.0], [1.0, 0.5, 0.0])


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ended(status: PipelineTaskFinalStatus) -> str:
    return f"{status.state} {status.pipeline_task_name}"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def read_all(data: Input[list[Dataset]]) -> str:
    return "+".join(open(one.path).read() for one in data)


@case()
def chain():
    def body(text: str = "a"):
        say(text=say(text=text).output)

    return body


@case()
def after():
    def body():
        say_nothing().after(say(text="first"))

    return body


@case()
def parameter_types():
    def body(i: int = 3, f: float = 2.5, s: str = "x", b: bool = True, li: list = [1, "a"], d: dict = {"k": 1.5}):  # noqa: B006
        types(i=i, f=f, s=s, b=b, li=li, d=d)

    return body


@case()
def optional_inputs():
    def body(given: str = "given"):
        optional()
        optional(text=given)

    return body


@case()
def artifacts():
    def body():
        read(data=write(text="bytes").outputs["data"])

    return body


@case()
def metrics():
    def body():
        measure()

    return body


@case()
def nested():
    @dsl.pipeline(name="inner")
    def inner(text: str) -> str:
        return say(text=say(text=text).output).output

    def body(text: str = "deep"):
        say(text=inner(text=text).output)

    return body


@case()
def conditions():
    def body(side: str = "left"):
        thrown = say(text=side)
        with dsl.If(thrown.output == "left"):
            say(text="was left")
        with dsl.Elif(thrown.output == "right"):
            say(text="was right")
        with dsl.Else():
            say(text="was neither")

    return body


@case()
def one_of():
    def body(side: str = "right"):
        with dsl.If(side == "left"):
            left = say(text="from the left")
        with dsl.Else():
            right = say(text="from the right")
        say(text=dsl.OneOf(left.outputs["out"], right.outputs["out"]))

    return body


@case()
def loop_raw():
    def body():
        with dsl.ParallelFor(["a", "b", "c"], parallelism=2) as item:
            say(text=item)

    return body


@case()
def loop_dictionaries():
    def body():
        with dsl.ParallelFor([{"k": "a"}, {"k": "b"}]) as item:
            say(text=item.k)

    return body


@case()
def loop_output():
    def body():
        with dsl.ParallelFor(numbers().output) as item:
            say(text=item)

    return body


@case()
def loop_nested():
    def body():
        with dsl.ParallelFor(["a", "b"]) as outer, dsl.ParallelFor(["x", "y"]) as inner:
            pair(first=outer, second=inner)

    return body


@case()
def collected_parameters():
    def body():
        with dsl.ParallelFor(["a", "b", "c"]) as item:
            said = say(text=item)
        join(words=dsl.Collected(said.output))

    return body


@case()
def collected_artifacts():
    def body():
        with dsl.ParallelFor(["a", "b"]) as item:
            wrote = write(text=item)
        read_all(data=dsl.Collected(wrote.outputs["data"]))

    return body


@case()
def exit_handler():
    def body():
        last = ended()
        with dsl.ExitHandler(last, name="guarded"):
            fail(text="as planned")

    return body


@case()
def ignore_upstream_failure():
    def body():
        failed = fail(text="as planned")
        say(text="all the same").after(failed).ignore_upstream_failure()

    return body


@case()
def failing():
    def body():
        say(text="never").after(fail(text="the reason"))

    return body


@case()
def importer():
    def body():
        found = dsl.importer(
            artifact_uri="minio://mlpipeline/v2/artifacts/kubeflow-user-example-com/given.txt",
            artifact_class=Dataset,
            reimport=False,
            metadata={"k": "v"},
        )
        read(data=found.output)

    return body


@case()
def retry():
    def body():
        fail(text="again").set_retry(num_retries=2, backoff_duration="0s")

    return body


@case()
def caching():
    def body():
        say(text="cached?").set_caching_options(False)
        say(text="cached")

    return body


@case()
def concat_and_if_present():
    @dsl.container_component
    def flags(out: OutputPath(str), given: str = None, absent: str = None):
        return ContainerSpec(
            image=IMAGE,
            command=["sh", "-ec", 'mkdir -p "$(dirname "$0")"; out="$0"; printf "%s " "$@" > "$out"', out],
            args=[
                ConcatPlaceholder(["--all=", given]),
                IfPresentPlaceholder("given", then=["--given", given], else_=["--no-given"]),
                IfPresentPlaceholder("absent", then=["--absent", absent], else_=["--no-absent"]),
            ],
        )

    def body():
        flags(given="yes")

    return body


@case()
def runtime_constants():
    def body():
        say(text=dsl.PIPELINE_TASK_NAME_PLACEHOLDER)

    return body


@case()
def environment():
    @dsl.container_component
    def show(out: OutputPath(str)):
        return shell('mkdir -p "$(dirname "$0")"; printf %s "$GREETING" > "$0"', out)

    def body():
        show().set_env_variable("GREETING", "hello")

    return body


@case()
def resources():
    def body():
        task = say(text="small")
        task.set_cpu_request("100m").set_cpu_limit("500m").set_memory_request("32Mi").set_memory_limit("256Mi")

    return body


@case(since=(2, 9))
def resources_by_parameter():
    def body(cpu: str = "250m", memory: str = "200Mi"):
        say(text="small").set_cpu_limit(cpu).set_memory_limit(memory)

    return body


@case(since=(2, 14))
def deadline_of_the_pipeline():
    try:
        config = dsl.PipelineConfig(active_deadline_seconds=3600)
    except TypeError:
        return None

    def body():
        say(text="in time")

    return body, {"pipeline_config": config}


# Each function of kfp-kubernetes


def configured(name, configure, since=(2, 0)):
    """One step, configured."""

    def define():
        if not hasattr(kubernetes, name.partition("__")[0]):
            return None

        def body():
            configure(say(text="configured"))

        return body

    define.__name__ = f"kubernetes_{name}"
    case(since)(define)


configured("add_node_selector", lambda t: kubernetes.add_node_selector(t, "disk", "ssd"))
configured("add_node_selector_json", lambda t: kubernetes.add_node_selector_json(t, {"disk": "ssd"}))
configured("add_pod_annotation", lambda t: kubernetes.add_pod_annotation(t, "note", "n"))
configured("add_pod_label", lambda t: kubernetes.add_pod_label(t, "team", "a"))
configured("add_toleration", lambda t: kubernetes.add_toleration(t, key="k", operator="Exists", effect="NoSchedule"))
configured(
    "add_toleration_json",
    lambda t: kubernetes.add_toleration_json(t, [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]),
)
configured(
    "add_node_affinity",
    lambda t: kubernetes.add_node_affinity(t, match_expressions=[{"key": "disk", "operator": "In", "values": ["ssd"]}]),
)
configured(
    "add_node_affinity_json",
    lambda t: kubernetes.add_node_affinity_json(
        t,
        {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 5,
                    "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]},
                }
            ]
        },
    ),
)
configured("set_image_pull_policy", lambda t: kubernetes.set_image_pull_policy(t, "Always"))
configured("set_image_pull_secrets", lambda t: kubernetes.set_image_pull_secrets(t, ["registry"]))
configured("set_timeout", lambda t: kubernetes.set_timeout(t, 3600))
configured("set_security_context", lambda t: kubernetes.set_security_context(t, run_as_user=1000, run_as_group=100))
configured("empty_dir_mount", lambda t: kubernetes.empty_dir_mount(t, "scratch", "/scratch", size_limit="10Mi"))
configured(
    "add_ephemeral_volume",
    lambda t: kubernetes.add_ephemeral_volume(
        t, volume_name="work", mount_path="/work-volume", access_modes=["ReadWriteOnce"], size="10Mi"
    ),
)
configured("use_secret_as_env", lambda t: kubernetes.use_secret_as_env(t, "keys", {"key": "KEY"}))
configured("use_secret_as_volume", lambda t: kubernetes.use_secret_as_volume(t, "keys", "/keys"))
configured("use_config_map_as_env", lambda t: kubernetes.use_config_map_as_env(t, "settings", {"color": "COLOR"}))
configured("use_config_map_as_volume", lambda t: kubernetes.use_config_map_as_volume(t, "settings", "/settings"))
configured("use_field_path_as_env", lambda t: kubernetes.use_field_path_as_env(t, "POD", "metadata.name"))
configured("mount_pvc", lambda t: kubernetes.mount_pvc(t, pvc_name="shared", mount_path="/shared"))


@case()
def kubernetes_CreatePVC_and_DeletePVC():  # noqa: N802 - after the functions
    def body():
        made = kubernetes.CreatePVC(
            pvc_name_suffix="-scratch", access_modes=["ReadWriteOnce"], size="10Mi", storage_class_name="standard"
        )
        task = say(text="on a volume")
        kubernetes.mount_pvc(task, pvc_name=made.outputs["name"], mount_path="/scratch")
        kubernetes.DeletePVC(pvc_name=made.outputs["name"]).after(task)

    return body


def without_sdk(document):
    inner = document.get("pipeline_spec", document)
    same = {key: value for key, value in inner.items() if key != "sdkVersion"}
    return [same, document.get("platform_spec")]


def main(out):
    """Add what this SDK compiles to what is in the file already; what is equal but for its sdkVersion is there once."""
    compiled = {}
    if os.path.exists(out):
        with open(out) as file:
            compiled = yaml.safe_load(file)
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, define in CASES.items():
            body = define()
            if body is None:
                continue
            count += 1
            body, more = body if isinstance(body, tuple) else (body, {})
            path = os.path.join(folder, "one.yaml")
            compiler.Compiler().compile(pipeline(name.replace("_", "-").lower(), body, **more), path)
            with open(path) as file:
                first, *rest = list(yaml.safe_load_all(file))
            document = {"pipeline_spec": first, "platform_spec": rest[0]} if rest else first
            known = compiled.setdefault(name, [])
            same = next((k for k in known if without_sdk(k["document"]) == without_sdk(document)), None)
            if same is None:
                known.append(same := {"sdks": [], "document": document})
            same["sdks"] = sorted({*same["sdks"], kfp.__version__})
    with open(out, "w") as file:
        file.write("# Written by sdk/pipelines.py under each of the SDKs that it names: do not edit.\n")
        yaml.safe_dump(compiled, file, sort_keys=True, width=120)
    print(f"kfp {kfp.__version__}: {count} pipelines")


if __name__ == "__main__":
    main(*sys.argv[1:])

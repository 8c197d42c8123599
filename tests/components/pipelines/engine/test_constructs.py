"""One pipeline per construct of the SDK, compiled by kfp and run to its end; expected values are kfp's semantics."""

# ruff: noqa: PTH123, PLR0917 (components are small programs that import what they need themselves)
# No `from __future__ import annotations` here: kfp reads the annotations of components.
import functools
import warnings
from typing import NamedTuple

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from kfp import dsl
    from kfp.dsl import (
        Artifact,
        ClassificationMetrics,
        Dataset,
        Input,
        Metrics,
        Model,
        Output,
        OutputPath,
        PipelineTaskFinalStatus,
    )

component = functools.partial(dsl.component, base_image="python:3.11-slim")


@component
def add(a: int, b: int) -> int:
    return a + b


@component
def say(text: str) -> str:
    print(text)
    return text


@component
def shout(text: str = "nothing") -> str:
    return text.upper()


@component
def fail(message: str) -> str:
    raise ValueError(message)


@component
def total(numbers: list) -> int:
    return sum(numbers)


@component
def write(text: str, data: Output[Dataset]):
    with open(data.path, "w") as file:
        file.write(text)
    data.metadata["length"] = len(text)


@component
def read(data: Input[Dataset]) -> str:
    with open(data.path) as file:
        return file.read()


@component
def read_all(data: Input[list[Dataset]]) -> str:
    texts = []
    for one in data:
        with open(one.path) as file:
            texts.append(file.read())
    return "+".join(texts)


@component
def flip(side: str) -> str:
    return side


@component
def describe(status: PipelineTaskFinalStatus) -> str:
    return f"{status.state}|{status.pipeline_task_name}|{status.error_message or ''}"


async def test_a_chain_of_parameters(lab):
    @dsl.pipeline(name="chain")
    def chain(a: int = 1, b: int = 2):
        first = add(a=a, b=b)
        add(a=first.output, b=10).set_display_name("the second")

    ended = await lab.run(chain, a=5)

    assert ended.state == "SUCCEEDED", ended.row.run.error_message
    assert ended.states == {"add": "SUCCEEDED", "add-2": "SUCCEEDED"}
    assert (ended.output("add"), ended.output("add-2")) == (7, 17)
    assert ended.task("add-2").display_name == "the second"
    assert ended.task("add").inputs.parameters == {"a": 5, "b": 2}


async def test_every_parameter_type_arrives_as_it_is(lab):
    @component
    def check(i: int, f: float, s: str, b: bool, li: list, d: dict, o: str = None) -> str:  # noqa: RUF013
        assert (i, f, s, b, li, d, o) == (3, 2.5, 'q"$(x)$$\n{{x}}', True, [1, "a"], {"k": [None, 1.5]}, None)
        return repr((type(i).__name__, type(b).__name__))

    @dsl.pipeline(name="types")
    def types(i: int, f: float, s: str, b: bool, li: list, d: dict):
        check(i=i, f=f, s=s, b=b, li=li, d=d)

    text = 'q"$(x)$$\n{{x}}'
    ended = await lab.run(types, i=3, f=2.5, s=text, b=True, li=[1, "a"], d={"k": [None, 1.5]})

    assert ended.state == "SUCCEEDED", lab.node.logs
    assert ended.output("check") == "('int', 'bool')"


async def test_constants_and_text_over_outputs(lab):
    @dsl.pipeline(name="constants")
    def constants(name: str = "ada"):
        first = say(text=f"hello {name}")
        say(text=f"<{first.output}> and {name}")
        say(text=dsl.PIPELINE_JOB_NAME_PLACEHOLDER)
        say(text=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER)
        say(text=dsl.PIPELINE_TASK_NAME_PLACEHOLDER)

    ended = await lab.run(constants)

    assert ended.state == "SUCCEEDED", lab.node.logs
    assert ended.output("say-2") == "<hello ada> and ada"
    assert ended.output("say-3") == "a run"
    assert ended.output("say-4").startswith("constants-")
    assert ended.output("say-5") == "say-5"


async def test_several_outputs_and_an_output_path(lab):
    @component
    def split(text: str, tail: OutputPath(str)) -> NamedTuple("Out", [("head", str), ("size", int)]):
        from collections import namedtuple

        with open(tail, "w") as file:
            file.write(text[1:])
        return namedtuple("Out", ["head", "size"])(text[0], len(text))  # noqa: PYI024

    @dsl.pipeline(name="several")
    def several():
        parts = split(text="river")
        say(text=parts.outputs["tail"])
        add(a=parts.outputs["size"], b=1)

    ended = await lab.run(several)

    assert ended.task("split").outputs.parameters == {"head": "r", "size": 5, "tail": "iver"}
    assert (ended.output("say"), ended.output("add")) == ("iver", 6)


async def test_artifacts_lie_in_the_object_store_below_the_namespace(lab):
    @dsl.pipeline(name="artifacts")
    def artifacts():
        read(data=write(text="water").outputs["data"])

    ended = await lab.run(artifacts)

    assert ended.output("read") == "water"
    (data,) = ended.artifacts("write", "data")
    assert (data.type, data.name, data.metadata) == ("system.Dataset", "data", {"length": 5})
    key = data.uri.removeprefix("minio://mlpipeline/")
    assert key.startswith(f"v2/artifacts/{data.namespace}/artifacts/{ended.row.run.id}/write/")
    assert await lab.get(key) == b"water"
    assert ended.task("read").inputs.artifacts == {"data": [data.id]}


async def test_an_artifact_may_be_a_folder(lab):
    @component
    def grow(model: Output[Model]):
        import pathlib

        root = pathlib.Path(model.path)
        (root / "deep").mkdir(parents=True)
        (root / "a.txt").write_text("a")
        (root / "deep" / "b.txt").write_text("b")
        model.metadata["framework"] = "none"

    @component
    def count(model: Input[Model]) -> str:
        import pathlib

        root = pathlib.Path(model.path)
        return ",".join(sorted(str(p.relative_to(root)) for p in root.rglob("*.txt"))) + model.metadata["framework"]

    @dsl.pipeline(name="folders")
    def folders():
        count(model=grow().outputs["model"])

    ended = await lab.run(folders)

    assert ended.state == "SUCCEEDED", lab.node.logs
    assert ended.output("count") == "a.txt,deep/b.txtnone"


async def test_metrics_keep_what_was_logged(lab):
    @component
    def evaluate(scalars: Output[Metrics], curves: Output[ClassificationMetrics]):
        scalars.log_metric("accuracy", 0.975)
        curves.log_confusion_matrix(["cat", "dog"], [[3, 1], [0, 4]])
        curves.log_roc_curve([0.0, 0.5, 1.0], [0.0, 0.9, 1.0], [float("inf"), 0.5, 0.0])

    @dsl.pipeline(name="metrics")
    def metrics():
        evaluate()

    ended = await lab.run(metrics)

    assert ended.state == "SUCCEEDED", lab.node.logs
    (scalars,) = ended.artifacts("evaluate", "scalars")
    (curves,) = ended.artifacts("evaluate", "curves")
    assert (scalars.type, scalars.metadata) == ("system.Metrics", {"accuracy": 0.975})
    assert curves.type == "system.ClassificationMetrics"
    assert curves.metadata["confusionMatrix"]["rows"] == [{"row": [3, 1]}, {"row": [0, 4]}]
    roc = curves.metadata["confidenceMetrics"]
    assert [(p["falsePositiveRate"], p["recall"]) for p in roc] == [(0.0, 0.0), (0.5, 0.9), (1.0, 1.0)]
    assert roc[0]["confidenceThreshold"] == "Infinity"


async def test_nested_pipelines(lab):
    @dsl.pipeline
    def inner(x: int, y: int = 100) -> int:
        return add(a=add(a=x, b=1).output, b=y).output

    @dsl.pipeline(name="outer")
    def outer() -> int:
        first = inner(x=1)
        return inner(x=first.output, y=5).output

    ended = await lab.run(outer)

    assert ended.state == "SUCCEEDED", ended.row.run.error_message
    assert ended.output("inner") == 102
    assert ended.output("inner-2") == 108
    assert ended.output("root") == 108
    assert ended.task("inner-2/add-2").inputs.parameters == {"a": 103, "b": 5}
    assert ended.task("inner").type == "DAG"


async def test_if_elif_else_with_one_of(lab):
    @dsl.pipeline(name="branches")
    def branches(side: str) -> str:
        thrown = flip(side=side)
        with dsl.If(thrown.output == "heads"):
            a = say(text="it's heads")
        with dsl.Elif(thrown.output == "tails"):
            b = say(text="it's tails")
        with dsl.Else():
            c = say(text="it's the edge")
        return shout(text=dsl.OneOf(a.output, b.output, c.output)).output

    ended = await lab.run(branches, side="tails")
    other = await lab.run(branches, side="neither")

    assert (ended.state, ended.output("root")) == ("SUCCEEDED", "IT'S TAILS")
    chosen = {path: state for path, state in ended.states.items() if path.startswith("condition-branches-1")}
    assert chosen == {
        "condition-branches-1": "SUCCEEDED",
        "condition-branches-1/condition-2": "SKIPPED",
        "condition-branches-1/condition-3": "SUCCEEDED",
        "condition-branches-1/condition-3/say-2": "SUCCEEDED",
        "condition-branches-1/condition-4": "SKIPPED",
    }
    assert ended.task("condition-branches-1").type == "CONDITION_BRANCH"
    assert ended.task("condition-branches-1/condition-3").type == "CONDITION"
    assert other.output("root") == "IT'S THE EDGE"


async def test_what_a_false_condition_skips(lab):
    @dsl.pipeline(name="not-taken")
    def not_taken():
        thrown = flip(side="heads")
        with dsl.If(thrown.output == "tails"):
            never = say(text="never")
            say(text=never.output)
        with dsl.If(thrown.output == "heads"):
            say(text="yes")

    ended = await lab.run(not_taken)

    assert ended.state == "SUCCEEDED"
    assert ended.states == {
        "flip": "SUCCEEDED",
        "condition-1": "SKIPPED",
        "condition-2": "SUCCEEDED",
        "condition-2/say-3": "SUCCEEDED",
    }


async def test_numbers_are_compared_as_numbers(lab):
    @component
    def score() -> float:
        return 0.97

    @dsl.pipeline(name="compare")
    def compare(threshold: float = 0.95, count: int = 3):
        result = score()
        with dsl.If(result.output >= threshold):
            say(text="good")
            with dsl.If(count > 2):
                say(text="many")
        with dsl.Else():
            say(text="bad")

    ended = await lab.run(compare)

    taken = {path for path, state in ended.states.items() if state == "SUCCEEDED" and "say" in path}
    assert {path.rsplit("/", 1)[-1] for path in taken} == {"say", "say-2"}


async def test_one_of_artifacts(lab):
    @dsl.pipeline(name="one-of-artifacts")
    def one_of_artifacts(side: str = "a"):
        thrown = flip(side=side)
        with dsl.If(thrown.output == "b"):
            first = write(text="from b")
        with dsl.Else():
            second = write(text="from else")
        read(data=dsl.OneOf(first.outputs["data"], second.outputs["data"]))

    ended = await lab.run(one_of_artifacts)

    assert ended.output("read") == "from else"


async def test_parallel_for_collects_in_order(lab):
    @dsl.pipeline(name="fan")
    def fan(numbers: list[int] = [3, 1, 2]) -> int:  # noqa: B006 - kfp reads it, nobody changes it
        with dsl.ParallelFor(numbers) as n:
            doubled = add(a=n, b=n)
        return total(numbers=dsl.Collected(doubled.output)).output

    ended = await lab.run(fan)

    assert ended.state == "SUCCEEDED", ended.row.run.error_message
    assert ended.task("for-loop-1").type == "LOOP"
    assert next(iter(ended.task("for-loop-1").outputs.parameters.values())) == [6, 2, 4]
    assert ended.output("root") == 12
    assert [t.iteration_index for t in ended.row.tasks if t.iteration_index is not None] == [0, 1, 2]


async def test_parallel_for_over_fixed_items_with_fields(lab):
    @dsl.pipeline(name="fields")
    def fields():
        with dsl.ParallelFor([{"a": 1, "b": 10}, {"a": 2, "b": 20}]) as item:
            add(a=item.a, b=item.b)

    ended = await lab.run(fields)

    assert [ended.output(f"for-loop-2/{i}/add") for i in range(2)] == [11, 22]


async def test_parallel_for_over_an_output_and_nested_loops(lab):
    @component
    def numbers(n: int) -> list[int]:
        return list(range(n))

    @dsl.pipeline(name="nested-loops")
    def nested_loops() -> int:
        outer = numbers(n=2)
        with dsl.ParallelFor(outer.output) as x, dsl.ParallelFor([10, 20]) as y:
            summed = add(a=x, b=y)
        return total(numbers=dsl.Collected(summed.output)).output

    ended = await lab.run(nested_loops)

    assert ended.state == "SUCCEEDED", ended.row.run.error_message
    assert ended.task("total").inputs.parameters["numbers"] == [10, 20, 11, 21]
    assert ended.output("root") == 62


async def test_a_loop_over_nothing(lab):
    @dsl.pipeline(name="empty")
    def empty(numbers: list[int]):
        with dsl.ParallelFor(numbers) as n:
            doubled = add(a=n, b=n)
        total(numbers=dsl.Collected(doubled.output))

    ended = await lab.run(empty, numbers=[])

    assert (ended.state, ended.output("total")) == ("SUCCEEDED", 0)


async def test_collected_artifacts(lab):
    @dsl.pipeline(name="collected-artifacts")
    def collected_artifacts():
        with dsl.ParallelFor(["a", "b", "c"]) as letter:
            made = write(text=letter)
        read_all(data=dsl.Collected(made.outputs["data"]))

    ended = await lab.run(collected_artifacts)

    assert ended.output("read-all") == "a+b+c"


async def test_parallelism_is_limited(lab):
    @dsl.pipeline(name="limited")
    def limited():
        with dsl.ParallelFor(["a", "b", "c", "d"], parallelism=2) as letter:
            say(text=letter)

    lab.node.hold.clear()
    run_id = await lab.start(limited)
    await lab.until_pods(2)
    lab.node.hold.set()
    ended = await lab.ended(run_id)

    assert ended.state == "SUCCEEDED"
    assert len(lab.node.started) == 4


async def test_the_exit_task_runs_after_a_failure_and_is_told_of_it(lab):
    @dsl.pipeline(name="exits")
    def exits():
        with dsl.ExitHandler(describe()):
            fail(message="spring tide")
            say(text="beside it")

    ended = await lab.run(exits)

    assert ended.state == "FAILED"
    assert "spring tide" in ended.row.run.error_message
    assert ended.states == {
        "exit-handler-1": "FAILED",
        "exit-handler-1/fail": "FAILED",
        "exit-handler-1/say": "SUCCEEDED",
        "describe": "SUCCEEDED",
    }
    assert ended.task("exit-handler-1").type == "EXIT_HANDLER"
    state, task, message = ended.output("describe").split("|")
    assert (state, task) == ("FAILED", "exit-handler-1")
    assert "ValueError: spring tide" in message


async def test_the_exit_task_after_success_sees_the_word_that_upstream_uses(lab):
    @dsl.pipeline(name="exits-well")
    def exits_well():
        with dsl.ExitHandler(describe()):
            say(text="fine")

    ended = await lab.run(exits_well)

    assert ended.state == "SUCCEEDED"
    assert ended.output("describe").startswith("COMPLETE|exit-handler-1|")


async def test_a_task_may_ignore_that_its_upstream_failed(lab):
    @dsl.pipeline(name="ignores")
    def ignores():
        broken = fail(message="no")
        shout(text=broken.output).ignore_upstream_failure()
        say(text=broken.output)

    ended = await lab.run(ignores)

    assert ended.state == "FAILED"
    assert ended.states == {"fail": "FAILED", "shout": "SUCCEEDED", "say": "SKIPPED"}
    assert ended.output("shout") == "NOTHING"
    assert ended.task("say").error_message == "Not run, because task 'fail' failed."


async def test_branches_that_do_not_depend_on_a_failure_go_on(lab):
    @dsl.pipeline(name="apart")
    def apart():
        fail(message="no")
        add(a=add(a=1, b=1).output, b=1)

    ended = await lab.run(apart)

    assert ended.states == {"fail": "FAILED", "add": "SUCCEEDED", "add-2": "SUCCEEDED"}
    assert ended.state == "FAILED"


async def test_an_importer(lab):
    await lab.put(f"v2/artifacts/{lab.namespace}/given.txt", b"from before")
    uri = f"minio://mlpipeline/v2/artifacts/{lab.namespace}/given.txt"

    @dsl.pipeline(name="imports")
    def imports(where: str):
        brought = dsl.importer(artifact_uri=where, artifact_class=Dataset, metadata={"origin": "outside"})
        read(data=brought.output)

    ended = await lab.run(imports, where=uri)

    assert ended.output("read") == "from before"
    (artifact,) = ended.artifacts("importer", "artifact")
    assert (artifact.uri, artifact.type, artifact.metadata) == (uri, "system.Dataset", {"origin": "outside"})
    assert ended.task("importer").type == "IMPORTER"


async def test_optional_inputs(lab):
    @component
    def maybe(a: str = "default", b: str = None, data: Input[Artifact] = None) -> str:  # noqa: RUF013
        return f"{a}|{b}|{data}"

    @dsl.pipeline
    def inner(x: str = None):  # noqa: RUF013
        maybe(a=x)

    @dsl.pipeline(name="optional")
    def optional(given: str = None):  # noqa: RUF013
        maybe()
        maybe(a=given, b="set")
        inner()

    ended = await lab.run(optional)

    assert ended.state == "SUCCEEDED", (ended.row.run.error_message, lab.node.logs)
    assert ended.output("maybe") == "default|None|None"
    assert ended.output("maybe-2") == "default|set|None"
    assert ended.output("inner/maybe") == "default|None|None"


async def test_container_components_with_placeholders(lab):
    @dsl.container_component
    def shell(name: str, out: OutputPath(str), data: Output[Dataset], more: str = None):  # noqa: RUF013
        return dsl.ContainerSpec(
            image="alpine:3",
            command=["sh", "-c", 'mkdir -p "$(dirname "$2")"; printf "%s" "$0 $1" > "$2"; echo "$@" > "$3"'],
            args=[
                dsl.ConcatPlaceholder(["<", name, ">"]),
                dsl.IfPresentPlaceholder(input_name="more", then=more, else_="less"),
                out,
                data.path,
            ],
        )

    @dsl.pipeline(name="containers")
    def containers():
        made = shell(name="mill")
        shell(name="mill", more="more")
        read(data=made.outputs["data"])

    ended = await lab.run(containers)

    assert ended.state == "SUCCEEDED", lab.node.logs
    assert ended.output("shell", "out") == "<mill> less"
    assert ended.output("shell-2", "out") == "<mill> more"
    assert ended.output("read").startswith("less /")


async def test_a_step_that_fails_names_its_reason(lab):
    @dsl.pipeline(name="fails")
    def fails():
        say(text=fail(message="the weir broke").output)

    ended = await lab.run(fails)

    task = ended.task("fail")
    assert (ended.state, task.state) == ("FAILED", "FAILED")
    assert task.error_message == "The step's program exited with code 1: ValueError: the weir broke"
    assert ended.row.run.error_message == f"Task 'fail': {task.error_message}"
    log = await lab.log_of(task.pod_name)
    assert "Traceback" in log
    assert "kfp_launcher" not in log

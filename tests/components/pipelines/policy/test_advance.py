"""What a run does next, decision by decision, without pods and without a database."""

from __future__ import annotations

import datetime as dt
import importlib.util
import sys
from pathlib import Path

import pytest

from headrace.components.pipelines.policy.plan import find_task, pod_name, task_id
from headrace.components.pipelines.store.models import Run, RuntimeState

_NAME = "pipelines_simulation"
if _NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_NAME, Path(__file__).with_name("simulation.py"))
    sys.modules[_NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_NAME])

from pipelines_simulation import (  # noqa: E402 - it exists from here on
    Failed,
    Simulation,
    component,
    constant,
    document,
    output_of,
    parameter,
    task,
)

TEXT = {"text": parameter("STRING")}
SAY = {"comp-say": component("say", TEXT)}


def fails(**_):
    raise Failed("it broke")


def test_one_plan_starts_everything_that_can_start():
    sim = Simulation(
        document({"a": task("comp-a"), "b": task("comp-a"), "c": task("comp-a", "a")}, {"comp-a": component("a")})
    )
    plan = sim.turn()

    assert [row.path for row in plan.create] == ["root", "root/a", "root/b", "root/c"]
    assert sorted(plan.start) == ["root/a", "root/b"]
    assert sim.turn().start == []
    assert sim.turn().updates == []


def test_the_next_step_is_decided_from_the_record_alone():
    sim = Simulation(
        document(
            {
                "a": task("comp-say", inputs={"text": constant("x")}),
                "b": task("comp-say", inputs={"text": output_of("a")}),
            },
            SAY,
        ),
        {"a": lambda text: text + "!"},
    )
    sim.run()

    assert sim.order == ["a", "b"]
    assert sim.task("b").inputs.parameters == {"text": "x!"}
    assert (sim.finish.state, sim.task("root").state) == ("SUCCEEDED", "SUCCEEDED")


def test_names_follow_from_the_place_in_the_run():
    run = Run(
        "11111111-2222-3333-4444-555555555555", "home", "exp", "a run", pipeline_name="My_Pipeline-with-a-long-name"
    )

    assert pod_name(run, "root/for-loop-1/3/Train Model", 2) == pod_name(run, "root/for-loop-1/3/Train Model", 2)
    assert pod_name(run, "root/a", 0).startswith("my-pipeline-with-a-l-11111-a-")
    assert len({pod_name(run, f"root/loop/{i}/a", n) for i in range(10) for n in range(3)}) == 30
    assert len(pod_name(run, "root/" + "x" * 200, 12)) <= 63
    assert task_id("r", "root/a") == task_id("r", "root/a") != task_id("s", "root/a")


def test_a_failure_fails_the_scope_when_the_rest_has_ended():
    sim = Simulation(
        document(
            {
                "bad": task("comp-a"),
                "after": task("comp-a", "bad"),
                "last": task("comp-a", "after"),
                "other": task("comp-a"),
            },
            {"comp-a": component("a")},
        ),
        {"bad": fails},
    )
    sim.turn()
    sim.step("root/bad")
    assert sim.turn().finish is None
    sim.step("root/other")
    sim.turn()

    assert sim.states == {"bad": "FAILED", "after": "SKIPPED", "last": "SKIPPED", "other": "SUCCEEDED"}
    assert sim.task("after").error_message == "Not run, because task 'bad' failed."
    assert (sim.finish.state, sim.finish.message) == ("FAILED", "Task 'bad': it broke")


@pytest.mark.parametrize("first", ["fails", "works"])
def test_a_task_that_runs_after_completion(first):
    after = task(
        "comp-say",
        "first",
        inputs={"text": output_of("first")},
        triggerPolicy={"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"},
    )
    say = component("say", {"text": parameter("STRING", isOptional=True, defaultValue="none")})
    sim = Simulation(
        document({"first": task("comp-a"), "after": after}, {"comp-a": component("a"), "comp-say": say}),
        {"first": fails if first == "fails" else lambda: "x"},
    )
    sim.run()

    assert sim.states["after"] == "SUCCEEDED"
    assert sim.task("after").inputs.parameters == ({} if first == "fails" else {"text": "x"})
    assert sim.finish.state == ("FAILED" if first == "fails" else "SUCCEEDED")


@pytest.mark.parametrize("strategy", ["ALL_UPSTREAM_TASKS_SUCCEEDED_OR_NOT_TAKEN", "ALL_UPSTREAM_TASKS_SUCCEEDED"])
def test_what_comes_after_a_branch_that_was_not_taken(strategy):
    policy = {"triggerPolicy": {"strategy": strategy}}
    sim = Simulation(
        document(
            {
                "branch": task("comp-a", triggerPolicy={"condition": "false"}),
                "bad": task("comp-a"),
                "after": task("comp-a", "branch", **policy),
                "after-both": task("comp-a", "branch", "bad", **policy),
                "last": task("comp-a", "after-both", **policy),
                "needs": task("comp-say", inputs={"text": output_of("branch")}, **policy),
            },
            {"comp-a": component("a"), **SAY},
        ),
        {"bad": fails},
    )
    sim.run()

    past = strategy.endswith("NOT_TAKEN")
    assert sim.states["branch"] == sim.states["after-both"] == sim.states["last"] == "SKIPPED"
    assert sim.states["after"] == ("SUCCEEDED" if past else "SKIPPED")
    assert sim.states["needs"] == ("FAILED" if past else "SKIPPED")
    assert ("branch" in sim.task("needs").error_message) is past, sim.task("needs").error_message


STATUS = {"comp-exit": component("exit", {"status": parameter("TASK_FINAL_STATUS", isOptional=True)})}


@pytest.mark.parametrize(
    ("step", "state", "error"), [(fails, "FAILED", {"code": 13, "message": "it broke"}), (lambda: "x", "COMPLETE", {})]
)
def test_the_final_status(step, state, error):
    exit_task = task(
        "comp-exit",
        "work",
        inputs={"status": {"taskFinalStatus": {"producerTask": "work"}}},
        triggerPolicy={"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"},
    )
    sim = Simulation(
        document({"work": task("comp-a"), "exit": exit_task}, {"comp-a": component("a"), **STATUS}), {"work": step}
    )
    sim.run()

    assert sim.task("exit").inputs.parameters["status"] == {
        "state": state,
        "error": error,
        "pipelineJobResourceName": "simulated-11111",
        "pipelineTaskName": "work",
    }


def test_a_false_condition_skips_and_is_no_failure():
    inputs = {"text": output_of("a")}
    sim = Simulation(
        document(
            {
                "a": task("comp-say", inputs={"text": constant("no")}),
                "b": task(
                    "comp-say", inputs=inputs, triggerPolicy={"condition": "inputs.parameter_values['text'] == 'yes'"}
                ),
                "c": task("comp-say", inputs={"text": output_of("b")}),
            },
            SAY,
        ),
        {"a": lambda text: text},
    )
    sim.run()

    assert sim.states == {"a": "SUCCEEDED", "b": "SKIPPED", "c": "SKIPPED"}
    assert sim.task("c").error_message == ""
    assert sim.finish.state == "SUCCEEDED"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (output_of("a", "number"), "Input parameter 'flag' must be BOOLEAN, but its value is a number."),
        (constant("yes"), "Input parameter 'flag' must be BOOLEAN, but its value is a string."),
    ],
)
def test_an_input_that_does_not_fit_fails_the_task(source, sentence):
    components = {
        "comp-a": component("a", outputs={"number": parameter("PARAMETER_TYPE_ENUM_UNSPECIFIED")}),
        "comp-b": component("b", {"flag": parameter("BOOLEAN")}),
    }
    sim = Simulation(
        document({"a": task("comp-a"), "b": task("comp-b", "a", inputs={"flag": source})}, components),
        {"a": lambda: {"number": 3}},
    )
    sim.run()

    assert (sim.task("b").state, sim.task("b").error_message) == ("FAILED", sentence)
    assert sim.finish.message == f"Task 'b': {sentence}"


def loop(items: str, body: dict, *, limit: int = 0, outputs: dict | None = None) -> dict:
    """A pipeline with one loop whose body is a DAG over `item`."""
    components = {
        **SAY,
        "comp-body": {
            "dag": {"tasks": body, "outputs": outputs or {}},
            "inputDefinitions": {"parameters": {"item": parameter("STRING")}},
            "outputDefinitions": {
                "parameters": {name: parameter("LIST") for name in (outputs or {}).get("parameters", {})}
            },
        },
        "comp-total": component("total", {"all": parameter("LIST")}),
    }
    looping = task(
        "comp-body",
        parameterIterator={"itemInput": "item", "items": {"raw": items}},
        iteratorPolicy={"parallelismLimit": limit},
    )
    tasks = {"loop": looping}
    if outputs:
        tasks["total"] = task("comp-total", "loop", inputs={"all": output_of("loop", "said")})
    return document(tasks, components)


BODY = {"say": task("comp-say", inputs={"text": {"componentInputParameter": "item"}})}
SAID = {"parameters": {"said": {"valueFromParameter": {"producerSubtask": "say", "outputParameterKey": "Output"}}}}


def test_a_loop_collects_in_the_order_of_its_items():
    sim = Simulation(loop('["c", 1, {"k": 2.0}]', BODY, outputs=SAID), {"say": lambda text: f"<{text}>"})
    plan = sim.turn()
    assert plan.start == ["root/loop/0/say", "root/loop/1/say", "root/loop/2/say"]
    for path in reversed(plan.start):
        sim.step(path)
    sim.run()

    assert sim.task("total").inputs.parameters["all"] == ["<c>", "<1>", '<{"k":2}>']
    assert sim.finish.state == "SUCCEEDED"


def test_a_loop_keeps_to_its_limit():
    sim = Simulation(loop('["a", "b", "c"]', BODY, limit=2))
    assert sim.turn().start == ["root/loop/0/say", "root/loop/1/say"]
    sim.step("root/loop/1/say")

    assert sim.turn().start == ["root/loop/2/say"]
    assert sim.states["loop/1"] == "SUCCEEDED"


def test_the_other_iterations_go_on_when_one_fails():
    def say(text):
        if text == "b":
            raise Failed("no b")
        return text

    sim = Simulation(loop('["a", "b", "c"]', BODY, outputs=SAID), {"say": say})
    sim.run()

    assert [sim.states[f"loop/{i}"] for i in range(3)] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert (sim.states["loop"], sim.states["total"]) == ("FAILED", "SKIPPED")
    assert sim.finish.message == "Task 'say': no b"


@pytest.mark.parametrize("items", ["{", '{"a": 1}', "3"])
def test_a_loop_over_something_else_fails(items):
    sim = Simulation(loop(items, BODY))
    sim.run()

    assert sim.finish.state == "FAILED"
    assert "A loop needs a list" in sim.finish.message


def test_a_branch_that_is_not_taken_in_an_iteration_collects_nothing():
    body = {"say": BODY["say"] | {"triggerPolicy": {"condition": "inputs.parameter_values['text'] != 'b'"}}}
    sim = Simulation(loop('["a", "b", "c"]', body, outputs=SAID), {"say": lambda text: text})
    sim.run()

    assert sim.task("total").inputs.parameters["all"] == ["a", "c"]


def retrying(**policy) -> dict:
    return document({"a": task("comp-a", retryPolicy=policy)}, {"comp-a": component("a")})


def test_a_retry_waits_for_its_time_and_then_has_a_new_pod():
    sim = Simulation(retrying(maxRetryCount=1, backoffDuration="60s"), {"a": fails})
    sim.run()

    first, second = sim.task("a"), sim.plans[-1].wake_at
    assert (first.state, first.attempt, first.pod_name) == ("PENDING", 1, "")
    assert second == sim.now + dt.timedelta(seconds=60)
    sim.now, sim.moved = sim.now + dt.timedelta(seconds=59), True
    assert sim.turn().start == []
    sim.now, sim.moved = sim.now + dt.timedelta(seconds=1), True
    assert sim.turn().start == ["root/a"]
    assert sim.task("a").pod_name.endswith("-1")
    sim.step("root/a")
    assert sim.turn().finish.state == "FAILED"
    assert len(sim.task("a").detail["failed_pods"]) == 1


def test_what_would_fail_again_is_not_retried():
    def hopeless(**_):
        raise Failed("no such image", code=9)

    sim = Simulation(retrying(maxRetryCount=5), {"a": hopeless})
    sim.run()

    assert (sim.finish.state, sim.task("a").attempt) == ("FAILED", 0)


def ends_with(*codes):
    """A step that fails with these codes, one after the other, and then succeeds."""
    left = list(codes)

    def step(**_):
        if left:
            raise Failed("it ended", code=left.pop(0))
        return {}

    return step


LOST, BROKEN = 14, 13


@pytest.mark.parametrize(
    ("codes", "retries", "state", "attempts"),
    [
        ((LOST,), 0, "SUCCEEDED", 2),
        ((LOST, BROKEN), 0, "FAILED", 2),
        ((LOST, BROKEN, LOST), 1, "SUCCEEDED", 4),
        ((BROKEN, LOST, BROKEN), 1, "FAILED", 3),
        ((LOST,) * 6, 0, "FAILED", 6),
    ],
)
def test_a_step_that_was_lost_begins_again_and_keeps_its_retries(codes, retries, state, attempts):
    sim = Simulation(retrying(maxRetryCount=retries), {"a": ends_with(*codes)})
    sim.run()

    assert sim.finish.state == state
    assert sim.order == ["a"] * attempts
    assert sim.task("a").attempt == attempts - 1


def test_a_task_has_the_retry_policy_of_the_scope_around_it():
    components = {"comp-a": component("a"), "comp-dag": {"dag": {"tasks": {"a": task("comp-a")}}}}
    sim = Simulation(document({"dag": task("comp-dag", retryPolicy={"maxRetryCount": 2})}, components), {"a": fails})
    sim.run()

    assert sim.task("dag/a").attempt == 2


def test_a_report_of_an_earlier_attempt_changes_nothing():
    sim = Simulation(retrying(maxRetryCount=1), {"a": fails})
    sim.run()
    row = sim.task("a")
    sim.view.tasks["root/a"].report = {"attempt": row.attempt - 1, "state": "FAILED"}
    sim.view.tasks["root/a"].state = RuntimeState.RUNNING

    assert sim.turn().updates == []


def test_termination_ends_everything_at_once():
    sim = Simulation(document({"a": task("comp-a"), "b": task("comp-a", "a")}, {"comp-a": component("a")}))
    sim.turn()
    sim.view.run.state, sim.moved = RuntimeState.CANCELING, True
    plan = sim.turn()

    assert plan.stop == [sim.task("a").pod_name]
    assert set(sim.states.values()) == {"CANCELED"}
    assert plan.finish.state == "CANCELED"


def cached(text: str) -> dict:
    tasks = {"a": task("comp-say", inputs={"text": constant(text)}, cachingOptions={"enableCache": True})}
    return document(tasks, SAY)


def test_a_hit_takes_the_outputs_of_the_earlier_task():
    first = Simulation(cached("x"), {"a": lambda text: "made"}).run()
    second = Simulation(cached("x"))
    second.cache = first.cache
    plan = second.turn()

    assert plan.start == []
    assert second.task("a").cached_from == first.task("a").id
    assert first.task("a").detail["cache"].startswith("It ran: no task of this pipeline that succeeded in this")
    assert second.task("a").detail["cache"].startswith("Its outputs are those of an earlier task of this pipeline")
    assert (second.task("a").state, second.task("a").outputs.parameters) == ("SUCCEEDED", {"Output": "made"})
    assert second.finish.state == "SUCCEEDED"


def test_no_hit_with_other_inputs_or_with_outputs_missing():
    first = Simulation(cached("x"), {"a": lambda text: {}}).run()
    for text in ("x", "y"):
        second = Simulation(cached(text))
        second.cache = first.cache
        assert second.turn().start == ["root/a"]


def test_the_root_takes_values_defaults_and_nulls():
    inputs = {
        "a": parameter("STRING"),
        "b": parameter("NUMBER_INTEGER", defaultValue=2.0),
        "c": parameter("STRING", isOptional=True),
    }
    sim = Simulation(
        document({"t": task("comp-a")}, {"comp-a": component("a")}, inputDefinitions={"parameters": inputs}), a="x"
    )
    sim.run()
    missing = Simulation(
        document({"t": task("comp-a")}, {"comp-a": component("a")}, inputDefinitions={"parameters": inputs})
    )
    missing.run()

    assert sim.task("root").inputs.parameters == {"a": "x", "b": 2, "c": None}
    assert (missing.finish.state, missing.finish.message) == (
        "FAILED",
        "The run gives no value for the pipeline's parameter 'a'.",
    )


def test_an_importer_needs_no_pod_and_is_repeated_until_it_is_recorded():
    components = {
        "comp-importer": {
            "executorLabel": "exec-importer",
            "inputDefinitions": {"parameters": {"uri": parameter("STRING")}},
            "outputDefinitions": {"artifacts": {"artifact": {"artifactType": {"schemaTitle": "system.Dataset"}}}},
        }
    }
    doc = document({"bring": task("comp-importer", inputs={"uri": constant("s3://b/k")})}, components)
    doc["deploymentSpec"]["executors"]["exec-importer"] = {
        "importer": {
            "artifactUri": {"runtimeParameter": "uri"},
            "typeSchema": {"schemaTitle": "system.Dataset"},
            "metadata": {"from": "{{$.inputs.parameters['uri']}}"},
        }
    }
    sim = Simulation(doc)
    plan = sim.turn()
    ((path, new),) = plan.imports
    assert (path, new.uri, new.metadata) == ("root/bring", "s3://b/k", {"from": "s3://b/k"})
    assert sim.turn().finish.state == "SUCCEEDED"


def test_kubernetes_configuration_is_resolved_with_the_inputs():
    doc = {
        "pipeline_spec": document(
            {
                "a": task("comp-say", inputs={"text": constant("my-secret")}),
                "b": task("comp-say", inputs={"text": output_of("a")}),
            },
            {**SAY},
        ),
        "platform_spec": {
            "platforms": {
                "kubernetes": {
                    "deploymentSpec": {
                        "executors": {
                            "exec-say": {
                                "secretAsEnv": [
                                    {
                                        "keyToEnv": [{"secretKey": "k", "envVar": "E"}],
                                        "secretNameParameter": {"runtimeValue": {"constant": "fixed"}},
                                    }
                                ],
                            }
                        }
                    }
                }
            }
        },
    }
    sim = Simulation(doc, {"a": lambda text: text})
    sim.turn()
    assert sim.task("a").detail["kubernetes"]["secretAsEnv"][0]["secretName"] == "fixed"
    doc["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-say"] = {"podAffinity": [{}]}
    refused = Simulation(doc)
    refused.run()
    assert "A term of the task's podAffinity has no topologyKey." in refused.finish.message


def test_find_task():
    sim = Simulation(loop('["a"]', BODY))

    assert find_task(sim.spec, "root")[1] is None
    assert find_task(sim.spec, "root/loop/0/say")[0] is sim.spec.components["comp-say"]
    with pytest.raises(KeyError):
        find_task(sim.spec, "root/none")

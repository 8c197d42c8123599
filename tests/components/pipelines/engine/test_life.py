"""What happens to a run besides success: restarts, terminations, retries, lost pods, caching; and what a step costs."""

# ruff: noqa: PTH123
# No `from __future__ import annotations` here: kfp reads the annotations of components.
import copy
import functools
import os
import signal
import time
import warnings

from headrace.api.core import ConfigMap, PersistentVolumeClaim, Pod, TypedReference
from headrace.components.pipelines.controller.pods import StepPods
from headrace.components.pipelines.store import schema as t
from headrace.testing.eventually import eventually

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from kfp import dsl
    from kfp.dsl import Dataset, Input, Output

component = functools.partial(dsl.component, base_image="python:3.11-slim")


@component
def say(text: str) -> str:
    return text


@component
def wait_for(path: str, text: str) -> str:
    import os
    import time

    while not os.path.exists(path):  # noqa: PTH110
        time.sleep(0.01)
    return text


@component
def flaky(path: str, failures: int) -> int:
    import os

    attempt = len(os.listdir(path))  # noqa: PTH208
    open(f"{path}/{attempt}", "w").close()
    if attempt < failures:
        raise RuntimeError(f"attempt {attempt}")
    return attempt


@component
def write(text: str, data: Output[Dataset]):
    with open(data.path, "w") as file:
        file.write(text)


@component
def read(data: Input[Dataset]) -> str:
    with open(data.path) as file:
        return file.read()


def nap(seconds: float):
    @dsl.container_component
    def napper():
        return dsl.ContainerSpec(image="alpine:3", command=["sleep", str(seconds)])

    return napper


async def test_a_restart_continues_and_every_step_is_recorded_once(lab, tmp_path):
    gate = tmp_path / "gate"

    @dsl.pipeline(name="restart")
    def restart(path: str):
        first = wait_for(path=path, text="a")
        with dsl.ParallelFor([1, 2]) as n:
            say(text=f"{first.output}{n}")

    run_id = await lab.start(restart, path=str(gate))
    await eventually(lambda: lab.node.started)
    await lab.restart_engine()
    gate.touch()
    await eventually(lambda: len(lab.node.started) > 1)
    await lab.restart_engine()
    ended = await lab.ended(run_id)

    assert ended.state == "SUCCEEDED"
    assert sorted(lab.node.started) == sorted(set(lab.node.started))
    assert len(lab.node.started) == 3
    for task in ended.row.tasks:
        states = [entry["state"] for entry in task.state_history]
        assert states.count("SUCCEEDED") == 1, task.path
    assert ended.output("for-loop-2/1/say") == "a2"


async def test_a_report_that_comes_while_the_engine_is_down_counts(lab, tmp_path):
    gate = tmp_path / "gate"

    @dsl.pipeline(name="down")
    def down(path: str):
        say(text=wait_for(path=path, text="later").output)

    run_id = await lab.start(down, path=str(gate))
    await eventually(lambda: lab.node.started)
    await lab.engine.stop()
    gate.touch()
    await eventually(lambda: lab.node.logs)
    await lab.restart_engine()
    ended = await lab.ended(run_id)

    assert (ended.state, ended.output("say")) == ("SUCCEEDED", "later")


async def test_a_pod_that_was_planned_but_not_created_before_a_crash_is_created(lab):
    @dsl.pipeline(name="planned")
    def planned():
        say(text="x")

    lab.node.hold.clear()
    run_id = await lab.start(planned)
    (pod,) = await lab.until_pods(1)
    await lab.engine.stop()
    await lab.api.cluster.client.delete(Pod, pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0)
    lab.node.hold.set()
    await lab.restart_engine()
    ended = await lab.ended(run_id)

    assert ended.state == "SUCCEEDED"


async def test_a_pod_whose_step_a_crash_kept_off_the_record_is_heard(lab):
    @dsl.pipeline(name="early")
    def early():
        say(text="x")

    lab.node.hold.clear()
    run_id = await lab.start(early)
    await lab.until_pods(1)
    await lab.engine.stop()
    say_only = t.tasks.c.name == "say"
    await lab.api.database.run(lambda c: c.execute(t.tasks.delete().where(say_only)) and None)
    lab.node.hold.set()
    await eventually(lambda: lab.node.running)  # its report comes before there is such a task again, and is repeated
    await lab.restart_engine()
    ended = await lab.ended(run_id)

    assert (ended.state, ended.output("say"), len(lab.node.started)) == ("SUCCEEDED", "x", 1)


async def test_termination_ends_pods_and_states_within_seconds(lab):
    napper = nap(600)

    @dsl.pipeline(name="terminated")
    def terminated():
        say(text="after").after(napper())

    run_id = await lab.start(terminated)
    await eventually(lambda: lab.node.started)
    began = time.monotonic()
    await lab.api.ok("POST", f"/runs/{run_id}:terminate")
    ended = await lab.ended(run_id)
    took = time.monotonic() - began

    assert ended.state == "CANCELED"
    assert ended.states == {"napper": "CANCELED", "say": "CANCELED"}
    assert took < 60  # the step would nap for ten minutes
    (process,) = lab.node.processes.values()
    await eventually(lambda: process.returncode is not None)


async def test_a_deleted_run_takes_its_pods_with_it(lab):
    napper = nap(600)

    @dsl.pipeline(name="deleted")
    def deleted():
        napper()

    run_id = await lab.start(deleted)
    await eventually(lambda: lab.node.started)
    await lab.api.runs.delete_run(run_id)

    (process,) = lab.node.processes.values()
    await eventually(lambda: process.returncode is not None)
    assert run_id not in lab.engine.active


async def test_retries_until_it_succeeds(lab, tmp_path):
    tries = tmp_path / "tries"
    tries.mkdir()

    @dsl.pipeline(name="retries")
    def retries(path: str):
        flaky(path=path, failures=2).set_retry(3, backoff_duration="0s")

    ended = await lab.run(retries, path=str(tries))

    task = ended.task("flaky")
    assert (ended.state, ended.output("flaky"), task.attempt) == ("SUCCEEDED", 2, 2)
    assert task.pod_name.endswith("-2")
    assert [name[-2:] for name in task.detail["failed_pods"]] == ["-0", "-1"]
    assert task.used["cpu_seconds"] > task.report["used"]["cpu_seconds"] > 0


async def test_a_retry_waits(lab, tmp_path):
    tries = tmp_path / "tries"
    tries.mkdir()

    @dsl.pipeline(name="waits-between")
    def waits_between(path: str):
        flaky(path=path, failures=1).set_retry(1, backoff_duration="1s")

    ended = await lab.run(waits_between, path=str(tries))

    assert ended.state == "SUCCEEDED"
    first, second = sorted(file.stat().st_mtime for file in tries.iterdir())
    assert second - first >= 1


async def test_retries_end(lab, tmp_path):
    tries = tmp_path / "tries"
    tries.mkdir()

    @dsl.pipeline(name="gives-up")
    def gives_up(path: str):
        flaky(path=path, failures=9).set_retry(1, backoff_duration="0s")

    ended = await lab.run(gives_up, path=str(tries))

    assert (ended.state, ended.task("flaky").attempt) == ("FAILED", 1)
    assert "attempt 1" in ended.task("flaky").error_message
    assert len(list(tries.iterdir())) == 2


async def test_a_pod_that_someone_deletes_fails_its_step(lab):
    napper = nap(600)

    @dsl.pipeline(name="lost")
    def lost():
        napper()

    run_id = await lab.start(lost)
    await eventually(lambda: lab.node.started)
    (pod,) = await lab.pods()
    await lab.api.cluster.client.delete(Pod, pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0)
    ended = await lab.ended(run_id)

    assert ended.state == "FAILED"
    assert ended.task("napper").error_message == "The step's pod was deleted before it ended."


async def test_a_step_that_is_killed_says_so(lab):
    napper = nap(600)

    @dsl.pipeline(name="killed")
    def killed():
        napper()

    run_id = await lab.start(killed)
    await eventually(lambda: lab.node.processes)
    (process,) = lab.node.processes.values()
    os.killpg(process.pid, signal.SIGKILL)
    ended = await lab.ended(run_id)

    assert ended.state == "FAILED"
    assert ended.task("napper").error_message == "The step ended with exit code 137 before it could report."


async def test_an_image_that_cannot_be_had_fails_the_step(lab):
    sentence = 'image "nothing:1" is not in the catalogue: add it'
    lab.node.waiting["nothing:1"] = ("ErrImagePull", sentence)

    @dsl.container_component
    def nowhere():
        return dsl.ContainerSpec(image="nothing:1", command=["true"])

    @dsl.pipeline(name="no-image")
    def no_image():
        nowhere().set_retry(5, backoff_duration="0s")

    ended = await lab.run(no_image)

    assert ended.state == "FAILED"
    assert ended.task("nowhere").error_message == f"The step's environment cannot be used (ErrImagePull: {sentence})"
    assert ended.task("nowhere").attempt == 0
    await lab.until_pods(0)


async def test_a_pod_that_waits_says_why_in_its_task(lab):
    lab.node.waiting["slow:1"] = ("ContainerCreating", "building the environment (3 packages)")

    @dsl.container_component
    def slow():
        return dsl.ContainerSpec(image="slow:1", command=["true"])

    @dsl.pipeline(name="waits")
    def waits():
        slow()

    run_id = await lab.start(waits)

    async def reason():
        row = await lab.api.runs.load_run(run_id)
        return next((t.error_message for t in row.tasks if t.path == "root/slow"), "")

    assert await eventually(reason) == "Waiting: building the environment (3 packages)."
    row = await lab.api.runs.load_run(run_id)
    assert next(t.state for t in row.tasks if t.path == "root/slow") == "PENDING"


async def test_caching_reuses_outputs_and_artifacts(lab):
    @dsl.pipeline(name="cached")
    def cached(text: str):
        read(data=write(text=text).outputs["data"])

    first = await lab.run(cached, text="same")
    second = await lab.run(cached, text="same")
    third = await lab.run(cached, text="other")

    assert [len(r.row.tasks) for r in (first, second, third)] == [3, 3, 3]
    assert second.state == "SUCCEEDED"
    assert second.task("write").cached_from == first.task("write").id
    assert second.task("read").cached_from == first.task("read").id
    assert second.artifacts("write", "data")[0].id == first.artifacts("write", "data")[0].id
    assert second.task("read").pod_name == ""
    assert second.output("read") == "same"
    assert third.task("write").cached_from == ""
    assert len(lab.node.started) == 4


async def test_caching_can_be_switched_off(lab):
    @dsl.pipeline(name="uncached")
    def uncached():
        say(text="x").set_caching_options(enable_caching=False)

    await lab.run(uncached)
    second = await lab.run(uncached)

    assert second.task("say").cached_from == ""
    assert len(lab.node.started) == 2


async def test_a_task_document_too_large_for_a_variable_comes_as_a_file(lab):
    @component
    def size(text: str) -> int:
        return len(text)

    @dsl.pipeline(name="large")
    def large(text: str):
        size(text=text)

    ended = await lab.run(large, text="x" * 120_000)

    assert (ended.state, ended.output("size")) == ("SUCCEEDED", 120_000)
    (pod,) = await lab.pods()
    (document,) = (await lab.api.cluster.client.list(ConfigMap, lab.namespace)).items
    assert document.metadata.owner_references[0].uid == pod.metadata.uid


async def test_finished_pods_are_kept_within_a_bound(lab):
    await lab.engine.stop()
    client, clock = lab.api.cluster.client, lab.api.cluster.clock
    pods = StepPods(client, clock, keep_finished=2, slack=0)
    lab.engine = type(lab.engine)(client, clock, lab.api.runs, pods=pods)
    await lab.engine.start()

    @dsl.pipeline(name="many")
    def many():
        with dsl.ParallelFor(["a", "b", "c", "d"]) as letter:
            say(text=letter)

    ended = await lab.run(many)

    assert ended.state == "SUCCEEDED"
    await lab.until_pods(2)


CLAIMS = {
    "pipeline_spec": {
        "pipelineInfo": {"name": "claims"},
        "schemaVersion": "2.1.0",
        "components": {
            "comp-createpvc": {
                "executorLabel": "exec-createpvc",
                "inputDefinitions": {
                    "parameters": {
                        "access_modes": {"parameterType": "LIST"},
                        "pvc_name_suffix": {"isOptional": True, "parameterType": "STRING"},
                        "size": {"parameterType": "STRING"},
                    }
                },
                "outputDefinitions": {"parameters": {"name": {"parameterType": "STRING"}}},
            },
            "comp-deletepvc": {
                "executorLabel": "exec-deletepvc",
                "inputDefinitions": {"parameters": {"pvc_name": {"parameterType": "STRING"}}},
            },
            "comp-step": {"executorLabel": "exec-step"},
        },
        "deploymentSpec": {
            "executors": {
                "exec-createpvc": {"container": {"image": "argostub/createpvc"}},
                "exec-deletepvc": {"container": {"image": "argostub/deletepvc"}},
                "exec-step": {"container": {"image": "alpine:3", "command": ["true"]}},
            }
        },
        "root": {
            "dag": {
                "tasks": {
                    "createpvc": {
                        "cachingOptions": {"enableCache": True},
                        "componentRef": {"name": "comp-createpvc"},
                        "inputs": {
                            "parameters": {
                                "access_modes": {"runtimeValue": {"constant": ["ReadWriteOnce"]}},
                                "pvc_name_suffix": {"runtimeValue": {"constant": "-scratch"}},
                                "size": {"runtimeValue": {"constant": "5Mi"}},
                            }
                        },
                    },
                    "step": {"componentRef": {"name": "comp-step"}, "dependentTasks": ["createpvc"]},
                    "deletepvc": {
                        "componentRef": {"name": "comp-deletepvc"},
                        "dependentTasks": ["createpvc", "step"],
                        "inputs": {
                            "parameters": {
                                "pvc_name": {
                                    "taskOutputParameter": {"outputParameterKey": "name", "producerTask": "createpvc"}
                                }
                            }
                        },
                    },
                }
            }
        },
    },
    "platform_spec": {
        "platforms": {
            "kubernetes": {
                "deploymentSpec": {
                    "executors": {
                        "exec-step": {
                            "pvcMount": [
                                {
                                    "mountPath": "/data",
                                    "pvcNameParameter": {
                                        "taskOutputParameter": {
                                            "outputParameterKey": "name",
                                            "producerTask": "createpvc",
                                        }
                                    },
                                }
                            ],
                            "podMetadata": {"labels": {"team": "mill", "pipeline/runid": "not-this"}},
                        }
                    }
                }
            }
        }
    },
}
"""As kfp-kubernetes compiles CreatePVC, mount_pvc, add_pod_label and DeletePVC."""


async def test_claims_are_created_mounted_and_deleted(lab):
    ended = await lab.run(CLAIMS)

    assert ended.state == "SUCCEEDED", ended.row.run.error_message
    name = ended.output("createpvc", "name")
    assert name.endswith("-scratch")
    (pod,) = await lab.pods()
    assert [v.persistent_volume_claim.claim_name for v in pod.spec.volumes if v.persistent_volume_claim] == [name]
    assert pod.metadata.labels["team"] == "mill"
    assert pod.metadata.labels["pipeline/runid"] == ended.row.run.id
    left = await lab.api.cluster.client.list(PersistentVolumeClaim, lab.namespace)
    assert all(c.metadata.deletion_timestamp is not None for c in left.items)


async def test_a_claim_may_begin_as_a_copy_and_need_not_be_named(lab):
    spec = copy.deepcopy(CLAIMS)
    dag = spec["pipeline_spec"]["root"]["dag"]["tasks"]
    del dag["deletepvc"], dag["createpvc"]["inputs"]["parameters"]["pvc_name_suffix"]
    source = {"apiGroup": "", "kind": "PersistentVolumeClaim", "name": "data"}
    dag["createpvc"]["inputs"]["parameters"]["data_source"] = {"runtimeValue": {"constant": source}}
    inputs = spec["pipeline_spec"]["components"]["comp-createpvc"]["inputDefinitions"]["parameters"]
    inputs["data_source"] = {"parameterType": "STRUCT", "isOptional": True}

    ended = await lab.run(spec)

    assert ended.state == "SUCCEEDED", ended.row.run.error_message
    (made,) = (await lab.api.cluster.client.list(PersistentVolumeClaim, lab.namespace)).items
    assert made.metadata.name == ended.output("createpvc", "name") == ended.task("createpvc").id
    assert made.spec.data_source == TypedReference("PersistentVolumeClaim", "data")

    dag["createpvc"]["inputs"]["parameters"]["data_source"]["runtimeValue"]["constant"] = {"kind": ["no"]}
    ended = await lab.run(spec)
    assert ended.state == "FAILED"
    assert "The input data_source, which says what the claim begins with, cannot be read" in ended.row.run.error_message

"""Limits of how much goes on at once, on a running engine."""

import json

from pipelines_harness import HOME

from headrace.api.core import ConfigMap, Node, NodeStatus
from headrace.api.meta import ObjectMeta
from headrace.testing.eventually import eventually


def loop(items: int) -> dict:
    """A ParallelFor over so many trivial steps."""
    say = {"taskInfo": {"name": "say"}, "componentRef": {"name": "comp-say"}}
    body = {"dag": {"tasks": {"say": say}}, "inputDefinitions": {"parameters": {"n": {"parameterType": "STRING"}}}}
    iterator = {"items": {"raw": json.dumps([str(i) for i in range(items)])}, "itemInput": "n"}
    return {
        "pipelineInfo": {"name": "loop"},
        "root": {"dag": {"tasks": {"loop": {"componentRef": {"name": "comp-body"}, "parameterIterator": iterator}}}},
        "components": {"comp-body": body, "comp-say": {"executorLabel": "exec-say"}},
        "deploymentSpec": {"executors": {"exec-say": {"container": {"image": "alpine", "command": ["true"]}}}},
    }


async def limit(lab, namespace: str, **numbers: int) -> None:
    data = {name.replace("_", "-"): str(number) for name, number in numbers.items()}
    await lab.api.cluster.client.apply(
        ConfigMap(metadata=ObjectMeta(name="pipeline-limits", namespace=namespace), data=data)
    )


async def known(lab, namespace: str) -> None:
    """The engine has heard of the limits."""
    gate = lab.engine._gate

    async def heard() -> bool:
        return gate._informer.get(f"{namespace}/pipeline-limits") is not None

    await eventually(heard)


async def waiting(lab, run_id: str) -> list[str]:
    row = await lab.api.runs.load_run(run_id)
    return [t.error_message for t in row.tasks if t.state == "PENDING" and t.error_message.startswith("Waiting")]


async def test_no_more_steps_than_a_namespace_allows_and_the_others_say_why_they_wait(lab):
    await limit(lab, HOME, steps=2)
    await known(lab, HOME)
    lab.node.hold.clear()
    run_id = await lab.start(loop(5))
    await lab.until_pods(2)

    async def said() -> bool:
        return len(await waiting(lab, run_id)) == 3

    await eventually(said)
    assert set(await waiting(lab, run_id)) == {
        f"Waiting: 2 steps are on their way in namespace {HOME!r}, and no more may be at once."
    }
    assert len(await lab.pods()) == 2
    lab.node.hold.set()
    ended = await lab.ended(run_id)
    assert ended.state == "SUCCEEDED"
    assert len(lab.node.started) == 5
    assert not any(task.error_message for task in ended.row.tasks)


async def test_a_restart_counts_the_pods_that_it_finds(lab):
    await limit(lab, "kubeflow", steps=1)
    await known(lab, "kubeflow")
    lab.node.hold.clear()
    run_id = await lab.start(loop(3))
    await lab.until_pods(1)
    await lab.restart_engine()
    other = await lab.start(loop(1))

    async def said() -> bool:
        return len(await waiting(lab, run_id)) == 2 and len(await waiting(lab, other)) == 1

    await eventually(said)
    assert len(await lab.pods()) == 1
    lab.node.hold.set()
    assert (await lab.ended(other)).state == (await lab.ended(run_id)).state == "SUCCEEDED"
    assert len(lab.node.started) == len(set(lab.node.started)) == 4


async def test_what_the_steps_request_is_the_limit_that_nobody_set(lab):
    machine = Node(metadata=ObjectMeta(name="machine"), status=NodeStatus(allocatable={"cpu": "0.1", "memory": "8Gi"}))
    await lab.api.cluster.client.create(machine)
    patch = {"status": {"allocatable": {"cpu": "100m", "memory": "8Gi"}}}
    await lab.api.cluster.client.patch(Node, "machine", patch, subresource="status")
    await lab.restart_engine()
    lab.node.hold.clear()
    run_id = await lab.start(loop(9))
    await lab.until_pods(2)  # of 50m each, for a machine of 100m

    async def said() -> bool:
        return len(await waiting(lab, run_id)) == 7

    await eventually(said)
    lab.node.hold.set()
    assert (await lab.ended(run_id)).state == "SUCCEEDED"


async def test_a_run_waits_for_its_turn_says_so_and_can_be_terminated(lab):
    await limit(lab, HOME, runs=1)
    await known(lab, HOME)
    lab.node.hold.clear()
    first = await lab.start(loop(1))
    await lab.until_pods(1)
    second, third = await lab.start(loop(1)), await lab.start(loop(1))

    async def said() -> bool:
        return [len(await waiting(lab, run)) for run in (first, second, third)] == [0, 1, 1]

    await eventually(said)
    shown = (await lab.api.ok("GET", f"/runs/{second}"))["run_details"]["task_details"]
    assert [t["error"]["message"] for t in shown] == [
        f"Waiting: 1 runs go on in namespace {HOME!r}, and no more may at once."
    ]
    await lab.api.ok("POST", f"/runs/{second}:terminate")
    assert (await lab.ended(second)).state == "CANCELED"
    await lab.restart_engine()
    lab.node.hold.set()
    assert (await lab.ended(first)).state == (await lab.ended(third)).state == "SUCCEEDED"
    assert not (await lab.ended(third)).task("root").error_message

"""Which rule of a pod failure policy a failed pod meets, by a table."""

import pytest

from headrace.api.core import ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition
from headrace.api.meta import ObjectMeta
from headrace.controllermanager.job_failures_policy import match


def failed(exit_code=1, container="main", condition="", *, init=False):
    pod = Pod(metadata=ObjectMeta(name="p", namespace="n"))
    pod.status.phase = "Failed"
    state = ContainerState(terminated=ContainerStateTerminated(exit_code=exit_code))
    statuses = [ContainerStatus(name=container, state=state, image="i", image_id="")]
    if init:
        pod.status.init_container_statuses = statuses
    else:
        pod.status.container_statuses = statuses
    if condition:
        pod.status.conditions = [PodCondition(type=condition, status="True")]
    return pod


def codes(action, operator, *values, container=None):
    wanted = {"operator": operator, "values": list(values)}
    return {"action": action, "onExitCodes": wanted if container is None else {**wanted, "containerName": container}}


def conditions(action, type_, **more):
    return {"action": action, "onPodConditions": [{"type": type_, **more}]}


@pytest.mark.parametrize(
    ("rules", "pod", "action"),
    [
        ([], failed(), "Count"),
        ([codes("Ignore", "In", 1)], failed(1), "Ignore"),
        ([codes("Ignore", "In", 1)], failed(1, init=True), "Ignore"),
        ([codes("Ignore", "In", 2)], failed(1), "Count"),
        ([codes("FailJob", "NotIn", 2)], failed(1), "FailJob"),
        ([codes("FailJob", "NotIn", 1)], failed(1), "Count"),
        ([codes("FailJob", "NotIn", 1)], failed(0), "Count"),
        ([codes("FailJob", "In", 1, container="side")], failed(1), "Count"),
        ([codes("FailJob", "In", 1, container="main")], failed(1), "FailJob"),
        ([conditions("Ignore", "DisruptionTarget")], failed(1, condition="DisruptionTarget"), "Ignore"),
        ([conditions("Ignore", "DisruptionTarget", status="False")], failed(1, condition="DisruptionTarget"), "Count"),
        ([conditions("Ignore", "DisruptionTarget")], failed(1), "Count"),
        ([codes("Count", "In", 1), codes("FailJob", "In", 1)], failed(1), "Count"),
        ([codes("Count", "In", 2), codes("FailIndex", "In", 1)], failed(1), "FailIndex"),
    ],
)
def test_match(rules, pod, action):
    assert match({"rules": rules}, pod).action == action
    assert match(None, pod).action == "Count"


def test_the_sentence_names_the_condition():
    found = match({"rules": [conditions("FailJob", "Bad")]}, failed(condition="Bad"))
    assert found.message == "Pod n/p has condition Bad matching FailJob rule at index 0"

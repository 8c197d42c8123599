"""PodDefaults: what they make of pods, and what they refuse; cases after upstream's main_test.go."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest

from headrace.api import _wire
from headrace.api.core import Pod
from headrace.api.errors import Forbidden
from headrace.components.profiles import policy
from headrace.components.profiles.types import PodDefault

if TYPE_CHECKING:
    from .conftest import World

NS = "kubeflow-user-example-com"


def default(name: str = "d", **spec: object) -> PodDefault:
    body = {"metadata": {"name": name, "namespace": NS, "resourceVersion": "7"}}
    return _wire.convert(PodDefault, {**body, "spec": {"selector": {"matchLabels": {"use": "yes"}}, **spec}})


def pod(labels: dict | None = None, annotations: dict | None = None, **container: object) -> dict:
    meta = {"name": "p", "labels": {"use": "yes"} if labels is None else labels}
    if annotations:
        meta["annotations"] = annotations
    return {"metadata": meta, "spec": {"containers": [{"name": "main", "image": "busybox", **container}]}}


def test_everything_is_put_in() -> None:
    made = pod(env=[{"name": "A", "value": "1"}])
    policy.apply(
        made,
        [
            default(
                "all",
                env=[{"name": "B", "value": "2"}],
                envFrom=[{"configMapRef": {"name": "c"}}],
                volumes=[{"name": "v", "emptyDir": {}}],
                volumeMounts=[{"name": "v", "mountPath": "/v"}],
                labels={"team": "a"},
                annotations={"note": "n"},
                tolerations=[{"key": "gpu", "operator": "Exists"}],
                imagePullSecrets=[{"name": "pull"}],
                initContainers=[{"name": "first", "image": "busybox"}],
                sidecars=[{"name": "beside", "image": "busybox"}],
                serviceAccountName="default-editor",
                automountServiceAccountToken=True,
                command=["run"],
                args=["it"],
            )
        ],
    )
    spec = made["spec"]
    main, beside = spec["containers"]
    assert main["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    assert main["envFrom"] == [{"configMapRef": {"name": "c"}}]
    assert main["volumeMounts"] == [{"name": "v", "mountPath": "/v"}]
    assert (main["command"], main["args"]) == (["run"], ["it"])
    assert beside == {"name": "beside", "image": "busybox"}, "env and mounts are for the pod's own containers"
    assert spec["initContainers"] == [{"name": "first", "image": "busybox"}]
    assert spec["volumes"] == [{"name": "v", "emptyDir": {}}]
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("default-editor", True)
    assert made["metadata"]["labels"] == {"use": "yes", "team": "a"}
    assert made["metadata"]["annotations"] == {"note": "n", "poddefault.admission.kubeflow.org/poddefault-all": "7"}


def test_a_command_that_is_there_stays() -> None:
    made = pod(command=["mine"])
    policy.apply(made, [default(command=["theirs"], args=["x"])])
    assert made["spec"]["containers"][0]["command"] == ["mine"]
    assert made["spec"]["containers"][0]["args"] == ["x"]


CONFLICTS = {
    "env": (
        {"env": [{"name": "A", "value": "1"}]},
        {"env": [{"name": "A", "value": "2"}]},
        "env for d has a conflict on A",
    ),
    "mount by name": (
        {"volumeMounts": [{"name": "v", "mountPath": "/a"}]},
        {"volumeMounts": [{"name": "v", "mountPath": "/b"}]},
        "volume mounts for d has a conflict on v",
    ),
    "mount by path": (
        {"volumeMounts": [{"name": "v", "mountPath": "/a"}]},
        {"volumeMounts": [{"name": "w", "mountPath": "/a"}]},
        "conflict on mount path /a",
    ),
}


@pytest.mark.parametrize(("container", "spec", "words"), CONFLICTS.values(), ids=CONFLICTS)
def test_a_conflict_in_a_container_refuses_the_pod(container: dict, spec: dict, words: str) -> None:
    made = pod(**container)
    before = copy.deepcopy(made)
    with pytest.raises(Forbidden, match=words):
        policy.apply(made, [default(**spec)])
    assert made == before
    same = default(**container)
    policy.apply(made, [same])  # identical is no conflict
    assert made["spec"] == before["spec"]


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        ({"labels": {"a": "1"}}, {"labels": {"a": "2"}}, "labels for two has a conflict on a"),
        ({"annotations": {"a": "1"}}, {"annotations": {"a": "2"}}, "annotations for two has a conflict on a"),
        (
            {"volumes": [{"name": "v", "emptyDir": {}}]},
            {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
            "volumes for two has a conflict on v",
        ),
        (
            {"tolerations": [{"key": "k", "operator": "Exists"}]},
            {"tolerations": [{"key": "k", "operator": "Equal", "value": "x"}]},
            "tolerations for two has a conflict on k",
        ),
        (
            {"sidecars": [{"name": "s", "image": "a"}]},
            {"sidecars": [{"name": "s", "image": "b"}]},
            "containers for two has a conflict on s",
        ),
    ],
)
def test_two_that_contradict_each_other_refuse_the_pod(one: dict, two: dict, words: str) -> None:
    with pytest.raises(Forbidden, match=words):
        policy.apply(pod(), [default("one", **one), default("two", **two)])
    policy.apply(pod(), [default("one", **one), default("two", **one)])


def test_which_are_meant() -> None:
    wanted = default("b"), default("a")
    assert [d.metadata.name for d in policy.matching(pod(), list(wanted))] == ["a", "b"]
    assert policy.matching(pod({"use": "no"}), list(wanted)) == []
    exclude = {"poddefault.admission.kubeflow.org/exclude": "true"}
    assert policy.matching(pod(annotations=exclude), list(wanted)) == []
    assert policy.matching(pod(annotations={**exclude, next(iter(exclude)): "false"}), list(wanted)) != []


async def test_at_admission(cluster: World) -> None:
    token = {"serviceAccountToken": {"path": "token", "audience": "pipelines.kubeflow.org"}}
    made = default(
        "token",
        env=[{"name": "KF_PIPELINES_SA_TOKEN_PATH", "value": "/token"}],
        volumes=[{"name": "token", "projected": {"sources": [token]}}],
    )
    made.metadata.resource_version = ""
    stored = await cluster.client.create(made)
    created = await cluster.client.create(
        _wire.convert(Pod, {**pod(), "metadata": {"name": "p", "namespace": NS, "labels": {"use": "yes"}}})
    )
    assert [e.name for e in created.spec.containers[0].env] == ["KF_PIPELINES_SA_TOKEN_PATH"]
    running = {"status": {"phase": "Running"}}
    await cluster.client.patch(Pod, "p", running, NS, subresource="status")  # complete: nothing is missing in it
    assert created.spec.volumes[0].projected.default_mode == 0o644
    mark = "poddefault.admission.kubeflow.org/poddefault-token"
    assert created.metadata.annotations[mark] == stored.metadata.resource_version
    other = await cluster.client.create(_wire.convert(Pod, {**pod(), "metadata": {"name": "q", "namespace": NS}}))
    assert other.spec.containers[0].env == []
    elsewhere = {"name": "r", "namespace": "default", "labels": {"use": "yes"}}
    assert (await cluster.client.create(_wire.convert(Pod, {**pod(), "metadata": elsewhere}))).spec.containers[
        0
    ].env == []
    clash = pod(env=[{"name": "KF_PIPELINES_SA_TOKEN_PATH", "value": "mine"}])
    clash["metadata"] = {"name": "s", "namespace": NS, "labels": {"use": "yes"}}
    with pytest.raises(Forbidden, match="PodDefaults conflict"):
        await cluster.client.create(_wire.convert(Pod, clash))

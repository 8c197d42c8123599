"""Workloads: every kind with its state and its reason, logs of pods that are gone, and what a person may do."""

from __future__ import annotations

import html
import re

import pytest
import yaml
from dashboard_world import HOME, NOBODY, OWNER, STRANGER, VIEWER, event

from headrace.api import _wire
from headrace.api.apps import Deployment, StatefulSet
from headrace.api.batch import CronJob, Job
from headrace.api.core import Event, PersistentVolumeClaim, Pod, Service
from headrace.api.errors import NotFound
from headrace.components.dashboard.ui import kinds
from headrace.components.dashboard.ui.objects import parse
from headrace.machinery import look, podlook
from headrace.machinery.pages import PageError

JSON = {"accept": "application/json"}
TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "main", "image": "busybox", "command": ["sleep", "1"]}]},
}
PAGE = "/workloads?kind=deployments"


@pytest.fixture
async def web(world):
    """A deployment of the owner's."""
    body = {
        "metadata": {"name": "web", "namespace": HOME},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE},
    }
    return await world.client.create(_wire.convert(Deployment, body))


def made(kind, spec=None, status=None, **meta):
    return _wire.convert(
        kind, {"metadata": {"name": "x", "uid": "u", **meta}, "spec": spec or {}, "status": status or {}}
    )


FAILED = [{"type": "Failed", "status": "True", "message": "Job has reached the specified backoff limit"}]
STUCK = [{"type": "Progressing", "status": "False", "message": "It made no progress in 600 s."}]


@pytest.mark.parametrize(
    ("obj", "state"),
    [
        (made(Deployment, {"replicas": 2}, {"readyReplicas": 2}), (look.OK, "Running")),
        (made(Deployment, {"replicas": 2}, {"readyReplicas": 1}), (look.RUN, "Starting")),
        (made(Deployment, {"replicas": 2}, {"conditions": STUCK}), (look.BAD, "Failed")),
        (made(Deployment, {"replicas": 0}, {"replicas": 1}), (look.RUN, "Stopping")),
        (made(StatefulSet, {"replicas": 0}), (look.WAIT, "Stopped")),
        (made(Job, {}, {"conditions": [{"type": "Complete", "status": "True"}]}), (look.OK, "Completed")),
        (made(Job, {}, {"conditions": FAILED}), (look.BAD, "Failed")),
        (made(Job, {"suspend": True}), (look.WAIT, "Suspended")),
        (made(Job, {}, {"active": 1}), (look.RUN, "Running")),
        (made(Job), (look.WAIT, "Waiting")),
        (made(CronJob, {"suspend": True}), (look.WAIT, "Suspended")),
        (made(CronJob, {"schedule": "* * * * *"}), (look.OK, "Scheduled")),
        (made(Service, {"type": "ExternalName"}), (look.OK, "External")),
        (made(Service, {"selector": {"a": "b"}}), (look.WARN, "Reaches nothing")),
        (made(PersistentVolumeClaim, {}, {"phase": "Bound"}), (look.OK, "Bound")),
        (made(PersistentVolumeClaim, {}, {"phase": "Lost"}), (look.BAD, "Lost")),
        (made(PersistentVolumeClaim), (look.WAIT, "Waiting")),
        (made(Job, deletionTimestamp="2026-01-02T03:04:05Z"), (look.WAIT, "Terminating")),
    ],
)
def test_a_state_in_a_word(obj, state):
    assert kinds.state(obj) == state


def test_the_reason_is_the_objects_own_else_its_pods_else_the_last_warning():
    broken = made(
        Pod,
        {"containers": [{"name": "main"}]},
        {
            "phase": "Failed",
            "containerStatuses": [
                {"name": "main", "image": "", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}
            ],
        },
    )
    warning = _wire.convert(Event, {"metadata": {"name": "e"}, "type": "Warning", "message": "No volume fits."})
    bad, wait = (look.BAD, ""), (look.WAIT, "")
    assert kinds.why(made(Deployment, {}, {"conditions": STUCK}), bad, [broken], [warning]) == STUCK[0]["message"]
    assert "x: Container main ended" in kinds.why(made(Deployment), wait, [broken], [warning])
    sentence = kinds.why(made(Job, {}, {"conditions": FAILED}), bad, [broken], [])
    assert sentence.startswith(FAILED[0]["message"])
    assert "exit code 3" in sentence
    assert kinds.why(made(PersistentVolumeClaim), wait, [], [warning]) == "No volume fits."
    assert "a=b" in kinds.why(made(Service, {"selector": {"a": "b"}}), wait, [], [])
    assert kinds.why(made(Deployment), (look.OK, ""), [broken], [warning]) == ""


def test_a_pod_that_waits_for_its_environment_says_how_far_it_is():
    waiting = {"waiting": {"reason": "ContainerCreating", "message": "its environment is being made: installing numpy"}}
    pod = made(Pod, {}, {"phase": "Pending", "containerStatuses": [{"name": "main", "image": "", "state": waiting}]})
    assert podlook.trouble(pod) == "Its environment is being made: installing numpy."
    quiet = {"waiting": {"reason": "ContainerCreating"}}
    pod = made(Pod, {}, {"phase": "Pending", "containerStatuses": [{"name": "main", "image": "", "state": quiet}]})
    assert podlook.trouble(pod) == ""


def test_which_pods_belong():
    labelled = made(Pod, {"containers": []}, labels={"app": "web", "v": "1"})
    other = made(Pod, {"containers": []}, labels={"app": "db"})
    owned = made(Pod, {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]})
    pods = [labelled, other, owned]
    assert kinds.pods_of(made(Deployment, {"selector": {"matchLabels": {"app": "web"}}}), pods) == [labelled]
    assert kinds.pods_of(made(Service, {"selector": {"v": "1"}}), pods) == [labelled]
    assert kinds.pods_of(made(Service), pods) == []
    assert kinds.pods_of(made(PersistentVolumeClaim), pods) == [owned]
    assert kinds.pods_of(made(Job), pods) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "not YAML"),
        ("a: 1", "One object"),
        ("metadata: {name: a}\n---\nmetadata: {name: b}", "One object"),
        ("metadata: &x {name: a}\nb: *x", "aliases"),
        ("metadata: !!python/object:os.system {}", "not YAML"),
        ("metadata: {? [1] : 2}", "not YAML"),
        ("[" * 2000, "not YAML"),
    ],
)
def test_what_is_no_object_is_refused(text, words):
    with pytest.raises(PageError) as refused:
        parse(text)
    assert words in refused.value.message


async def test_every_kind_has_a_list_and_a_page(world, web):
    objects = [
        (Job, {"template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}),
        (StatefulSet, {"selector": {"matchLabels": {"app": "web"}}, "serviceName": "x", "template": TEMPLATE}),
        (
            CronJob,
            {
                "schedule": "5 * * * *",
                "jobTemplate": {"spec": {"template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}},
            },
        ),
        (Service, {"selector": {"app": "web"}, "ports": [{"port": 80}]}),
        (PersistentVolumeClaim, {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}),
    ]
    for kind, spec in objects:
        name = f"my-{kind.INFO.plural}"
        await world.client.create(_wire.convert(kind, {"metadata": {"name": name, "namespace": HOME}, "spec": spec}))
    pod = await world.pod()
    await event(world, pod, "BackOff", "It does not start.")
    session = await world.browser()
    for key in kinds.KINDS:
        name = {"pods": "step", "deployments": "web"}.get(key, f"my-{key}")
        for tab in ("", "&tab=events", "&tab=yaml"):
            text = await world.page(session, f"/workloads?kind={key}&name={name}{tab}")
            assert f"<h2>{name}</h2>" in text, (key, tab)
    text = await world.page(session, "/workloads?kind=events")
    assert "It does not start." in text
    assert "pod=step" in text
    assert "It does not start." in await world.page(session, "/workloads?pod=step"), "why it waits"


async def test_the_log_of_a_pod_that_is_gone(world):
    world.write_log(HOME, "old", "uid-1", "the last words")
    owner = await world.browser()
    text = await world.page(owner, "/workloads?pod=old")
    assert 'id="log-uid-1-main"' in text
    assert "is gone" in text
    assert "log-uid" not in await world.page(owner, "/workloads?pod=older")
    await world.page(await world.browser(STRANGER), f"/workloads?ns={HOME}&pod=old", status=403)


async def edit(world, session, change, action="apply", page=f"{PAGE}&name=web&tab=yaml", **fields):
    """Posts the page's form with a changed text; the status and the answer."""
    text = await world.page(session, page)
    before = html.unescape(re.search(r'name="before" value="([^"]*)"', text)[1])
    body = yaml.safe_load(before)
    assert "managedFields" not in body["metadata"]
    assert "status" not in body
    change(body)
    form = {"action": action, "name": "web", "before": before, "after": yaml.safe_dump(body), **fields}
    async with session.post(page, data=form, headers=JSON) as response:
        return response.status, await response.json()


async def stored(world):
    return await world.client.get(Deployment, "web", HOME)


async def test_an_edit_changes_only_what_was_edited(world, web):
    session = await world.browser()
    status, said = await edit(world, session, lambda body: body["spec"].update(replicas=3), "check")
    assert (status, said["message"]) == (200, "The platform would accept this.")
    assert (await stored(world)).spec.replicas == 2, "only checked"

    def change(body):
        body["spec"]["replicas"] = 4
        body["metadata"].setdefault("labels", {})["team"] = "a"

    await world.client.patch(Deployment, "web", {"metadata": {"annotations": {"by": "another"}}}, HOME)
    status, said = await edit(world, session, change)
    assert status == 200, said
    found = await stored(world)
    assert (found.spec.replicas, found.metadata.labels["team"]) == (4, "a")
    assert found.metadata.annotations["by"] == "another"


CHECKED = [
    (lambda b: b["spec"].update(replicaz=3), 400, "replicaz"),
    (lambda b: b["spec"].update(replicas=-1), 422, "replicas"),
    (lambda b: b["spec"]["selector"]["matchLabels"].update(app="other"), 422, "selector"),
    (lambda b: b["metadata"].update(name="other"), 422, "metadata.name cannot be changed"),
    (lambda b: b["metadata"].update(namespace="other-team"), 422, "metadata.namespace cannot be changed"),
    (lambda b: b.update(kind="Secret"), 422, "kind cannot be changed"),
    (lambda _b: None, 422, "Nothing was changed"),
]


async def test_the_platform_checks_an_edit(world, web):
    session = await world.browser()
    for change, status, words in CHECKED:
        found, said = await edit(world, session, change)
        assert found == status, said
        assert words in said["error"]
    assert (await stored(world)).metadata.resource_version == web.metadata.resource_version


async def test_an_edit_of_a_list_does_not_undo_anothers(world, web):
    session = await world.browser()
    page = f"{PAGE}&name=web&tab=yaml"
    before = html.unescape(re.search(r'name="before" value="([^"]*)"', await world.page(session, page))[1])
    await world.client.patch(Deployment, "web", {"metadata": {"annotations": {"by": "another"}}}, HOME)
    form = {"action": "apply", "name": "web", "before": before, "after": before.replace("busybox", "alpine")}
    async with session.post(page, data=form, headers=JSON) as response:
        assert response.status == 409
        assert "changed since you opened it" in (await response.json())["error"]


DENIED = [
    {"action": "delete"},
    {"action": "restart"},
    {"action": "scale", "replicas": "0"},
    {"action": "apply", "before": "1", "after": "5"},
    {"action": "check", "before": "1", "after": "5"},
]


@pytest.mark.parametrize("who", [VIEWER, STRANGER, NOBODY])
async def test_who_may_not_change_cannot(world, web, who):
    session = await world.browser(who)
    body = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: {}}}\nspec: {{replicas: {}}}"
    for form in DENIED:
        sent = {"name": "web", **form} | {k: body.format(HOME, form[k]) for k in ("before", "after") if k in form}
        async with session.post(f"{PAGE}&ns={HOME}", data=sent, headers=JSON) as response:
            assert response.status == 403, form
            assert who in (await response.json())["error"], "as the person, not as the dashboard"
    found = await stored(world)
    assert found.metadata.resource_version == web.metadata.resource_version
    assert found.metadata.deletion_timestamp is None


async def test_a_viewer_sees_and_is_offered_nothing(world, web):
    text = await world.page(await world.browser(VIEWER), f"{PAGE}&ns={HOME}&name=web&tab=yaml")
    assert "readonly" in text
    assert 'name="action"' not in text
    owners = await world.page(await world.browser(), f"{PAGE}&name=web&tab=yaml")
    for action in ("apply", "check", "delete", "restart", "scale"):
        assert f'value="{action}"' in owners
    await world.page(await world.browser(STRANGER), f"{PAGE}&ns={HOME}&name=web&tab=yaml", status=403)


async def test_scale_restart_and_delete(world, web):
    session = await world.browser()

    async def press(status=200, **form):
        async with session.post(PAGE, data={"name": "web", **form}, headers=JSON) as response:
            said = await response.json()
            assert response.status == status, said
            return said

    assert (await press(action="scale", replicas="5"))["message"] == "web gets 5 pods."
    assert (await stored(world)).spec.replicas == 5
    for bad in ("", "-1", "1e3", "5000", "٣"):
        assert "from 0 to" in (await press(422, action="scale", replicas=bad))["error"]
    await press(action="restart")
    assert (await stored(world)).spec.template.metadata.annotations["kubectl.kubernetes.io/restartedAt"]
    await press(409, action="delete", uid="another-one")
    said = await press(action="delete", uid=web.metadata.uid)
    assert said["message"] == "web is being deleted."
    with pytest.raises(NotFound):
        await stored(world)
    await press(404, action="delete")


ABSENT = [
    ("/workloads?kind=secrets", {"action": "delete", "name": "x"}),
    ("/workloads?kind=events", {"action": "delete", "name": "x"}),
    ("/workloads?kind=pods", {"action": "scale", "name": "x", "replicas": "1"}),
    ("/workloads?kind=jobs", {"action": "restart", "name": "x"}),
    ("/workloads", {"action": "delete"}),
]


async def test_what_is_not_on_the_page_cannot_be_done(world):
    session = await world.browser(OWNER)
    for path, form in ABSENT:
        async with session.post(path, data=form, headers=JSON) as response:
            assert response.status == 404, (path, form)

"""Deployments on an embedded cluster: rollouts step by step, with the pods that a node agent would report."""

import copy

import pytest

from headrace.api.apps import DeploymentStrategy, RollingUpdate
from headrace.api.meta import LabelSelector, ObjectMeta
from headrace.controllermanager import deployment_policy as policy
from headrace.controllermanager import pods
from headrace.controllermanager.types import Deployment, DeploymentSpec, ReplicaSet

from .conftest import NS, TEMPLATE


def deployment(replicas=3, **spec):
    return Deployment(
        metadata=ObjectMeta(name="web", namespace=NS, annotations={"note": "kept"}),
        spec=DeploymentSpec(
            selector=LabelSelector(match_labels={"app": "web"}),
            template=copy.deepcopy(TEMPLATE),
            replicas=replicas,
            **spec,
        ),
    )


def rolling(surge, unavailable):
    return DeploymentStrategy(
        type="RollingUpdate", rolling_update=RollingUpdate(max_surge=surge, max_unavailable=unavailable)
    )


async def set_image(world, image):
    containers = [{"name": "main", "image": image}]
    await world.client.patch(Deployment, "web", {"spec": {"template": {"spec": {"containers": containers}}}}, NS)


async def change(world, **spec):
    await world.client.patch(Deployment, "web", {"spec": spec}, NS)


async def sets(world):
    listed = await world.client.list(ReplicaSet, NS)
    return sorted(listed.items, key=policy.revision)


async def sizes(world, *wanted):
    async def check():
        return tuple(rs.spec.replicas for rs in await sets(world)) == wanted

    await world.until(check)


async def agent(world, *, image=None):
    """Every pod that is not running yet begins to run."""
    for pod in await world.pods(app="web"):
        if pod.status.phase == "Pending" and (image is None or pod.spec.containers[0].image == image):
            await world.set_phase(pod, "Running")


async def rolled_out(world, replicas=3):
    async def check():
        await agent(world)
        found = await world.client.get(Deployment, "web", NS)
        return (
            found.status.updated_replicas == found.status.available_replicas == found.status.replicas == replicas
            and found.status.observed_generation == found.metadata.generation
            and reason(found, "Progressing") == "NewReplicaSetAvailable"
        )

    await world.until(check)
    await world.quiet()


def reason(found, type_):
    condition = policy.condition(found, type_)
    return condition.reason if condition else None


async def conditions(world, **wanted):
    async def check():
        found = await world.client.get(Deployment, "web", NS)
        return {t: reason(found, t) for t in wanted} == wanted

    await world.until(check)


async def test_first_rollout(world):
    made = await world.client.create(deployment())
    await sizes(world, 3)
    (rs,) = await sets(world)
    digest = rs.metadata.labels[policy.HASH_LABEL]
    assert rs.metadata.name == f"web-{digest}"
    assert rs.spec.selector.match_labels == {"app": "web", policy.HASH_LABEL: digest}
    assert rs.metadata.annotations == {
        "note": "kept",
        policy.REVISION: "1",
        policy.DESIRED: "3",
        policy.MAXIMUM: "4",
    }
    assert pods.controller_of(rs).uid == made.metadata.uid
    await conditions(world, Available="MinimumReplicasUnavailable")
    await rolled_out(world)
    found = await world.client.get(Deployment, "web", NS)
    assert found.metadata.annotations[policy.REVISION] == "1"
    assert reason(found, "Available") == "MinimumReplicasAvailable"
    assert (found.status.unavailable_replicas, found.status.ready_replicas) == (0, 3)
    assert all(p.metadata.labels[policy.HASH_LABEL] == digest for p in await world.pods(app="web"))


async def test_a_rolling_update_never_has_too_few_or_too_many(world):
    await world.client.create(deployment(strategy=rolling(1, 1)))
    await rolled_out(world)
    await set_image(world, "python:3.12")
    seen = set()

    async def check():
        found = await world.pods(app="web")
        running = sum(p.status.phase == "Running" for p in found)
        seen.add((len(found), running))
        waiting = next((p for p in found if p.status.phase == "Pending"), None)
        if waiting is not None:
            await world.set_phase(waiting, "Running")
        return {p.spec.containers[0].image for p in found} == {"python:3.12"} and len(found) == 3

    await world.until(check)
    assert max(total for total, _ in seen) <= 4
    assert min(running for _, running in seen) >= 2
    await rolled_out(world)
    await sizes(world, 0, 3)


async def test_a_bad_template_stops_half_way_and_times_out(world):
    await world.client.create(deployment(strategy=rolling(1, 0), progress_deadline_seconds=60))
    await rolled_out(world)
    await set_image(world, "broken")
    await sizes(world, 3, 1)
    await conditions(world, Available="MinimumReplicasAvailable", Progressing="ReplicaSetUpdated")
    world.clock.step(62)
    await conditions(world, Progressing="ProgressDeadlineExceeded")
    found = await world.client.get(Deployment, "web", NS)
    assert policy.condition(found, "Progressing").status == "False"
    await sizes(world, 3, 1)
    await set_image(world, "python:3.11")  # back: the old ReplicaSet becomes the newest
    await rolled_out(world)
    old, new = await sets(world)
    assert (policy.revision(old), policy.revision(new)) == (2, 3)
    assert new.metadata.annotations[policy.REVISION_HISTORY] == "1"
    assert (old.spec.replicas, new.spec.replicas) == (0, 3)


async def test_recreate_waits_for_the_last_old_pod(world):
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["nodeName"] = "headrace"  # so that deletion is graceful
    made = deployment(replicas=2, strategy=DeploymentStrategy(type="Recreate"))
    made.spec.template = template
    await world.client.create(made)
    await rolled_out(world, 2)
    old = await world.pods(app="web")
    await set_image(world, "python:3.12")
    await sizes(world, 0)
    await world.quiet()
    assert len(await sets(world)) == 1
    await world.finish_deletion(old[0])
    await world.quiet()
    assert len(await sets(world)) == 1
    await world.finish_deletion(old[1])
    await sizes(world, 0, 2)
    await rolled_out(world, 2)


async def test_scaling(world):
    await world.client.create(deployment(replicas=1))
    await rolled_out(world, 1)
    await change(world, replicas=4)
    await rolled_out(world, 4)
    await change(world, replicas=0)

    async def empty():
        return not await world.pods(app="web")

    await world.until(empty)
    await change(world, replicas=2)
    await rolled_out(world, 2)
    assert len(await sets(world)) == 1


async def test_scaling_in_the_middle_of_a_rollout_is_shared_out(world):
    await world.client.create(deployment(replicas=10, strategy=rolling(3, 2)))
    await rolled_out(world, 10)
    await set_image(world, "broken")
    await sizes(world, 8, 5)
    await change(world, replicas=15)
    await world.until(lambda: total(world, 18))
    old, new = await sets(world)
    assert (old.spec.replicas, new.spec.replicas) == (11, 7)


async def total(world, number):
    return policy.wanted(await sets(world)) == number


async def test_paused(world):
    await world.client.create(deployment(replicas=2))
    await rolled_out(world, 2)
    await change(world, paused=True)
    await conditions(world, Progressing="DeploymentPaused")
    await set_image(world, "python:3.12")
    await world.quiet()
    assert len(await sets(world)) == 1
    await change(world, replicas=3)
    await sizes(world, 3)
    await change(world, paused=False)
    await rolled_out(world)
    await sizes(world, 0, 3)


async def test_the_history_is_bounded(world):
    await world.client.create(deployment(replicas=1, revision_history_limit=1))
    for i in range(4):
        if i:
            await set_image(world, f"image-{i}")
        await rolled_out(world, 1)

    async def two_left():
        return [policy.revision(rs) for rs in await sets(world)] == [3, 4]

    await world.until(two_left)


async def test_old_replica_sets_are_adopted(world):
    await world.client.create(deployment(replicas=1))
    await rolled_out(world, 1)
    await world.client.delete(Deployment, "web", NS, propagation="Orphan")
    await world.gone(Deployment, "web")
    (orphan,) = await sets(world)
    assert orphan.metadata.owner_references == []
    again = await world.client.create(deployment(replicas=1))
    await rolled_out(world, 1)
    (adopted,) = await sets(world)
    assert adopted.metadata.uid == orphan.metadata.uid
    assert pods.controller_of(adopted).uid == again.metadata.uid


async def test_everything_goes_with_the_deployment(world):
    await world.client.create(deployment())
    await rolled_out(world)
    await world.client.delete(Deployment, "web", NS)

    async def all_gone():
        return not await sets(world) and not await world.pods()

    await world.until(all_gone)


async def test_a_template_that_cannot_run_is_told(world):
    made = deployment(replicas=1)
    made.spec.template["spec"]["serviceAccountName"] = "nobody"
    await world.client.create(made)
    await conditions(world, ReplicaFailure="FailedCreate")


def of(name, replicas, available=None, age=0, **annotations):
    rs = ReplicaSet(metadata=ObjectMeta(name=name, annotations=annotations))
    rs.spec.replicas = replicas
    rs.status.replicas = replicas
    rs.status.available_replicas = replicas if available is None else available
    return rs


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (10, "25%", "25%", (3, 2)),
        (1, "25%", "25%", (1, 0)),
        (3, "0%", "10%", (0, 1)),
        (3, 0, 0, (0, 1)),
        (3, 5, 10, (5, 3)),
        (0, 1, 1, (0, 0)),
    ],
)
def test_bounds(replicas, surge, unavailable, expected):
    assert policy.bounds(deployment(replicas, strategy=rolling(surge, unavailable))) == expected


@pytest.mark.parametrize(
    ("spec", "new", "old", "new_size", "old_sizes"),
    [
        ((10, 1, 0), of("n", 0), [of("o", 10)], 1, {}),
        ((10, 0, 2), of("n", 0), [of("o", 10)], 0, {"o": 8}),
        ((10, 0, 2), of("n", 0), [of("o", 8)], 2, {}),
        ((10, 0, 2), of("n", 2, 2), [of("o", 8)], 2, {"o": 6}),
        ((10, 0, 2), of("n", 2, 1), [of("o", 8)], 2, {"o": 7}),
        ((10, 0, 2), of("n", 2, 0), [of("o", 8)], 2, {}),
        ((10, 2, 2), of("n", 0), [of("o", 10, 4)], 2, {"o": 8}),
        ((10, 0, 5), of("n", 0), [of("a", 5, 0), of("o", 5)], 0, {"a": 0}),
        ((3, 1, 1), of("n", 5), [], 3, {}),
        ((3, 1, 1), of("n", 3), [of("o", 1)], 3, {"o": 0}),
    ],
)
def test_sizes_of_a_rolling_update(spec, new, old, new_size, old_sizes):
    replicas, surge, unavailable = spec
    subject = deployment(replicas, strategy=rolling(surge, unavailable))
    assert policy.new_size(subject, new, [*old, new]) == new_size
    assert policy.old_sizes(subject, new, old) == old_sizes


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (None, [], ("1", "")),
        (None, [of("o", 1, **{policy.REVISION: "4"})], ("5", "")),
        (of("n", 1, **{policy.REVISION: "5"}), [of("o", 1, **{policy.REVISION: "4"})], ("5", "")),
        (of("n", 1, **{policy.REVISION: "1"}), [of("o", 1, **{policy.REVISION: "2"})], ("3", "1")),
        (
            of("n", 1, **{policy.REVISION: "3", policy.REVISION_HISTORY: "1"}),
            [of("o", 1, **{policy.REVISION: "4"})],
            ("5", "1,3"),
        ),
    ],
)
def test_revisions(new, old, expected):
    assert policy.next_revision(new, old) == expected


def test_the_hash_depends_on_the_template_only():
    first = {"spec": {"a": 1, "b": [1, 2]}, "metadata": {"labels": {"x": "y"}}}
    second = {"metadata": {"labels": {"x": "y"}}, "spec": {"b": [1, 2], "a": 1}}
    assert policy.template_hash(first, 0) == policy.template_hash(second, 0)
    assert policy.template_hash(first, 0) != policy.template_hash(first, 1)
    assert policy.template_hash(first, 0) != policy.template_hash({**first, "spec": {"a": 1, "b": [2, 1]}}, 0)


async def test_a_name_that_is_taken_is_avoided(world):
    await world.client.create(deployment(replicas=1))
    await rolled_out(world, 1)
    (rs,) = await sets(world)
    await world.client.delete(Deployment, "web", NS, propagation="Orphan")
    await world.gone(Deployment, "web")
    # The same name, but not our labels: it is nobody's, and stays so.
    await world.client.patch(ReplicaSet, rs.metadata.name, {"metadata": {"labels": {"app": "other"}}}, NS)
    await world.client.create(deployment(replicas=1))

    async def avoided():
        names = [s.metadata.name for s in await sets(world)]
        return len(names) == 2 and rs.metadata.name in names

    await world.until(avoided)
    assert (await world.client.get(Deployment, "web", NS)).status.collision_count >= 1

"""Jobs on an embedded cluster: every attempt once, counted once."""

import copy
import datetime as dt
from collections import Counter

import pytest

from headrace.api.core import Pod
from headrace.api.meta import ObjectMeta
from headrace.controllermanager import controllers
from headrace.controllermanager import job_policy as policy
from headrace.controllermanager.job import FAILURES, manifest_of
from headrace.controllermanager.types import Job, JobSpec, PodManifest
from headrace.machinery.manager import Manager

from .conftest import CA, NS

TEMPLATE = {
    "metadata": {"labels": {"app": "task"}},
    "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "python:3.11"}]},
}


def job(name="task", **spec):
    return Job(metadata=ObjectMeta(name=name, namespace=NS), spec=JobSpec(template=copy.deepcopy(TEMPLATE), **spec))


async def get(world, name="task"):
    return await world.client.get(Job, name, NS)


async def active(world, number):
    async def check():
        found = [p for p in await world.pods(**{"job-name": "task"}) if p.status.phase in {"", "Pending", "Running"}]
        found = [p for p in found if p.metadata.deletion_timestamp is None]
        return found if len(found) == number else None

    if number:
        return await world.until(check)

    async def none():
        return await check() == []

    await world.until(none)
    return []


async def condition(world, type_, reason=None):
    async def check():
        return next(
            (
                c
                for c in (await get(world)).status.conditions
                if c.type == type_ and c.status == "True" and reason in {None, c.reason}
            ),
            None,
        )

    return await world.until(check)


async def status(world, **wanted):
    async def check():
        found = (await get(world)).status
        return all(getattr(found, k) == v for k, v in wanted.items())

    await world.until(check)


async def test_one_pod_once(world):
    made = await world.client.create(job())
    (pod,) = await active(world, 1)
    assert pod.metadata.name == policy.pod_name(made, 0, None)
    assert pod.metadata.labels["batch.kubernetes.io/job-name"] == "task"
    assert pod.metadata.labels["controller-uid"] == made.metadata.uid
    await world.set_phase(pod, "Running")
    await status(world, active=1, ready=1, succeeded=0)
    await world.set_phase(pod, "Succeeded")
    await condition(world, "Complete", "CompletionsReached")
    await status(world, active=0, succeeded=1, failed=0)
    found = await get(world)
    assert found.status.start_time is not None
    assert found.status.completion_time is not None
    await world.quiet()
    assert len(await world.pods()) == 1


async def test_parallel_completions(world):
    await world.client.create(job(parallelism=2, completions=5))
    for done in range(5):
        found = await active(world, min(2, 5 - done))
        await world.set_phase(found[0], "Succeeded")
        await status(world, succeeded=done + 1)
    await condition(world, "Complete")
    assert len(await world.pods()) == 5


async def test_a_work_queue_ends_with_its_workers(world):
    await world.client.create(job(parallelism=3))
    found = await active(world, 3)
    await world.set_phase(found[0], "Succeeded")
    await status(world, succeeded=1)
    await world.quiet()
    assert len(await active(world, 2)) == 2
    for pod in found[1:]:
        await world.set_phase(pod, "Succeeded")
    await condition(world, "Complete")
    await status(world, succeeded=3)


async def test_failures_are_tried_again_later_and_later_and_then_given_up(world):
    await world.client.create(job(backoff_limit=2))
    for failures, wait in ((1, 10), (2, 20)):
        (pod,) = await active(world, 1)
        await world.set_phase(pod, "Failed", exit_code=1)
        await status(world, failed=failures)
        await world.quiet()
        await active(world, 0)
        world.clock.step(wait - 2)
        await world.quiet()
        await active(world, 0)
        world.clock.step(3)
    (pod,) = await active(world, 1)
    await world.set_phase(pod, "Failed", exit_code=1)
    failed = await condition(world, "Failed", "BackoffLimitExceeded")
    assert failed.message == "Job has reached the specified backoff limit"
    await status(world, failed=3, active=0)
    assert len(await world.pods()) == 3


async def test_no_retries(world):
    await world.client.create(job(backoff_limit=0, parallelism=2, completions=2))
    first, _ = await active(world, 2)
    await world.set_phase(first, "Failed", exit_code=1)
    await condition(world, "Failed", "BackoffLimitExceeded")
    await active(world, 0)


async def test_the_deadline(world):
    await world.client.create(job(active_deadline_seconds=60))
    await active(world, 1)
    world.clock.step(61)
    await condition(world, "Failed", "DeadlineExceeded")
    await active(world, 0)


async def test_finished_jobs_expire(world):
    await world.client.create(job(ttl_seconds_after_finished=100))
    (pod,) = await active(world, 1)
    await world.set_phase(pod, "Succeeded")
    await condition(world, "Complete")
    world.clock.step(90)
    await world.quiet()
    await get(world)
    world.clock.step(20)
    await world.gone(Job, "task")

    async def pods_gone():
        return not await world.pods()

    await world.until(pods_gone)


async def test_suspend_and_resume(world):
    await world.client.create(job(suspend=True))
    await condition(world, "Suspended", "JobSuspended")
    await active(world, 0)
    assert (await get(world)).status.start_time is None
    await world.client.patch(Job, "task", {"spec": {"suspend": False}}, NS)
    await active(world, 1)
    assert not policy.is_suspended(await get(world))
    await world.client.patch(Job, "task", {"spec": {"suspend": True}}, NS)
    await active(world, 0)
    await condition(world, "Suspended")
    await world.client.patch(Job, "task", {"spec": {"suspend": False}}, NS)
    (pod,) = await active(world, 1)
    await world.set_phase(pod, "Succeeded")
    await condition(world, "Complete")
    await status(world, failed=0, succeeded=1)


async def test_indexed(world):
    await world.client.create(job(completions=3, parallelism=2, completion_mode="Indexed", backoff_limit=3))
    found = {policy.index_of(p): p for p in await active(world, 2)}
    assert set(found) == {0, 1}
    raw = await world.client.get(PodManifest, found[1].metadata.name, NS)
    assert raw.spec["hostname"] == "task-1"
    assert raw.spec["containers"][0]["env"][0]["name"] == "JOB_COMPLETION_INDEX"
    assert raw.metadata.labels[policy.INDEX] == "1"
    await world.set_phase(found[0], "Failed", exit_code=1)
    await status(world, failed=1)
    await world.set_phase(found[1], "Succeeded")
    await status(world, completed_indexes="1", succeeded=1)
    found = {policy.index_of(p): p for p in await active(world, 2)}
    assert set(found) == {0, 2}
    for pod in found.values():
        await world.set_phase(pod, "Succeeded")
    await condition(world, "Complete")
    await status(world, completed_indexes="0-2", succeeded=3, failed=1)


async def test_a_counted_pod_stays_counted_when_it_is_deleted(world):
    await world.client.create(job(completions=2, parallelism=1))
    (first,) = await active(world, 1)
    await world.set_phase(first, "Succeeded")
    (second,) = await active(world, 1)
    await world.client.delete(Pod, first.metadata.name, NS)
    await world.quiet()
    await world.set_phase(second, "Succeeded")
    await condition(world, "Complete")
    await status(world, succeeded=2)


async def test_a_pod_that_vanishes_is_made_again(world):
    await world.client.create(job())
    (first,) = await active(world, 1)
    await world.client.delete(Pod, first.metadata.name, NS, grace_period_seconds=0)

    async def again():
        found = await world.pods()
        return found and found[0].metadata.uid != first.metadata.uid

    await world.until(again)
    assert len(await world.pods()) == 1


async def test_a_restart_doubles_nothing_and_counts_nothing_twice(world):
    await world.client.create(job(completions=4, parallelism=2))
    for restart in range(4):
        found = await active(world, min(2, 4 - restart))
        await world.set_phase(found[0], "Succeeded")
        await world.cluster.manager.stop()
        world.cluster.manager = Manager(world.client, world.clock)
        for controller in controllers(
            world.cluster.settings, world.client, world.clock, CA, world.cluster.registry.kinds
        ):
            world.cluster.manager.add(controller, world.client)
        await world.cluster.manager.start()
        await status(world, succeeded=restart + 1)
    await condition(world, "Complete")
    await world.quiet()
    assert len(await world.pods()) == 4


async def indexed_pods(world, *indexes):
    async def check():
        found = {policy.index_of(p): p for p in await world.pods(**{"job-name": "task"}) if running(p)}
        return found if set(found) == set(indexes) else None

    return await world.until(check)


def running(pod):
    return pod.status.phase in {"", "Pending", "Running"} and pod.metadata.deletion_timestamp is None


def rule(action, *codes, **more):
    return {"action": action, "onExitCodes": {"operator": "In", "values": list(codes)}, **more}


async def test_the_success_policy(world):
    rules = [{"succeededIndexes": "0", "succeededCount": 1}]
    await world.client.create(
        job(completions=3, parallelism=3, completion_mode="Indexed", success_policy={"rules": rules})
    )
    found = await indexed_pods(world, 0, 1, 2)
    await world.set_phase(found[1], "Succeeded")
    await status(world, completed_indexes="1")
    await world.quiet()
    assert not policy.is_finished(await get(world))
    await world.set_phase(found[0], "Succeeded")
    met = await condition(world, "SuccessCriteriaMet", "SuccessPolicy")
    assert met.message == "Matched rules at index 0"
    await condition(world, "Complete", "SuccessPolicy")
    await status(world, completed_indexes="0,1", active=0)


async def test_each_index_has_its_own_limit_and_backoff(world):
    spec = {"backoff_limit_per_index": 1, "completions": 2, "parallelism": 2, "completion_mode": "Indexed"}
    await world.client.create(job(**spec))
    found = await indexed_pods(world, 0, 1)
    await world.set_phase(found[0], "Failed", exit_code=1)
    await status(world, failed=1, failed_indexes="")
    await world.quiet()
    await indexed_pods(world, 1)
    world.clock.step(11)
    found = await indexed_pods(world, 0, 1)
    assert found[0].metadata.annotations[FAILURES] == "1"
    assert found[1].metadata.annotations[FAILURES] == "0"
    await world.set_phase(found[0], "Failed", exit_code=1)
    await status(world, failed=2, failed_indexes="0")
    world.clock.step(60)
    await world.quiet()
    await indexed_pods(world, 1)
    await world.set_phase(found[1], "Succeeded")
    failed = await condition(world, "Failed", "FailedIndexes")
    assert failed.message == "Job has failed indexes"
    await status(world, completed_indexes="1", failed_indexes="0", succeeded=1, active=0)


async def test_too_many_failed_indexes(world):
    spec = {"backoff_limit_per_index": 0, "max_failed_indexes": 1, "completions": 4, "parallelism": 3}
    await world.client.create(job(completion_mode="Indexed", **spec))
    found = await indexed_pods(world, 0, 1, 2)
    await world.set_phase(found[0], "Failed", exit_code=1)
    found = await indexed_pods(world, 1, 2, 3)
    await world.set_phase(found[1], "Failed", exit_code=1)
    await condition(world, "Failed", "MaxFailedIndexesExceeded")
    await status(world, failed_indexes="0,1", failed=2, active=0)


async def test_failures_that_the_policy_ignores_do_not_count(world):
    rules = [rule("Ignore", 3, 5)]
    await world.client.create(job(backoff_limit=0, pod_failure_policy={"rules": rules}))
    (pod,) = await active(world, 1)
    await world.set_phase(pod, "Failed", exit_code=5)
    world.clock.step(11)
    (again,) = await active(world, 1)
    assert again.metadata.name != pod.metadata.name
    await status(world, failed=0)
    await world.set_phase(again, "Failed", exit_code=4)
    await condition(world, "Failed", "BackoffLimitExceeded")


async def test_a_failure_that_fails_the_job(world):
    await world.client.create(job(parallelism=2, completions=2, pod_failure_policy={"rules": [rule("FailJob", 42)]}))
    first, _ = await active(world, 2)
    await world.set_phase(first, "Failed", exit_code=42)
    failed = await condition(world, "Failed", "PodFailurePolicy")
    where = f"default/{first.metadata.name}"
    assert failed.message == (
        f"Container main for pod {where} failed with exit code 42 matching FailJob rule at index 0"
    )
    await condition(world, "FailureTarget", "PodFailurePolicy")
    await active(world, 0)


async def test_a_failure_that_fails_its_index(world):
    spec = {"backoff_limit_per_index": 5, "completions": 2, "parallelism": 2, "completion_mode": "Indexed"}
    await world.client.create(job(pod_failure_policy={"rules": [rule("FailIndex", 42)]}, **spec))
    found = await indexed_pods(world, 0, 1)
    await world.set_phase(found[0], "Failed", exit_code=42)
    await status(world, failed_indexes="0", failed=1)
    await world.set_phase(found[1], "Succeeded")
    await condition(world, "Failed", "FailedIndexes")


async def stop_slowly(world, pod):
    """The pod has a node, so that its deletion takes until the node's agent has stopped it."""
    meta = pod.metadata
    await world.client.patch(Pod, meta.name, {"spec": {"nodeName": "here"}}, meta.namespace)
    await world.client.delete(Pod, meta.name, meta.namespace)


async def test_a_pod_that_stops_is_replaced_at_once_or_when_it_has_stopped(world):
    await world.client.create(job())
    (pod,) = await active(world, 1)
    await stop_slowly(world, pod)
    await status(world, active=1, terminating=1)
    await world.client.create(job("later", pod_replacement_policy="Failed"))

    async def first():
        return await world.pods(**{"job-name": "later"})

    (pod,) = await world.until(first)
    await stop_slowly(world, pod)

    async def stopping():
        found = (await get(world, "later")).status
        return (found.active, found.terminating) == (0, 1)

    await world.until(stopping)
    await world.quiet()
    assert len(await world.pods(**{"job-name": "later"})) == 1
    await world.finish_deletion(pod)

    async def replaced():
        found = await world.pods(**{"job-name": "later"})
        return [p.metadata.uid for p in found] not in ([], [pod.metadata.uid])

    await world.until(replaced)


async def test_a_job_has_ended_when_its_last_pod_has(world):
    await world.client.create(job(active_deadline_seconds=60))
    (pod,) = await active(world, 1)
    await world.client.patch(Pod, pod.metadata.name, {"spec": {"nodeName": "here"}}, NS)
    world.clock.step(61)
    await condition(world, "FailureTarget", "DeadlineExceeded")
    await world.quiet()
    assert not policy.is_finished(await get(world))
    await world.finish_deletion(pod)
    await condition(world, "Failed", "DeadlineExceeded")


async def test_an_indexed_job_shrinks_and_grows(world):
    await world.client.create(job(completions=3, parallelism=3, completion_mode="Indexed"))
    await indexed_pods(world, 0, 1, 2)
    for size in (1, 2):
        await world.client.patch(Job, "task", {"spec": {"completions": size, "parallelism": size}}, NS)
        await indexed_pods(world, *range(size))


async def test_somebody_elses_job_is_left_alone_until_it_expires(world):
    await world.client.create(job(managed_by="kueue.x-k8s.io/multikueue", ttl_seconds_after_finished=10))
    await world.quiet()
    assert await world.pods() == []
    assert (await get(world)).status.start_time is None
    now = world.clock.now().isoformat().replace("+00:00", "Z")
    done = {"type": "Complete", "status": "True", "lastTransitionTime": now}
    await world.client.patch(Job, "task", {"status": {"conditions": [done]}}, NS, subresource="status")
    world.clock.step(11)
    await world.gone(Job, "task")


async def test_everything_goes_with_the_job(world):
    await world.client.create(job())
    await active(world, 1)
    await world.client.delete(Job, "task", NS, propagation="Foreground")
    await world.gone(Job, "task")
    assert await world.pods() == []


@pytest.mark.parametrize(
    ("numbers", "text"), [(set(), ""), ({0}, "0"), ({0, 1, 2, 5}, "0-2,5"), ({3, 7, 8}, "3,7,8"), ({1, 3}, "1,3")]
)
def test_numbers(numbers, text):
    assert policy.format_numbers(numbers) == text
    assert policy.parse_numbers(text) == numbers


@pytest.mark.parametrize("text", ["", "nonsense", "succeeded=x-y;unknown=1", "succeeded=3-1"])
def test_an_account_that_somebody_broke_is_empty(text):
    assert policy.Account.parse(text) == policy.Account()


def test_an_account_survives_writing():
    account = policy.Account({0, 1, 5}, {2}, {3}, {7}, {8}, Counter({4: 1, 8: 2, 9: 1}))
    assert policy.Account.parse(str(account)) == account


@pytest.mark.parametrize(
    ("spec", "succeeded", "active_", "expected"),
    [
        ({}, 0, 0, 1),
        ({"completions": 5, "parallelism": 2}, 0, 0, 2),
        ({"completions": 5, "parallelism": 2}, 4, 0, 1),
        ({"completions": 5, "parallelism": 0}, 0, 2, 0),
        ({"completions": 5, "parallelism": 9}, 5, 0, 0),
        ({"parallelism": 3}, 0, 1, 3),
        ({"parallelism": 3}, 1, 2, 2),
        ({"parallelism": 1}, 1, 2, 1),
    ],
)
def test_how_many_run(spec, succeeded, active_, expected):
    assert policy.wanted_active(job(**spec), policy.Account(set(range(succeeded))), active_) == expected


def test_names_differ_and_fit():
    made = job("x" * 63)
    made.metadata.uid = "u"
    names = {policy.pod_name(made, n, i) for n in range(20_000) for i in (None, n)}
    assert len(names) == 40_000
    assert max(map(len, names)) <= 63


def test_an_index_that_the_user_sets_is_kept():
    made = job(completion_mode="Indexed", completions=1)
    made.spec.template["spec"]["containers"][0]["env"] = [{"name": "JOB_COMPLETION_INDEX", "value": "7"}]
    assert manifest_of(made, 0, 0).spec["containers"][0]["env"] == [{"name": "JOB_COMPLETION_INDEX", "value": "7"}]


NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def ended(phase, ago):
    pod = Pod(metadata=ObjectMeta(creation_timestamp=NOW - dt.timedelta(seconds=ago)))
    pod.status.phase = phase
    return pod


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], 0),
        ([ended("Failed", 4)], 6),
        ([ended("Failed", 40)], 0),
        ([ended("Failed", 30), ended("Failed", 5)], 15),
        ([ended("Failed", 30), ended("Succeeded", 20), ended("Failed", 5)], 5),
        ([ended("Failed", 5), ended("Succeeded", 1)], 0),
        ([ended("Failed", i) for i in range(20)], 360),
    ],
)
def test_backoff(found, expected):
    assert policy.backoff_left(found, NOW) == expected

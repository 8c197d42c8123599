"""The helpers that other tests stand on."""

import asyncio
import datetime as dt

import pytest

from headrace.api.core import ConfigMap
from headrace.api.errors import NotFound
from headrace.api.identity import service_account
from headrace.api.meta import ObjectMeta
from headrace.testing import FakeClock, embedded_cluster, eventually


class TestFakeClock:
    async def test_sleepers_wake_in_order_when_their_time_has_come(self):
        clock, woken = FakeClock(), []

        async def sleeper(seconds):
            await clock.sleep(seconds)
            woken.append(seconds)

        tasks = [asyncio.create_task(sleeper(s)) for s in (3, 1, 2)]
        await asyncio.sleep(0)
        assert clock.sleepers == 3
        clock.step(0.5)
        await asyncio.sleep(0)
        assert woken == []
        clock.step(1.5)
        await asyncio.sleep(0)
        assert woken == [1, 2]
        clock.step(10)
        await asyncio.gather(*tasks)
        assert woken == [1, 2, 3]

    async def test_time_moves_only_when_it_is_moved(self):
        clock = FakeClock(dt.datetime(2026, 5, 1, tzinfo=dt.UTC))
        await clock.sleep(0)
        clock.step(1.25)
        assert clock.monotonic() == 1.25
        assert clock.precise().isoformat() == "2026-05-01T00:00:01.250000+00:00"
        assert clock.now().isoformat() == "2026-05-01T00:00:01+00:00"

    async def test_a_cancelled_sleeper_is_forgotten(self):
        clock = FakeClock()
        task = asyncio.create_task(clock.sleep(5))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert clock.sleepers == 0
        clock.step(10)


class TestEventually:
    async def test_it_returns_what_became_true(self):
        attempts = iter([None, 0, "there"])
        assert await eventually(lambda: next(attempts)) == "there"

    async def test_not_yet_may_be_an_assertion_or_a_missing_object(self):
        attempts = iter([AssertionError("not yet"), NotFound("not there"), None])

        async def look():
            error = next(attempts)
            if error is not None:
                raise error
            return True

        assert await eventually(look)

    async def test_the_last_reason_explains_a_timeout(self):
        def never():
            raise AssertionError("still red")

        with pytest.raises(AssertionError, match="still red"):
            await eventually(never, timeout=0.02)

    async def test_other_errors_are_not_swallowed(self):
        with pytest.raises(ZeroDivisionError):
            await eventually(lambda: 1 / 0)


async def test_a_cluster_has_its_namespaces_and_identities():
    async with embedded_cluster() as cluster:
        for namespace in ("default", "kubeflow", "kubeflow-user-example-com"):
            await cluster.client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace=namespace)))
        robot = cluster.client_for(service_account("default", "robot"))
        assert robot.user.name == "system:serviceaccount:default:robot"

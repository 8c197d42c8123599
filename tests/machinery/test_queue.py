"""The work queue: each key once, never twice at a time, back later when it failed; nothing runs while it is idle."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.machinery.clock import SystemClock
from headrace.machinery.queue import MAX_DELAY, WorkQueue
from headrace.testing.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def queue(clock):
    return WorkQueue(clock)


async def settle():
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def getter(queue):
    """A worker that waits for one key."""
    task = asyncio.create_task(queue.get())
    await settle()
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def taken(queue):
    """Keys that can be had now, in order."""
    keys = []
    while True:
        async with getter(queue) as task:
            if not task.done():
                return keys
            keys.append(task.result())
            queue.done(keys[-1])


async def test_keys_come_in_the_order_of_their_adding_and_each_once(queue):
    for key in ("b", "a", "b", "c", "a"):
        queue.add(key)
    assert len(queue) == 3
    assert await taken(queue) == ["b", "a", "c"]


async def test_a_key_that_is_added_while_it_is_worked_on_comes_again_once_and_not_before_it_is_done(queue):
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    async with getter(queue) as other:
        assert not other.done(), "two workers would have the same key"
        queue.done("a")
        await settle()
        assert other.result() == "a"
        queue.done("a")
    assert queue.idle


async def test_idle_means_nothing_ready_and_nothing_in_work(queue):
    assert queue.idle
    queue.add("a")
    assert not queue.idle
    key = await queue.get()
    assert not queue.idle
    queue.done(key)
    queue.add_after("a", 5)
    assert queue.idle, "what is delayed does not count"


async def test_a_delayed_key_comes_when_its_time_has_come_and_not_before(queue, clock):
    queue.add_after("a", 10)
    async with getter(queue) as task:
        clock.step(9.99)
        await settle()
        assert not task.done()
        clock.step(0.01)
        await settle()
        assert task.result() == "a"


async def test_a_delayed_key_comes_to_a_worker_that_was_busy_when_its_time_came(queue, clock):
    queue.add_after("a", 10)
    clock.step(11)
    assert await queue.get() == "a"


@pytest.mark.parametrize("delays", [(10, 3), (3, 10)])
async def test_of_two_delays_the_earlier_wins_and_the_key_comes_once(queue, clock, delays):
    for delay in delays:
        queue.add_after("a", delay)
    async with getter(queue) as task:
        clock.step(3)
        await settle()
        assert task.result() == "a"
        queue.done("a")
    clock.step(20)
    assert await taken(queue) == []


async def test_a_shorter_delay_reaches_a_worker_that_already_waits_for_a_longer_one(queue, clock):
    queue.add_after("later", 60)
    async with getter(queue) as task:
        queue.add_after("sooner", 1)
        clock.step(1)
        await settle()
        assert task.result() == "sooner"


async def test_adding_at_once_does_not_undo_a_delay(queue, clock):
    queue.add_after("a", 10)
    queue.add("a")
    assert await taken(queue) == ["a"]
    clock.step(10)
    assert await taken(queue) == ["a"]


@pytest.mark.parametrize("seconds", [0, -1])
async def test_no_delay_means_at_once(queue, seconds):
    queue.add_after("a", seconds)
    assert len(queue) == 1


async def test_backoff_doubles_up_to_a_cap_and_begins_anew_after_a_success(clock):
    queue = WorkQueue(clock, base_delay=1, max_delay=10)
    assert [queue.retry("a") for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert queue.retry("b") == 1, "the backoff is the key's own"
    queue.forget("a")
    assert queue.retry("a") == 1


async def test_a_key_that_has_failed_for_days_still_has_a_backoff(queue):
    delays = [queue.retry("a") for _ in range(3000)]
    assert delays[-1] == MAX_DELAY


async def test_a_retry_comes_back_after_its_delay(clock):
    queue = WorkQueue(clock, base_delay=1)
    queue.add("a")
    key = await queue.get()
    queue.retry(key)
    queue.done(key)
    assert await taken(queue) == []
    clock.step(1)
    assert await taken(queue) == ["a"]


async def test_close_wakes_every_waiting_worker_and_no_key_comes_any_more(queue, clock):
    queue.add_after("a", 10)
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await settle()
    queue.close()
    assert await asyncio.gather(*waiting) == [None, None, None]
    queue.add("b")
    assert await queue.get() is None
    assert clock.sleepers == 0


async def test_a_key_wakes_one_worker_and_two_keys_two(queue):
    async with getter(queue) as first, getter(queue) as second:
        queue.add("a")
        await settle()
        assert first.done() != second.done()
        queue.add("b")
        await settle()
        assert {first.result(), second.result()} == {"a", "b"}


async def test_a_worker_that_is_cancelled_just_as_a_key_woke_it_passes_the_key_on(queue):
    async with getter(queue) as first, getter(queue) as second:
        queue.add("a")
        first.cancel()
        await settle()
        assert first.cancelled()
        assert second.result() == "a"


async def test_a_worker_that_is_cancelled_while_others_wait_leaves_them_their_timer(queue, clock):
    queue.add_after("a", 5)
    async with getter(queue) as first, getter(queue) as second:
        first.cancel()
        await settle()
        clock.step(5)
        await settle()
        assert second.result() == "a"


async def test_many_workers_share_one_timer_and_nobody_waiting_means_no_timer(queue, clock):
    for i in range(100):
        queue.add_after(f"k{i}", 10 + i)
    workers = [asyncio.create_task(queue.get()) for _ in range(8)]
    await settle()
    assert clock.sleepers == 1
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    await settle()
    assert clock.sleepers == 0


class CountingClock(SystemClock):
    """Real time; how often it is asked tells how often anybody woke up."""

    def __init__(self):
        self.asked = 0

    def monotonic(self):
        self.asked += 1
        return super().monotonic()


async def test_waiting_costs_nothing_and_does_not_spin_when_the_time_is_near():
    clock = CountingClock()
    queue = WorkQueue(clock)
    queue.add_after("a", 0.05)
    key = await queue.get()
    assert key == "a"
    assert clock.asked < 10


async def test_a_clock_that_wakes_early_does_not_make_the_queue_spin():
    class Early(FakeClock):
        slept = 0

        async def sleep(self, seconds):
            self.slept += 1
            self.step(seconds - 0.0003)
            await asyncio.sleep(0)

    clock = Early()
    queue = WorkQueue(clock)
    queue.add_after("a", 1)
    assert await queue.get() == "a"
    assert clock.slept == 1


async def test_ten_thousand_keys_leave_the_event_loop_to_others(queue):
    for i in range(10_000):
        queue.add(str(i))
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(10_000):
        queue.done(await queue.get())
    task.cancel()
    assert queue.idle
    assert turns >= 9_000


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "after", "take", "done", "retry", "step"]), st.sampled_from("abc")),
        max_size=60,
    )
)
def test_whatever_happens_no_key_is_lost_and_none_is_worked_on_twice_at_a_time(steps):
    async def play():
        clock = FakeClock()
        queue = WorkQueue(clock, base_delay=1, max_delay=4)
        owed: set[str] = set()
        working: set[str] = set()
        for what, key in steps:
            if what == "add":
                queue.add(key)
                owed.add(key)
            elif what == "after":
                queue.add_after(key, 2)
                owed.add(key)
            elif what == "step":
                clock.step(1)
            elif what == "take":
                async with getter(queue) as task:
                    if task.done():
                        assert task.result() not in working
                        working.add(task.result())
                        owed.discard(task.result())
            elif key in working:
                if what == "retry":
                    queue.retry(key)
                    owed.add(key)
                working.discard(key)
                queue.done(key)
        for key in working:
            queue.done(key)
        clock.step(100)
        assert owed <= set(await taken(queue))

    asyncio.run(play())

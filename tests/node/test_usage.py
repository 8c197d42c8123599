"""What containers use between two looks."""

from __future__ import annotations

import datetime as dt

import pytest

from headrace.machinery.component import ContainerUsage, Spent
from headrace.node.runtime.base import ContainerPhase, ContainerState, Usage
from headrace.node.usage import KEPT_PODS, MOMENT_SECONDS, Look, NodeUsages, used


def look(at: float, *found: Usage, machine: float = 0.0) -> Look:
    return Look(at, machine, {(u.pod_uid, u.id): u for u in found})


def test_use_is_a_difference_over_the_window() -> None:
    before = look(10, Usage("p", "main-0", 5.0, 1), machine=100)
    now = look(
        20, Usage("p", "main-0", 10.0, 4096), Usage("p", "a-1", 1.0, 8192), Usage("q", "x-y-3", 0.0, 1), machine=115
    )
    usage = used(before, now, 77)
    assert (usage.window_seconds, usage.cpu_cores, usage.memory_bytes) == (10, 1.5, 77)
    assert usage.pods == {
        "p": (ContainerUsage("a", 0.1, 8192), ContainerUsage("main", 0.5, 4096)),
        "q": (ContainerUsage("x-y", 0.0, 1),),
    }


def test_processes_that_ended_never_make_it_negative() -> None:
    usage = used(look(0, Usage("p", "m-0", 5.0, 1)), look(1, Usage("p", "m-0", 4.0, 1)), 0)
    assert usage.pods["p"][0].cpu_cores == 0.0


class Clock:
    def __init__(self) -> None:
        self.time, self.slept = 0.0, 0.0

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.time += seconds

    def now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.time, dt.UTC)


class Busy:
    """A runtime with one container that uses half a core."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.looks = clock, 0

    async def usage(self) -> list[Usage]:
        self.looks += 1
        return [Usage("p", "m-0", self.clock.time / 2, 100)]


@pytest.mark.parametrize(
    ("pause", "window", "slept"),
    [(10.0, 10.0, 0.0), (0.1, MOMENT_SECONDS, MOMENT_SECONDS), (1000.0, MOMENT_SECONDS, MOMENT_SECONDS)],
)
async def test_the_question_before_is_the_first_look_when_it_is_of_use(pause, window, slept) -> None:
    clock = Clock()
    runtime = Busy(clock)
    usages = NodeUsages(runtime, clock)  # type: ignore[arg-type]
    first = await usages.usage()
    assert (first.window_seconds, clock.slept, runtime.looks) == (MOMENT_SECONDS, MOMENT_SECONDS, 2)
    assert first.pods["p"][0].cpu_cores == pytest.approx(0.5)
    clock.time += pause
    clock.slept = 0.0
    second = await usages.usage()
    assert (second.window_seconds, clock.slept) == (pytest.approx(window), slept)
    assert second.pods["p"][0].cpu_cores == pytest.approx(0.5)


def ended(uid: str, name: str, seconds: float, peak: int) -> ContainerState:
    moment = dt.datetime.fromtimestamp(0, dt.UTC)
    return ContainerState(uid, name, ContainerPhase.EXITED, 1, moment, moment, cpu_seconds=seconds, peak_bytes=peak)


def test_what_a_pod_used_is_the_sum_of_its_ended_containers() -> None:
    clock = Clock()
    usages = NodeUsages(Busy(clock), clock)
    assert usages.spent("p") is None
    for again in ("main-0", "main-0"):  # an end that is told twice counts once
        usages.ended(ended("p", again, 1.0, 50))
    usages.ended(ended("p", "main-1", 0.5, 20))
    assert usages.spent("p") == Spent(1.5, 50)
    for number in range(KEPT_PODS):
        usages.ended(ended(f"other-{number}", "main-0", 1.0, 1))
    assert usages.spent("p") is None

"""Which steps and runs may begin, and in which order."""

from __future__ import annotations

import pytest

from headrace.components.pipelines.policy.limits import (
    CONFIG_MAP,
    Ask,
    Limits,
    Turnstile,
    next_runs,
    of_namespace,
    read_limits,
    run_reason,
    share_of,
)


class Steps:
    """A turnstile and who went through it."""

    def __init__(self, steps: int | None = None, namespaces: dict[str, int] | None = None, capacity: float = 1e9):
        self.gate, self.begun = Turnstile(), []
        self.gate.steps, self.gate.capacity = steps, capacity
        self.gate.of_namespace = (namespaces or {}).get

    def ask(self, key: str, share: float = 0.1, namespace: str = "home") -> bool:
        """The run is the key's first letter."""
        ask = Ask(key, key[0], namespace, share, lambda: self.begun.append(key))
        at_once = self.gate.enter(ask)
        if at_once:
            self.begun.append(key)
        return at_once


def test_without_limits_everything_begins_at_once():
    steps = Steps()
    assert all(steps.ask(f"a{i}") for i in range(500))


def test_no_more_than_so_many_at_once_in_the_order_of_arrival():
    steps = Steps(2)
    assert [steps.ask(f"a{i}") for i in range(4)] == [True, True, False, False]
    steps.gate.leave("a0")
    assert steps.begun == ["a0", "a1", "a2"]
    steps.gate.leave("a0")  # a second time changes nothing
    steps.gate.leave("a2")
    assert steps.begun == ["a0", "a1", "a2", "a3"]


def test_a_run_that_has_fewer_steps_on_their_way_goes_first():
    steps = Steps(4)
    for i in range(10):
        steps.ask(f"a{i}")
    for i in range(3):
        steps.ask(f"b{i}")
    for i in range(4):
        steps.gate.leave(f"a{i}")
    assert steps.begun[4:] == ["b0", "b1", "a4", "a5"]


def test_what_the_steps_request_bounds_them_and_a_large_one_is_not_overtaken():
    steps = Steps(capacity=2.0)
    assert [steps.ask("a0", 1.0), steps.ask("a1", 0.9), steps.ask("b0", 1.5), steps.ask("c0", 0.1)] == [
        True,
        True,
        False,
        False,
    ]
    steps.gate.leave("a0")
    assert steps.begun == ["a0", "a1"]
    steps.gate.leave("a1")
    assert steps.begun == ["a0", "a1", "b0", "c0"]


def test_one_step_that_is_larger_than_everything_is_in_nobodys_way():
    steps = Steps(capacity=2.0)
    assert steps.ask("a0", 1.5)
    assert steps.ask("a1", 50.0)
    assert [steps.ask("b0", 0.5), steps.ask("b1", 0.5)] == [True, False]
    steps.gate.leave("a1")
    assert steps.begun == ["a0", "a1", "b0"]


def test_what_the_node_cannot_take_leaves_its_room_to_others_until_it_runs():
    steps = Steps(capacity=1.0)
    assert [steps.ask(key, 0.5) for key in ("a0", "a1", "b0", "b1")] == [True, True, False, False]
    steps.gate.put_aside("a0", aside=True)
    steps.gate.put_aside("a0", aside=True)
    steps.gate.put_aside("b1", aside=True)  # it is not inside
    assert steps.begun == ["a0", "a1", "b0"]
    steps.gate.put_aside("a0", aside=False)
    steps.gate.leave("a1")
    assert steps.begun == ["a0", "a1", "b0"], "a0 runs now"
    steps.gate.leave("a0")
    assert steps.begun == ["a0", "a1", "b0", "b1"]


def test_a_machine_that_becomes_known_later_counts_what_began_before():
    steps = Steps()
    assert steps.ask("a0", 3.0)
    steps.gate.capacity = 2.0
    assert not steps.ask("b0", 0.5)
    steps.gate.leave("a0")
    assert steps.begun == ["a0", "b0"]


def test_only_so_many_begin_at_once():
    steps = Steps()
    steps.gate.starting = 2
    assert [steps.ask(f"a{i}") for i in range(6)] == [True, True, False, False, False, False]
    steps.gate.begun("a1")
    assert steps.begun == ["a0", "a1", "a2"]
    steps.gate.begun("a1")  # a second time changes nothing
    steps.gate.begun("a5")  # nor does one that has not been let through
    steps.gate.leave("a0")  # it has ended before it was seen running
    assert steps.begun == ["a0", "a1", "a2", "a3"]
    steps.gate.hold(Ask("b0", "b", "home", 0.1, lambda: None))  # found after a restart: it has begun
    steps.gate.begun("a2")
    assert steps.begun[4:] == ["a4"]


def test_the_limit_of_one_namespace_is_in_nobody_elses_way():
    steps = Steps(namespaces={"home": 1})
    assert steps.ask("a0")
    assert not steps.ask("a1")
    assert steps.ask("b0", namespace="other")
    assert steps.ask("c0", namespace="other")
    steps.gate.leave("a0")
    assert steps.begun == ["a0", "b0", "c0", "a1"]


def test_who_is_held_counts_and_who_is_forgotten_does_not_wait():
    steps = Steps(1)
    steps.gate.hold(Ask("z0", "z", "home", 0.1, lambda: None))
    assert not steps.ask("a0")
    assert not steps.ask("b0")
    steps.gate.forget("a")
    steps.gate.leave("z0")
    assert steps.begun == ["b0"]


def test_a_limit_that_is_lifted_lets_them_in():
    steps = Steps(1)
    for i in range(3):
        steps.ask(f"a{i}")
    steps.gate.steps = None
    steps.gate.pump()
    assert steps.begun == ["a0", "a1", "a2"]


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (Steps(1), "Waiting: 1 steps are on their way on this platform, and no more may be at once."),
        (Steps(namespaces={"home": 1}), "Waiting: 1 steps are on their way in namespace 'home', and no more may"),
        (Steps(), "Waiting for its turn: 1 other steps are beginning."),
        (Steps(capacity=0.1), "Waiting for its turn: the steps that are on their way ask for all that the machine"),
    ],
)
def test_why_a_step_waits(steps, reason):
    if reason.endswith("beginning."):
        steps.gate.starting = 1
    steps.ask("a0")
    steps.ask("a1")
    [ask] = steps.gate.waiting("a")
    assert steps.gate.reason(ask).startswith(reason)


@pytest.mark.parametrize(
    ("waiting", "active", "limit", "namespaces", "expected"),
    [
        ("a1 a2 b1", {}, None, {}, ["a1", "b1", "a2"]),
        ("a1 a2 b1", {}, 2, {}, ["a1", "b1"]),
        ("a1 a2 b1", {"b": 1}, 2, {}, ["a1"]),
        ("a1 a2 b1", {"a": 1}, None, {"a": 1}, ["b1"]),
        ("a1 a2", {"a": 3}, 3, {}, []),
        ("", {}, 3, {}, []),
    ],
)
def test_the_oldest_run_of_the_namespace_with_the_fewest_begins(waiting, active, limit, namespaces, expected):
    runs = {run: run[0] for run in waiting.split()}
    assert next_runs(runs, active, limit, namespaces.get) == expected


def test_why_a_run_waits():
    assert run_reason("a", 5, 1, {"a": 1}) == "Waiting: 1 runs go on in namespace 'a', and no more may at once."
    assert run_reason("a", 5, 9, {"a": 1}) == "Waiting: 5 runs go on on this platform, and no more may at once."


def test_the_numbers_of_a_config_map():
    given = {"runs": " 3 ", "steps-per-namespace": "10"}
    assert read_limits(given) == (Limits(runs=3, steps_per_namespace=10), [])
    found, problems = read_limits({"runs": "0", "steps": "many", "pods": "1"})
    assert found == Limits()
    assert problems == [
        f"runs of the ConfigMap {CONFIG_MAP} must be a whole number above 0, not '0'.",
        f"steps of the ConfigMap {CONFIG_MAP} must be a whole number above 0, not 'many'.",
        (
            f"The ConfigMap {CONFIG_MAP} has 'pods', which is no limit; "
            "there are runs, steps, runs-per-namespace and steps-per-namespace."
        ),
    ]


@pytest.mark.parametrize(
    ("system", "own", "expected"),
    [
        (Limits(), Limits(), (None, None)),
        (Limits(runs_per_namespace=3), Limits(runs=5, steps=7), (3, 7)),
        (Limits(runs=1, steps_per_namespace=9), Limits(steps=7), (None, 7)),
    ],
)
def test_a_namespace_never_gets_more_than_the_platform_gives_each(system, own, expected):
    assert of_namespace(system, own) == expected


def test_the_share_of_a_machine():
    assert share_of(1, 0, 2, 8) == 0.5
    assert share_of(0.1, 4, 2, 8) == 0.5
    assert share_of(1, 1, 0, 0) == 0

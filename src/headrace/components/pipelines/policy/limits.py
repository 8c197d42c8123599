"""How much goes on at once: which steps and runs may begin, and in which order. Pure: no clock, no client.

Two kinds of limits. Numbers that people set (ConfigMap `pipeline-limits`; docs/how-to/limit-pipelines.md): runs and
steps of a namespace and of the whole platform. And, without being set, what the steps request: pods are made for as
much as the machine can hold and a little more, so that a loop over thousands of items costs no thousands of waiting
pods, and the machine never idles between two steps.

And only a few begin at the same time: a start is work for the platform, of which a machine does so much at a time and
no more, and everything else that people ask for would wait behind it.

Order: the run with the fewest steps on their way goes first, among equals the one that has waited longest; of one run,
first come, first served. For runs: the namespace with the fewest, then the oldest. A step that does not fit yet is
waited for, not overtaken, so that large ones have their turn. One that is larger than the machine, or that the node
cannot take for another reason than room, takes nothing from the others: its pod says what it waits for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CONFIG_MAP = "pipeline-limits"
RUNS, STEPS, NAMESPACE_RUNS, NAMESPACE_STEPS = "runs", "steps", "runs-per-namespace", "steps-per-namespace"
AHEAD = 1.0
"""How many times over the machine may be asked for. Steps wait here, where that costs nothing: a pod that waits for the
node has its status written and an event, and looks again whenever another one ends."""
_LARGEST = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers that people set; None is no limit."""

    runs: int | None = None
    steps: int | None = None
    runs_per_namespace: int | None = None
    steps_per_namespace: int | None = None


def read_limits(data: Mapping[str, str]) -> tuple[Limits, list[str]]:
    """The limits of a ConfigMap, and a sentence for each that is wrong and does not count."""
    found: dict[str, int | None] = {}
    problems: list[str] = []
    for name in (RUNS, STEPS, NAMESPACE_RUNS, NAMESPACE_STEPS):
        text = data.get(name, "").strip()
        if not text:
            continue
        if text.isdecimal() and 0 < int(text) <= _LARGEST:
            found[name.replace("-", "_")] = int(text)
        else:
            problems.append(f"{name} of the ConfigMap {CONFIG_MAP} must be a whole number above 0, not {text!r}.")
    problems += [
        f"The ConfigMap {CONFIG_MAP} has {name!r}, which is no limit; there are {RUNS}, {STEPS}, "
        f"{NAMESPACE_RUNS} and {NAMESPACE_STEPS}."
        for name in sorted(data.keys() - {RUNS, STEPS, NAMESPACE_RUNS, NAMESPACE_STEPS})
    ]
    return Limits(**found), problems


def of_namespace(system: Limits, own: Limits) -> tuple[int | None, int | None]:
    """Runs and steps of a namespace: its own numbers, never more than the platform gives each."""
    return _least(own.runs, system.runs_per_namespace), _least(own.steps, system.steps_per_namespace)


@dataclass(slots=True)
class Ask:
    """A step that wants to begin. `share` is the part of the machine that it requests."""

    key: str
    run_id: str
    namespace: str
    share: float
    begin: Callable[[], None]
    taken: float = 0.0
    """The part of the machine that others cannot have because of it."""


@dataclass(slots=True)
class _Line:
    """The steps of one run that wait."""

    since: int
    asks: deque[Ask] = field(default_factory=deque)


class Turnstile:
    """Lets steps through."""

    def __init__(self) -> None:
        self.steps: int | None = None
        """How many at once on the whole platform."""
        self.of_namespace: Callable[[str], int | None] = lambda _namespace: None
        self.capacity = float("inf")
        """How much may be asked for, in machines."""
        self.starting: int | None = None
        """How many may be beginning at once."""
        self._inside: dict[str, Ask] = {}
        self._starting: set[str] = set()
        self._by_run: dict[str, int] = {}
        self._by_namespace: dict[str, int] = {}
        self._share = 0.0
        self._lines: dict[str, _Line] = {}
        self._arrivals = 0

    def enter(self, ask: Ask) -> bool:
        """True when it may begin at once; otherwise `begin` is called when it may."""
        if ask.key in self._inside:
            return True
        line = self._lines.get(ask.run_id)
        if line is None:
            if not self._others_wait(ask) and self._fits(ask):
                self._let_in(ask)
                return True
            self._arrivals += 1
            line = self._lines[ask.run_id] = _Line(self._arrivals)
        if all(known.key != ask.key for known in line.asks):
            line.asks.append(ask)
        return False

    def hold(self, ask: Ask) -> None:
        """It is inside already: found after a restart."""
        if ask.key not in self._inside:
            self._admit(ask)

    def leave(self, key: str) -> None:
        """It has ended, or will never begin."""
        ask = self._inside.pop(key, None)
        if ask is None:
            return
        self._starting.discard(key)
        self._share = max(self._share - ask.taken, 0.0) if self._inside else 0.0
        for counts, name in ((self._by_run, ask.run_id), (self._by_namespace, ask.namespace)):
            counts[name] -= 1
            if not counts[name]:
                del counts[name]
        self.pump()

    def begun(self, key: str) -> None:
        """What was let through runs, or waits for something else than the platform's work."""
        if key in self._starting:
            self._starting.discard(key)
            self.pump()

    def put_aside(self, key: str, *, aside: bool) -> None:
        """What is inside has nothing of the machine, or has something again."""
        ask = self._inside.get(key)
        if ask is not None:
            before, ask.taken = ask.taken, 0.0 if aside else self._weight(ask)
            self._share = max(self._share - before + ask.taken, 0.0)
            if ask.taken < before:
                self.pump()

    def inside(self, key: str) -> Ask | None:
        """What was let through and has not left."""
        return self._inside.get(key)

    def forget(self, run_id: str) -> None:
        """Nothing of a run waits any more."""
        if self._lines.pop(run_id, None) is not None:
            self.pump()

    def pump(self) -> None:
        """Let through whoever may go now."""
        while self._lines:
            run_id = min(self._open_lines(), key=self._order, default=None)
            if run_id is None:
                return
            line = self._lines[run_id]
            ask = line.asks[0]
            if not self._fits(ask):
                return
            line.asks.popleft()
            if not line.asks:
                del self._lines[run_id]
            self._let_in(ask)
            ask.begin()

    def close(self) -> None:
        """Nobody waits any more."""
        self._lines.clear()

    def waiting(self, run_id: str) -> list[Ask]:
        """The steps of a run that wait."""
        line = self._lines.get(run_id)
        return list(line.asks) if line is not None else []

    def reason(self, ask: Ask) -> str:
        """Why a step waits, in one sentence."""
        limit = self.of_namespace(ask.namespace)
        if limit is not None and self._by_namespace.get(ask.namespace, 0) >= limit:
            return (
                f"Waiting: {limit} steps are on their way in namespace {ask.namespace!r}, and no more may be at once."
            )
        if self.steps is not None and len(self._inside) >= self.steps:
            return f"Waiting: {self.steps} steps are on their way on this platform, and no more may be at once."
        if self.starting is not None and len(self._starting) >= self.starting:
            return f"Waiting for its turn: {self.starting} other steps are beginning."
        return "Waiting for its turn: the steps that are on their way ask for all that the machine has."

    def _others_wait(self, ask: Ask) -> bool:
        """Whether somebody is to go first. Those that their namespace's limit stops are in nobody's way."""
        return any(run_id != ask.run_id for run_id in self._open_lines())

    def _open_lines(self) -> Iterable[str]:
        for run_id, line in self._lines.items():
            namespace = line.asks[0].namespace
            limit = self.of_namespace(namespace)
            if limit is None or self._by_namespace.get(namespace, 0) < limit:
                yield run_id

    def _order(self, run_id: str) -> tuple[int, int]:
        return self._by_run.get(run_id, 0), self._lines[run_id].since

    def _fits(self, ask: Ask) -> bool:
        limit = self.of_namespace(ask.namespace)
        if limit is not None and self._by_namespace.get(ask.namespace, 0) >= limit:
            return False
        if self.steps is not None and len(self._inside) >= self.steps:
            return False
        if self.starting is not None and len(self._starting) >= self.starting:
            return False
        return not self._inside or self._share + self._weight(ask) <= self.capacity

    def _weight(self, ask: Ask) -> float:
        return 0.0 if ask.share > self.capacity else ask.share

    def _let_in(self, ask: Ask) -> None:
        self._admit(ask)
        self._starting.add(ask.key)

    def _admit(self, ask: Ask) -> None:
        self._inside[ask.key] = ask
        ask.taken = self._weight(ask)
        self._share += ask.taken
        self._by_run[ask.run_id] = self._by_run.get(ask.run_id, 0) + 1
        self._by_namespace[ask.namespace] = self._by_namespace.get(ask.namespace, 0) + 1


def next_runs(
    waiting: Mapping[str, str], active: Mapping[str, int], limit: int | None, of_namespace: Callable[[str], int | None]
) -> list[str]:
    """Which of the waiting runs (id to namespace, oldest first) begin now; `active` counts runs by namespace."""
    counts, chosen = dict(active), []
    left = dict(waiting)
    while left and (limit is None or sum(counts.values()) < limit):
        open_runs = [
            (counts.get(namespace, 0), position, run_id)
            for position, (run_id, namespace) in enumerate(left.items())
            if (most := of_namespace(namespace)) is None or counts.get(namespace, 0) < most
        ]
        if not open_runs:
            break
        run_id = min(open_runs)[2]
        namespace = left.pop(run_id)
        counts[namespace] = counts.get(namespace, 0) + 1
        chosen.append(run_id)
    return chosen


def run_reason(namespace: str, limit: int | None, of_namespace: int | None, active: Mapping[str, int]) -> str:
    """Why a run waits, in one sentence."""
    if of_namespace is not None and active.get(namespace, 0) >= of_namespace:
        return f"Waiting: {of_namespace} runs go on in namespace {namespace!r}, and no more may at once."
    return f"Waiting: {limit} runs go on on this platform, and no more may at once."


def share_of(cpu: float, memory: float, machine_cpu: float, machine_memory: float) -> float:
    """The part of the machine that these requests are."""
    parts = [cpu / machine_cpu if machine_cpu else 0.0, memory / machine_memory if machine_memory else 0.0]
    return max(parts)


def _least(*numbers: int | None) -> int | None:
    given = [number for number in numbers if number is not None]
    return min(given) if given else None

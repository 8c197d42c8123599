"""What a Job needs next, as pure functions (upstream: pkg/controller/job).

Every pod of a job is an attempt with a number; the number makes its name, so that no attempt can exist twice. What
became of attempts is kept as sets of numbers in an annotation of the Job, written before anything is decided
on it: a finished pod that is deleted afterwards stays counted, and a restart counts nothing twice. When a job has
ended, and why, is `job_verdict_policy`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.api.core import PodCondition
from headrace.controllermanager import job_failures_policy as failures
from headrace.controllermanager import pods

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headrace.api.core import Pod
    from headrace.controllermanager.types import Job

ACCOUNT = "headrace.dev/job-attempts"
ATTEMPT = "headrace.dev/job-attempt"
INDEX = "batch.kubernetes.io/job-completion-index"
BACKOFF_BASE = 10.0
BACKOFF_MAX = 360.0
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_STRIDE = 6_700_417
_RANGE = 3
"""Two neighbours are listed, three are a range."""


@dataclass
class Account:
    """Numbers of the attempts that have ended, and what became of indexes."""

    succeeded: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    ignored: set[int] = field(default_factory=set)
    """Attempts that failed in a way that the pod failure policy does not count."""
    indexes: set[int] = field(default_factory=set)
    """Indexes that are done."""
    failed_indexes: set[int] = field(default_factory=set)
    """Indexes that are given up."""
    index_failures: Counter[int] = field(default_factory=Counter)
    """How often each index has failed; kept where each index has a limit of its own."""

    @classmethod
    def parse(cls, text: str) -> Account:
        """From the annotation; what does not parse is ignored."""
        account = cls()
        sets = account._sets()
        for item in text.split(";"):
            name, _, numbers = item.partition("=")
            if name in sets:
                sets[name].update(parse_numbers(numbers))
            elif name.startswith("tried") and name.removeprefix("tried").isdecimal():
                times = int(name.removeprefix("tried"))
                account.index_failures.update(dict.fromkeys(parse_numbers(numbers), times))
        return account

    def __str__(self) -> str:
        tried: dict[str, set[int]] = {}
        for index, times in self.index_failures.items():
            tried.setdefault(f"tried{times}", set()).add(index)
        pairs = [*self._sets().items(), *sorted(tried.items())]
        return ";".join(f"{name}={format_numbers(numbers)}" for name, numbers in pairs if numbers)

    def _sets(self) -> dict[str, set[int]]:
        return {
            "succeeded": self.succeeded,
            "failed": self.failed,
            "ignored": self.ignored,
            "indexes": self.indexes,
            "failed-indexes": self.failed_indexes,
        }

    @property
    def ended(self) -> set[int]:
        """All attempts that have ended."""
        return self.succeeded | self.failed | self.ignored


def parse_numbers(text: str) -> set[int]:
    """`0-2,5` as numbers."""
    found: set[int] = set()
    for item in text.split(","):
        first, _, last = item.partition("-")
        if first.isdecimal() and (not last or last.isdecimal()):
            found.update(range(int(first), int(last or first) + 1))
    return found


def format_numbers(numbers: Iterable[int]) -> str:
    """Numbers as `0-2,5,6`, as upstream writes completed indexes."""
    out = []
    for _, run in itertools.groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        out += [str(n) for n in members] if len(members) < _RANGE else [f"{members[0]}-{members[-1]}"]
    return ",".join(out)


def attempt_of(pod: Pod) -> int | None:
    """The number of a pod's attempt."""
    text = pod.metadata.annotations.get(ATTEMPT, "")
    return int(text) if text.isdecimal() else None


def index_of(pod: Pod) -> int | None:
    """The completion index of a pod of an indexed job."""
    text = pod.metadata.annotations.get(INDEX, "")
    return int(text) if text.isdecimal() else None


def pod_name(job: Job, attempt: int, index: int | None) -> str:
    """The attempt's pod: deterministic, and different for each attempt of a job."""
    start = int.from_bytes(hashlib.sha256(job.metadata.uid.encode()).digest()[:8], "big")
    size = len(_ALPHABET) ** 5
    number = (start + attempt * _STRIDE) % size  # no two alike: the stride and the size have no common factor
    suffix = ""
    for _ in range(5):
        number, rest = divmod(number, len(_ALPHABET))
        suffix += _ALPHABET[rest]
    stem = job.metadata.name[:57] if index is None else f"{job.metadata.name[:50]}-{index}"
    return f"{stem}-{suffix}"


def settle(job: Job, account: Account, found: Iterable[Pod]) -> bool:
    """Count attempts that have ended and are not counted yet; whether there were any."""
    changed = False
    for pod in found:
        attempt = attempt_of(pod)
        if attempt is None or attempt in account.ended or not pods.finished(pod):
            continue
        index = index_of(pod)
        if pod.status.phase == "Succeeded":
            account.succeeded.add(attempt)
            if index is not None:
                account.indexes.add(index)
        else:
            _settle_failure(job, account, pod, attempt, index)
        changed = True
    return changed


def _settle_failure(job: Job, account: Account, pod: Pod, attempt: int, index: int | None) -> None:
    action = failures.match(job.spec.pod_failure_policy, pod).action
    if action == "Ignore":
        account.ignored.add(attempt)
        return
    account.failed.add(attempt)
    limit = job.spec.backoff_limit_per_index
    if limit is None or index is None:
        return
    account.index_failures[index] += 1
    if action == "FailIndex" or account.index_failures[index] > limit:
        account.failed_indexes.add(index)


def free_attempts(account: Account, found: Iterable[Pod]) -> Iterator[int]:
    """Numbers for new attempts, lowest first."""
    taken = account.ended | {n for pod in found if (n := attempt_of(pod)) is not None}
    return (n for n in itertools.count() if n not in taken)


def indexed(job: Job) -> bool:
    """Whether each completion has an index."""
    return job.spec.completion_mode == "Indexed"


def deadline_left(job: Job, now: dt.datetime) -> float | None:
    """Seconds until activeDeadlineSeconds are over."""
    if job.spec.active_deadline_seconds is None or job.status.start_time is None:
        return None
    return job.spec.active_deadline_seconds - (now - job.status.start_time).total_seconds()


def wanted_active(job: Job, account: Account, active: int) -> int:
    """How many pods are to run now."""
    spec = job.spec
    parallelism = 1 if spec.parallelism is None else spec.parallelism
    if spec.completions is None:
        return min(parallelism, active) if account.succeeded else parallelism
    finished = len(account.indexes | account.failed_indexes) if indexed(job) else len(account.succeeded)
    return min(parallelism, max(spec.completions - finished, 0))


def replaces_terminating(job: Job) -> bool:
    """Whether a pod that is being stopped is replaced at once, and not only when it has ended."""
    if job.spec.pod_replacement_policy:
        return job.spec.pod_replacement_policy != "Failed"
    return job.spec.pod_failure_policy is None


def holding(job: Job, found: Iterable[Pod]) -> list[Pod]:
    """The pods whose places are taken: those that run, and where only ended ones are replaced those that stop."""
    wait = not replaces_terminating(job)
    return [pod for pod in found if pods.active(pod) or (wait and not pods.finished(pod))]


def misplaced(job: Job, active: Iterable[Pod]) -> list[Pod]:
    """Pods of an indexed job whose index no longer counts, or that another one has too."""
    if not indexed(job):
        return []
    taken: set[int] = set()
    doomed = []
    for pod in sorted(active, key=pods.deletion_order, reverse=True):
        index = index_of(pod)
        if index is None or index >= (job.spec.completions or 0) or index in taken:
            doomed.append(pod)
        else:
            taken.add(index)
    return doomed


def missing_indexes(job: Job, account: Account, held: Iterable[Pod]) -> list[int]:
    """Indexes that are neither done, given up nor being worked on, lowest first."""
    busy = {index_of(pod) for pod in held} | account.indexes | account.failed_indexes
    return [i for i in range(job.spec.completions or 0) if i not in busy]


def due_indexes(
    account: Account, indexes: Iterable[int], found: Iterable[Pod], now: dt.datetime
) -> tuple[list[int], float | None]:
    """Those of these indexes whose own backoff is over, and the seconds until the next one's is."""
    last: dict[int, dt.datetime] = {}
    ignored: Counter[int] = Counter()
    for pod in found:
        index = index_of(pod)
        if index is None or pod.status.phase != "Failed":
            continue
        last[index] = max(finish_time(pod), last.get(index, finish_time(pod)))
        ignored[index] += attempt_of(pod) in account.ignored
    due: list[int] = []
    waits: list[float] = []
    for index in indexes:
        tries = account.index_failures[index] + ignored[index]
        left = _delay(tries) - (now - last[index]).total_seconds() if index in last else 0.0
        if left > 0:
            waits.append(left)
        else:
            due.append(index)
    return due, min(waits, default=None)


def _delay(failed: int) -> float:
    """Seconds to wait after so many failures: 10, 20, 40 … 360."""
    return min(BACKOFF_BASE * 2.0 ** min(failed - 1, 30), BACKOFF_MAX) if failed else 0.0


def backoff_left(found: Iterable[Pod], now: dt.datetime) -> float:
    """Seconds to wait before the next attempt: 10, 20, 40 … 360 after each failure since the last success."""
    ended = [(finish_time(pod), pod.status.phase) for pod in found if pods.finished(pod)]
    last_success = max((t for t, phase in ended if phase == "Succeeded"), default=None)
    failed = [t for t, phase in ended if phase == "Failed" and (last_success is None or t > last_success)]
    if not failed:
        return 0.0
    return max(_delay(len(failed)) - (now - max(failed)).total_seconds(), 0.0)


def finish_time(pod: Pod) -> dt.datetime:
    """When a finished pod ended."""
    moments = [
        s.state.terminated.finished_at
        for s in pod.status.container_statuses
        if s.state.terminated is not None and s.state.terminated.finished_at is not None
    ]
    ready = pods.ready_condition(pod)
    if not moments and ready is not None and ready.last_transition_time is not None:
        moments = [ready.last_transition_time]
    return max(moments, default=pod.metadata.creation_timestamp or dt.datetime.min.replace(tzinfo=dt.UTC))


def finished_at(job: Job) -> dt.datetime | None:
    """When the job itself ended, if it has."""
    for found in job.status.conditions:
        if found.type in {"Complete", "Failed"} and found.status == "True":
            return found.last_transition_time
    return None


def is_finished(job: Job) -> bool:
    """Whether the job has ended."""
    return any(c.type in {"Complete", "Failed"} and c.status == "True" for c in job.status.conditions)


def is_suspended(job: Job) -> bool:
    """Whether the job's status says that it is suspended."""
    return any(c.type == "Suspended" and c.status == "True" for c in job.status.conditions)


def set_condition(job: Job, type_: str, status: str, reason: str, message: str, *, now: dt.datetime) -> bool:
    """Set one condition; whether its status changed."""
    found = next((c for c in job.status.conditions if c.type == type_), None)
    if found is not None and found.status == status:
        return False
    kept = [c for c in job.status.conditions if c.type != type_]
    made = PodCondition(
        type=type_, status=status, reason=reason, message=message, last_probe_time=now, last_transition_time=now
    )
    job.status.conditions = [*kept, made]
    return True

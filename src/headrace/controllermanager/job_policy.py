"""What a Job needs next, as pure functions (upstream: pkg/controller/job).

Every pod of a job is an attempt with a number; the number makes its name, so that no attempt can exist twice. What
became of attempts is kept as two sets of numbers in an annotation of the Job, written before anything is decided
on it: a finished pod that is deleted afterwards stays counted, and a restart counts nothing twice.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.api.core import PodCondition
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


@dataclass
class Account:
    """Numbers of the attempts that have ended, and the indexes that are done."""

    succeeded: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    indexes: set[int] = field(default_factory=set)

    @classmethod
    def parse(cls, text: str) -> Account:
        """From the annotation; what does not parse is ignored."""
        account = cls()
        fields = {"succeeded": account.succeeded, "failed": account.failed, "indexes": account.indexes}
        for item in text.split(";"):
            name, _, numbers = item.partition("=")
            if name in fields:
                fields[name].update(parse_numbers(numbers))
        return account

    def __str__(self) -> str:
        pairs = (("succeeded", self.succeeded), ("failed", self.failed), ("indexes", self.indexes))
        return ";".join(f"{name}={format_numbers(numbers)}" for name, numbers in pairs if numbers)

    @property
    def ended(self) -> set[int]:
        """All attempts that have ended."""
        return self.succeeded | self.failed


def parse_numbers(text: str) -> set[int]:
    """`0-2,5` as numbers."""
    found: set[int] = set()
    for item in text.split(","):
        first, _, last = item.partition("-")
        if first.isdecimal() and (not last or last.isdecimal()):
            found.update(range(int(first), int(last or first) + 1))
    return found


def format_numbers(numbers: Iterable[int]) -> str:
    """Numbers as `0-2,5`, as upstream writes completed indexes."""
    out = []
    for _, run in itertools.groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        out.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
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


def settle(account: Account, found: Iterable[Pod]) -> bool:
    """Count attempts that have ended and are not counted yet; whether there were any."""
    changed = False
    for pod in found:
        attempt = attempt_of(pod)
        if attempt is None or attempt in account.ended or not pods.finished(pod):
            continue
        if pod.status.phase == "Succeeded":
            account.succeeded.add(attempt)
            index = index_of(pod)
            if index is not None:
                account.indexes.add(index)
        else:
            account.failed.add(attempt)
        changed = True
    return changed


def free_attempts(account: Account, found: Iterable[Pod]) -> Iterator[int]:
    """Numbers for new attempts, lowest first."""
    taken = account.ended | {n for pod in found if (n := attempt_of(pod)) is not None}
    return (n for n in itertools.count() if n not in taken)


def indexed(job: Job) -> bool:
    """Whether each completion has an index."""
    return job.spec.completion_mode == "Indexed"


def refused(job: Job) -> str:
    """Why this job cannot run here; empty when it can."""
    spec = job.spec
    for name, value in (
        ("podFailurePolicy", spec.pod_failure_policy),
        ("successPolicy", spec.success_policy),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index),
    ):
        if value is not None:
            return f"spec.{name} is not supported by this platform: remove it from the Job"
    return ""


def done(job: Job, account: Account, active: list[Pod]) -> bool:
    """Whether the job has succeeded."""
    completions = job.spec.completions
    if completions is None:
        return bool(account.succeeded) and not active
    if indexed(job):
        return len({i for i in account.indexes if i < completions}) >= completions
    return len(account.succeeded) >= completions


def failure(job: Job, account: Account, active: list[Pod], now: dt.datetime) -> tuple[str, str] | None:
    """(reason, message) when the job has failed for good."""
    limit = 6 if job.spec.backoff_limit is None else job.spec.backoff_limit
    restarts = _restarts(job, active)
    if len(account.failed) > limit or restarts > limit or (restarts == limit > 0):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    left = deadline_left(job, now)
    if left is not None and left <= 0:
        return "DeadlineExceeded", "Job was active longer than specified deadline"
    return None


def _restarts(job: Job, active: list[Pod]) -> int:
    if (job.spec.template.get("spec") or {}).get("restartPolicy") != "OnFailure":
        return 0
    return sum(
        s.restart_count for pod in active for s in (*pod.status.container_statuses, *pod.status.init_container_statuses)
    )


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
    finished = len(account.indexes) if indexed(job) else len(account.succeeded)
    return min(parallelism, max(spec.completions - finished, 0))


def missing_indexes(job: Job, account: Account, active: Iterable[Pod]) -> list[int]:
    """Indexes that are neither done nor being worked on, lowest first."""
    busy = {index_of(pod) for pod in active}
    return [i for i in range(job.spec.completions or 0) if i not in account.indexes and i not in busy]


def backoff_left(found: Iterable[Pod], now: dt.datetime) -> float:
    """Seconds to wait before the next attempt: 10, 20, 40 … 360 after each failure since the last success."""
    ended = [(finish_time(pod), pod.status.phase) for pod in found if pods.finished(pod)]
    last_success = max((t for t, phase in ended if phase == "Succeeded"), default=None)
    failures = [t for t, phase in ended if phase == "Failed" and (last_success is None or t > last_success)]
    if not failures:
        return 0.0
    delay = min(BACKOFF_BASE * 2.0 ** (len(failures) - 1), BACKOFF_MAX)
    return max(delay - (now - max(failures)).total_seconds(), 0.0)


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

"""Whether a Job has ended, and why, as pure functions (upstream: pkg/controller/job).

A verdict comes first (SuccessCriteriaMet or FailureTarget); the job is Complete or Failed when its last pod has
stopped. What a verdict said stands, whatever pods do afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.controllermanager import job_failures_policy as failures
from headrace.controllermanager import job_policy as policy

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from headrace.api.core import Pod
    from headrace.controllermanager.job_policy import Account
    from headrace.controllermanager.types import Job


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the job ends."""

    success: bool
    reason: str
    message: str


def verdict(job: Job, account: Account, mine: list[Pod], active: list[Pod], now: dt.datetime) -> Verdict | None:
    """The verdict, None while the job goes on."""
    return (
        _standing(job)
        or _failed_by_policy(job, mine)
        or _failed(job, account, active, now)
        or _succeeded_by_policy(job, account)
        or _too_many_indexes(job, account)
        or _completed(job, account, active)
    )


def _standing(job: Job) -> Verdict | None:
    for found in job.status.conditions:
        if found.type in {"SuccessCriteriaMet", "FailureTarget"} and found.status == "True":
            return Verdict(found.type == "SuccessCriteriaMet", found.reason, found.message)
    return None


def _failed_by_policy(job: Job, mine: Iterable[Pod]) -> Verdict | None:
    """Asked of all pods that are there, so that no crash between counting and deciding forgets it."""
    if job.spec.pod_failure_policy is None:
        return None
    for pod in mine:
        if pod.status.phase == "Failed":
            found = failures.match(job.spec.pod_failure_policy, pod)
            if found.action == "FailJob":
                return Verdict(False, "PodFailurePolicy", found.message)
    return None


def _failed(job: Job, account: Account, active: list[Pod], now: dt.datetime) -> Verdict | None:
    limit = 6 if job.spec.backoff_limit is None else job.spec.backoff_limit
    restarts = _restarts(job, active)
    if len(account.failed) > limit or restarts > limit or (restarts == limit > 0):
        return Verdict(False, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    left = policy.deadline_left(job, now)
    if left is not None and left <= 0:
        return Verdict(False, "DeadlineExceeded", "Job was active longer than specified deadline")
    return None


def _restarts(job: Job, active: list[Pod]) -> int:
    if (job.spec.template.get("spec") or {}).get("restartPolicy") != "OnFailure":
        return 0
    return sum(
        s.restart_count for pod in active for s in (*pod.status.container_statuses, *pod.status.init_container_statuses)
    )


def _succeeded_by_policy(job: Job, account: Account) -> Verdict | None:
    if job.spec.success_policy is None or not policy.indexed(job):
        return None
    succeeded = {i for i in account.indexes if i < (job.spec.completions or 0)}
    for number, rule in enumerate(job.spec.success_policy.get("rules") or ()):
        listed, count = rule.get("succeededIndexes"), rule.get("succeededCount")
        wanted = None if listed is None else policy.parse_numbers(listed)
        met = len(succeeded if wanted is None else succeeded & wanted)
        if met >= (count if count is not None else len(wanted or ())):
            return Verdict(True, "SuccessPolicy", f"Matched rules at index {number}")
    return None


def _too_many_indexes(job: Job, account: Account) -> Verdict | None:
    most = job.spec.max_failed_indexes
    if job.spec.backoff_limit_per_index is None or most is None or len(account.failed_indexes) <= most:
        return None
    message = "Job has exceeded the specified maximal number of failed indexes"
    return Verdict(False, "MaxFailedIndexesExceeded", message)


def _completed(job: Job, account: Account, active: list[Pod]) -> Verdict | None:
    completions = job.spec.completions
    done = Verdict(True, "CompletionsReached", "Reached expected number of succeeded pods")
    if completions is None:
        return done if account.succeeded and not active else None
    if not policy.indexed(job):
        return done if len(account.succeeded) >= completions else None
    failed = {i for i in account.failed_indexes if i < completions}
    if len(failed | {i for i in account.indexes if i < completions}) < completions:
        return None
    return Verdict(False, "FailedIndexes", "Job has failed indexes") if failed else done

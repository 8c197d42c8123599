"""When a failed attempt is followed by another.

As Argo Workflows does it for upstream (compiler/argocompiler/container.go): the n-th retry waits
duration * factor^(n-1); `backoff_max_duration` bounds the whole time that a task may be retried, not one wait.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.components.pipelines.types.ir import RetryPolicy

_DURATION = re.compile(r"(-?\d+(?:\.\d+)?)s")
_LONGEST = 10 * 365 * 86400.0


def seconds(duration: str) -> float:
    """`"60s"` as 60.0, protobuf's JSON form of a duration; 0 when there is none."""
    found = _DURATION.fullmatch(duration)
    return float(found[1]) if found else 0.0


def next_attempt(
    policy: RetryPolicy | None, attempt: int, first_started: dt.datetime, now: dt.datetime
) -> dt.datetime | None:
    """When the attempt after `attempt` (counted from 0) begins; None when the task has failed for good."""
    if policy is None or attempt >= policy.max_retry_count:
        return None
    factor = policy.backoff_factor if policy.backoff_factor > 0 else 1.0
    try:
        wait = min(seconds(policy.backoff_duration) * factor**attempt, _LONGEST)
    except OverflowError:
        wait = _LONGEST
    due = now + dt.timedelta(seconds=wait)
    longest = seconds(policy.backoff_max_duration)
    if longest and due > first_started + dt.timedelta(seconds=longest):
        return None
    return due

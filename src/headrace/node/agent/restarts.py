"""Whether a container starts again, and when: the kubelet's rules.

The first restart is immediate, the next ones wait 10 s doubling to 5 min after the exit; ten minutes without
a restart forget it all.
"""

from __future__ import annotations

from dataclasses import dataclass

BASE_SECONDS = 10.0
MAX_SECONDS = 300.0
RESET_SECONDS = 2 * MAX_SECONDS


def restarts(policy: str, exit_code: int) -> bool:
    """Whether a container that ended so is started again under this policy."""
    match policy:
        case "Never":
            return False
        case "OnFailure":
            return exit_code != 0
        case _:
            return True


@dataclass(slots=True)
class Backoff:
    """Delays before retries of one thing; times are monotonic seconds."""

    duration: float = 0.0
    """What the next delay is measured against."""
    applied: float = 0.0
    """What the last one was."""
    updated: float = 0.0

    def after_exit(self, finished: float, now: float) -> float:
        """Seconds from `now` until the next start of a container that ended at `finished`."""
        if self.duration and now - self.updated > RESET_SECONDS:
            self.duration = 0.0
        delay = max(0.0, self.duration - (now - finished)) if self.duration else 0.0
        self._grow(now + delay)
        return delay

    def after_failure(self, now: float) -> float:
        """Seconds from `now` until the next try of something that failed, such as building an image."""
        self._grow(now)
        return self.duration

    def _grow(self, now: float) -> None:
        self.applied = self.duration
        self.duration = min(max(self.duration * 2, BASE_SECONDS), MAX_SECONDS)
        self.updated = now

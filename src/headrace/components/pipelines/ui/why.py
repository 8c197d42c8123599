"""Why a task failed, from what is known of it: its own message, how its container ended, events, the end of its log.

Pure: what is known comes in, sentences and lines go out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.machinery import podlook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.api.core import Event, Pod
    from headrace.components.pipelines.store.models import TaskRow

LINES = 12
BEFORE = 2
LONGEST = 400
EVENTS = 3
_RAISED = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning|Timeout)(?::\s.*)?$")
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d) ")


@dataclass(frozen=True, slots=True)
class Why:
    """`message` in the platform's words, `raised` in the program's, and what they are drawn from."""

    message: str
    raised: str
    ended: str
    """How the container ended."""
    events: tuple[tuple[str, str], ...]
    """Warnings about the pod, the newest last: reason and message."""
    lines: tuple[str, ...]
    """The end of the log."""


def _end(lines: Sequence[str]) -> Sequence[str]:
    """The last lines; from little before the traceback, where one stands among them."""
    end = lines[-LINES:]
    begins = [number for number, line in enumerate(end) if line.startswith("Traceback (most recent call last)")]
    return end[max(begins[-1] - BEFORE, 0) :] if begins else end


def own_frames(lines: Sequence[str]) -> list[str]:
    """A traceback without the frames of the SDK that runs a component: what the author wrote is what one looks for."""
    kept: list[str] = []
    inside = False
    for line in lines:
        if line.startswith('  File "'):
            inside = "/site-packages/kfp/" in line
        elif not line.startswith("    "):
            inside = False
        if not inside:
            kept.append(line)
    return kept


def of(task: TaskRow, pod: Pod | None, events: Sequence[Event], log: str) -> Why:
    """What is known of a task that failed."""
    lines = [_STAMP.sub("", line).rstrip()[:LONGEST] for line in log.splitlines()]
    lines = own_frames([line for line in lines if line.strip()])
    raised = next((line.strip() for line in reversed(lines) if _RAISED.match(line.strip())), "")
    message = task.error_message.strip()
    ended = podlook.trouble(pod) if pod is not None else ""
    code = (task.report or {}).get("exit_code")
    if not ended and isinstance(code, int) and code:
        ended = podlook.exit_words(code)
    warnings: dict[tuple[str, str], None] = {}
    for event in events:
        if event.type == "Warning":
            warnings.pop((event.reason, event.message), None)
            warnings[event.reason, event.message] = None
    return Why(
        message=message,
        raised="" if raised and raised in message else raised,
        ended="" if ended and ended in message else ended,
        events=tuple(list(warnings)[-EVENTS:]),
        lines=tuple(_end(lines)),
    )

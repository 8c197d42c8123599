"""When a run must have ended (upstream: Argo's activeDeadlineSeconds, compiler/argocompiler/argo.go).

Counted from when the run, or its last retry, began. What is not positive is no deadline. At the deadline everything
ends at once, exit tasks included.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from headrace.components.pipelines.store.models import RuntimeState

if TYPE_CHECKING:
    from headrace.components.pipelines.policy.plan import RunView
    from headrace.components.pipelines.store.models import Run
    from headrace.components.pipelines.types.ir import PipelineSpec

FIELD = "activeDeadlineSeconds"


def deadline_seconds(spec: PipelineSpec) -> int:
    """0 when there is none. Raises ValueError."""
    given = spec.pipeline_config.get(FIELD) or 0
    if isinstance(given, bool) or not isinstance(given, (int, float)) or given != int(given) or abs(given) >= 1 << 31:
        raise ValueError(f"{FIELD} must be a whole number of seconds, got {given!r}")
    return max(int(given), 0)


def run_deadline(view: RunView) -> dt.datetime | None:
    """None when the run may take as long as it does."""
    seconds = deadline_seconds(view.spec)
    began = _began(view.run)
    return began + dt.timedelta(seconds=seconds) if seconds and began else None


def _began(run: Run) -> dt.datetime | None:
    for entry in reversed(run.state_history):
        if entry["state"] == RuntimeState.PENDING:
            return dt.datetime.fromisoformat(entry["update_time"])
    return run.created_at

"""Setting and reading conditions: the transition time moves only when the status does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.meta import Condition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.api.meta import Time


def get(conditions: Sequence[Condition], type_: str) -> Condition | None:
    """The condition of that type, if it is there."""
    return next((c for c in conditions if c.type == type_), None)


def is_true(conditions: Sequence[Condition], type_: str) -> bool:
    """Whether the condition is there with status True."""
    found = get(conditions, type_)
    return found is not None and found.status == "True"


def upsert(
    conditions: list[Condition],
    type_: str,
    status: bool | None,
    *,
    reason: str,
    message: str = "",
    now: Time,
    generation: int = 0,
) -> None:
    """Set one condition in place; `status` None means Unknown."""
    word = "Unknown" if status is None else str(status)
    found = get(conditions, type_)
    if found is None:
        conditions.append(
            Condition(
                type=type_,
                status=word,
                reason=reason,
                message=message,
                last_transition_time=now,
                observed_generation=generation,
            )
        )
        return
    if found.status != word or found.last_transition_time is None:
        found.status = word
        found.last_transition_time = now
    found.reason, found.message, found.observed_generation = reason, message, generation

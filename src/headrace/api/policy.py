"""The policy group, `policy/v1`."""

from __future__ import annotations

from typing import Any, ClassVar

from headrace.api.meta import KindInfo, Object


class PodDisruptionBudget(Object):
    """How many pods of a set may be evicted at a time."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", short_names=("pdb",)
    )
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


KINDS: tuple[type[Object], ...] = (PodDisruptionBudget,)

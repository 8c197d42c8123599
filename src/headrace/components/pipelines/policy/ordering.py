"""The order in which the tasks of a DAG are looked at: upstream first."""

from __future__ import annotations

import graphlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.components.pipelines.types.ir import DagSpec


def topological(dag: DagSpec) -> list[str]:
    """Names of the tasks, each after those that it depends on; the DAG has no cycle."""
    return list(graphlib.TopologicalSorter({name: task.upstream() for name, task in dag.tasks.items()}).static_order())

"""The run engine: from a recorded run to pods, and from pods and reports back to the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.components.pipelines.controller.engine import Engine

if TYPE_CHECKING:
    from headrace.components.pipelines.controller.afterwards import Afterwards
    from headrace.components.pipelines.store.repository import RunRepository
    from headrace.machinery.component import Context

__all__ = ["Engine", "build_engine"]


def build_engine(context: Context, repository: RunRepository, afterwards: Afterwards) -> Engine:
    """The engine over this database; `await engine.start()` continues every unfinished run."""
    return Engine(context.client, context.clock, repository, afterwards=afterwards, usages=context.usages)

"""What the search finds of pipelines: runs and pipelines of the namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace.api import _wire
from headrace.machinery.offers import Hit
from headrace.machinery.pages import authorize
from headrace.machinery.words import _

if TYPE_CHECKING:
    from headrace.machinery.component import Context
    from headrace.machinery.offers import Finder
    from headrace.machinery.pages import PageRequest
    from headrace.machinery.sql import Database

GROUP = "pipelines.kubeflow.org"
COUNT = 12


def finders_of(context: Context, database: Database, app: Any) -> tuple[Finder, ...]:
    """The finders; `app` is the application of v2beta1."""

    async def runs(request: PageRequest, text: str) -> list[Hit]:
        from headrace.components.pipelines.ui.data import RunLists  # noqa: PLC0415 - with the first search
        from headrace.components.pipelines.ui.states import look_of  # noqa: PLC0415

        await authorize(context.client, request, "list", "runs", group=GROUP)
        lists = RunLists(database)
        if text:
            found = (await lists.page(request.namespace, text=max(text.split(), key=len))).runs
        else:
            found = await lists.recent(request.namespace, 5)
        return [
            Hit(_("Run"), run.display_name, f"/runs/{run.id}", f"{look_of(run.state)[1]} {run.pipeline_name}")
            for run in found
        ]

    async def pipelines(request: PageRequest, text: str) -> list[Hit]:
        from headrace.components.pipelines.ui.calls import Calls  # noqa: PLC0415 - with the first search

        if not text:
            return []
        wanted = {"operation": "IS_SUBSTRING", "key": "name", "string_value": max(text.split(), key=len)}
        query = {"page_size": str(COUNT), "filter": _wire.encode({"predicates": [wanted]}).decode()}
        found = await Calls(app).get(request.user, "/pipelines", namespace=request.namespace, **query)
        return [
            Hit(_("Pipeline"), each.get("display_name", ""), f"/pipelines/{quote(each['pipeline_id'])}")
            for each in found.get("pipelines", [])
        ]

    return runs, pipelines

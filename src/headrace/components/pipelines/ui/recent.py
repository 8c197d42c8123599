"""What the first page says of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.components.pipelines.ui.states import bars, duration, look_of
from headrace.machinery import look
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import authorize
from headrace.machinery.words import _, told

if TYPE_CHECKING:
    from headrace.components.pipelines.store.models import Run
    from headrace.components.pipelines.ui.data import RunLists
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest

GROUP = "pipelines.kubeflow.org"
RECENT, PIPELINES, FAILURES, BARS = 200, 6, 4, 12


class Recent:
    """Two panels."""

    def __init__(self, context: Context, lists: RunLists) -> None:
        self._context, self._lists = context, lists

    async def pipelines(self, request: PageRequest) -> Markup:
        """Each pipeline with its latest runs."""
        await authorize(self._context.client, request, "list", "runs", group=GROUP)
        runs = await self._lists.recent(request.namespace, RECENT)
        if not runs:
            return look.empty(
                _("Nothing has run in this namespace yet. This trains and serves a model on real data:"),
                "headrace quickstart",
            )
        by_name: dict[str, list[Run]] = {}
        for run in runs:
            by_name.setdefault(run.pipeline_name or run.display_name, []).append(run)
        rows = []
        for name, mine in list(by_name.items())[:PIPELINES]:
            kind, word = look_of(mine[0].state)
            rows.append(
                el(
                    "tr",
                    el("td", el("a", name, href=f"/runs/{mine[0].id}"), class_="wrap-any"),
                    el("td", bars(mine, request.now, slots=BARS, width=5), class_="hide-s"),
                    el("td", look.pill(kind, word)),
                    el("td", look.took(mine[0].created_at, mine[0].finished_at), class_="right nowrap"),
                )
            )
        head = el(
            "tr",
            el("th", _("Pipeline")),
            el("th", _("Last {n} runs", n=BARS), class_="hide-s"),
            el("th", _("Now")),
            el("th", _("Took"), class_="right"),
        )
        link = el("a", _("All runs"), href=f"/runs?ns={request.namespace}", class_="more")
        return Markup(el("table", el("thead", head), el("tbody", rows)) + link)

    async def failures(self, request: PageRequest) -> Markup:
        """The latest failed runs, each with its reason."""
        await authorize(self._context.client, request, "list", "runs", group=GROUP)
        runs = await self._lists.failures(request.namespace, FAILURES)
        rows = [
            el(
                "tr",
                el(
                    "td",
                    el("a", run.display_name, href=f"/runs/{run.id}"),
                    _reason(run),
                    class_="cut",
                ),
                el("td", look.moment(run.finished_at), class_="dim right nowrap num"),
            )
            for run in runs
        ]
        return el("table", el("tbody", rows)) if rows else Markup()


def slowest(runs: list[Run], request: PageRequest) -> float:
    """The longest of these runs' durations, in seconds."""
    return max((duration(run, request.now) for run in runs), default=0.0)


def _reason(run: Run) -> Markup:
    words = told(run.error_message)
    return el("span", words or _("It gave no reason."), class_="reason", title=words)

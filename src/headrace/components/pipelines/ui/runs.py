"""The list of runs: state, reason, duration; filters by state and text stand in the URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.components.pipelines.store.listing import ListError
from headrace.components.pipelines.store.models import RuntimeState
from headrace.components.pipelines.ui.data import FILTERS, PAGE_SIZE
from headrace.components.pipelines.ui.recent import GROUP, slowest
from headrace.components.pipelines.ui.states import bars, duration, look_of
from headrace.machinery import look, podlook
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import Fragment, PageError, authorize

if TYPE_CHECKING:
    from headrace.components.pipelines.store.models import Run
    from headrace.components.pipelines.ui.data import RunLists
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest

_WORDS = {"running": "Running", "succeeded": "Succeeded", "failed": "Failed", "canceled": "Stopped or skipped"}


class RunsPage:
    """The page `/runs`."""

    def __init__(self, context: Context, lists: RunLists) -> None:
        self._context, self._lists = context, lists

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        query, namespace = request.query, request.namespace
        title = "Runs"
        if query.get("experiment"):
            found = await self._lists.experiment(query["experiment"])
            if found is None:
                raise PageError(
                    404, "There is no such experiment", "It may have been deleted. Its runs are in the list of all."
                )
            namespace, name = found
            title = f"Runs of {name}"
        elif query.get("pipeline"):
            title = "Runs of one pipeline"
        await authorize(self._context.client, request, "list", "runs", group=GROUP, namespace=namespace)
        try:
            page = await self._lists.page(
                namespace,
                state=query.get("state", ""),
                text=query.get("q", ""),
                experiment=query.get("experiment", ""),
                pipeline=query.get("pipeline", ""),
                token=query.get("after", ""),
            )
        except ListError as error:
            raise PageError(400, "This list cannot be continued", f"{error} Begin again at the newest runs.") from error
        state = query.get("state", "")
        chips = [
            el(
                "a",
                words,
                el("small", " ", page.counts[key]),
                href=request.link(state=None if state == key else key, after=None),
                class_="chip",
                aria_current="true" if state == key else None,
            )
            for key, words in _WORDS.items()
            if page.counts[key] or state == key
        ]
        total = sum(page.counts.values())
        head = el(
            "div",
            el("h1", title),
            el("span", f"{total} run{'' if total == 1 else 's'}", class_="dim num"),
            el("div", chips, class_="chips"),
            podlook.search(request, "Find a run", keep=("ns", "state", "experiment", "pipeline")),
            class_="head row",
        )
        if page.runs:
            strip = el(
                "div",
                bars(
                    page.runs,
                    request.now,
                    slots=PAGE_SIZE if len(page.runs) > PAGE_SIZE // 2 else PAGE_SIZE // 2,
                    width=0,
                    strip=True,
                ),
                class_="panel stripbox",
            )
            body = el(
                "section",
                self._table(request, page.runs, page.next_page_token),
                class_="panel fullpanel",
                aria_label="Runs",
            )
        else:
            strip = Markup()
            filtered = state in FILTERS or query.get("q")
            inner = (
                el(
                    "div",
                    el("p", "No run matches this filter. ", el("a", "Show all", href=request.link(state=None, q=None))),
                    class_="empty",
                )
                if filtered
                else look.empty(
                    "Nothing has run here yet. This trains and serves a model on real data:", "headrace quickstart"
                )
            )
            body = el("section", inner, class_="panel fullpanel", aria_label="Runs")
        kind = "page list" if strip else "page"
        return Fragment(title, el("div", head, strip or None, body, class_=kind), fill=True, namespace=namespace)

    def _table(self, request: PageRequest, runs: list[Run], token: str) -> Markup:
        longest = slowest(runs, request) or 1.0
        rows = [self._row(request, run, longest) for run in runs]
        head = el(
            "tr",
            el("th", "State"),
            el("th", "Run"),
            el("th", "Pipeline", class_="hide-s"),
            el("th", "Took"),
            el("th", "Started"),
        )
        older = el("a", "Older runs", href=request.link(after=token), class_="more") if token else ""
        newest = (
            el("a", "Newest runs", href=request.link(after=None), class_="more") if request.query.get("after") else ""
        )
        return Markup(el("table", el("thead", head), el("tbody", rows)) + older + newest)

    def _row(self, request: PageRequest, run: Run, longest: float) -> Markup:
        kind, word = look_of(run.state)
        width = f"{max(duration(run, request.now) / longest * 100, 1.5):.1f}%"
        bar = el(
            "svg", el("rect", width=width, height="8", rx="2", class_=kind), class_="dur hide-s", aria_hidden="true"
        )
        reason = run.error_message if run.state is RuntimeState.FAILED else ""
        return el(
            "tr",
            el("td", look.pill(kind, word)),
            el(
                "td",
                el("a", run.display_name, href=f"/runs/{run.id}", data_row=True),
                el("span", reason, class_="reason", title=reason) if reason else None,
                class_="cut",
            ),
            el("td", run.pipeline_name, class_="dim hide-s nowrap"),
            el("td", bar, look.took(run.created_at, run.finished_at), class_="nowrap"),
            el("td", look.moment(run.created_at), class_="dim nowrap num"),
            id=f"run-{run.id}",
        )

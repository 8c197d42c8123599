"""The list of runs: state, reason, duration; what is filtered stands in the URL, what is ticked can be acted on."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from headrace.components.pipelines.store.listing import ListError
from headrace.components.pipelines.store.models import RuntimeState
from headrace.components.pipelines.ui.data import FILTERS, PAGE_SIZE
from headrace.components.pipelines.ui.recent import GROUP, slowest
from headrace.components.pipelines.ui.states import bars, duration, look_of
from headrace.machinery import look, podlook
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import Fragment, PageError, authorize
from headrace.machinery.words import _, told

if TYPE_CHECKING:
    from headrace.components.pipelines.store.models import Run
    from headrace.components.pipelines.ui.acts import RunActs
    from headrace.components.pipelines.ui.data import RunList, RunLists
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest

KEPT = ("ns", "state", "experiment", "pipeline", "time", "archived", "q")
"""What the filters keep of each other; a page of the list is not kept, because another filter has other pages."""
TIMES = {
    "1h": dt.timedelta(hours=1),
    "1d": dt.timedelta(days=1),
    "7d": dt.timedelta(days=7),
    "30d": dt.timedelta(days=30),
}


class RunsPage:
    """The page `/runs`."""

    def __init__(self, context: Context, lists: RunLists, acts: RunActs) -> None:
        self._context, self._lists, self._acts = context, lists, acts

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        query, namespace = request.query, request.namespace
        archived = bool(query.get("archived"))
        title = _("Archived runs") if archived else _("Runs")
        if query.get("experiment"):
            found = await self._lists.experiment(query["experiment"])
            if found is None:
                words = _("It may have been deleted. Its runs are in the list of all.")
                raise PageError(404, _("There is no such experiment"), words)
            namespace, name = found
            title = _("Runs of {name}", name=name)
        elif query.get("pipeline"):
            title = _("Runs of one pipeline")
        await authorize(self._context.client, request, "list", "runs", group=GROUP, namespace=namespace)
        window = TIMES.get(query.get("time", ""))
        try:
            page = await self._lists.page(
                namespace,
                state=query.get("state", ""),
                text=query.get("q", ""),
                experiment=query.get("experiment", ""),
                pipeline=query.get("pipeline", ""),
                token=query.get("after", ""),
                archived=archived,
                since=request.now - window if window else None,
            )
        except ListError as error:
            words = _("{error} Begin again at the newest runs.", error=error)
            raise PageError(400, _("This list cannot be continued"), words) from error
        head = self._head(request, title, page, await self._lists.pipeline_names(namespace))
        if not page.runs:
            body = el("section", self._nothing(request), class_="panel fullpanel", aria_label=_("Runs"))
            return Fragment(title, el("div", head, body, class_="page"), fill=True, namespace=namespace)
        slots = PAGE_SIZE if len(page.runs) > PAGE_SIZE // 2 else PAGE_SIZE // 2
        strip = el("div", bars(page.runs, request.now, slots=slots, width=0, strip=True), class_="panel stripbox")
        allowed = await self._acts.allowed(request, namespace)
        listed = el("form", _bulk(allowed, archived=archived), self._table(request, page), method="post", class_="many")
        body = el("section", listed, class_="panel fullpanel", aria_label=_("Runs"))
        return Fragment(title, el("div", head, strip, body, class_="page list"), fill=True, namespace=namespace)

    def _head(self, request: PageRequest, title: str, page: RunList, names: list[str]) -> Markup:
        state, archived = request.query.get("state", ""), bool(request.query.get("archived"))
        chips = [
            el(
                "a",
                words,
                el("small", " ", page.counts[key]),
                href=request.link(state=None if state == key else key, after=None),
                class_="chip",
                aria_current="true" if state == key else None,
            )
            for key, words in _words().items()
            if page.counts[key] or state == key
        ]
        chips.append(
            el(
                "a",
                _("Archived"),
                href=request.link(archived=None if archived else "1", after=None),
                class_="chip",
                aria_current="true" if archived else None,
            )
        )
        total = sum(page.counts.values())
        return el(
            "div",
            el("h1", title),
            el("span", _("1 run") if total == 1 else _("{n} runs", n=total), class_="dim num"),
            el("div", chips, class_="chips"),
            _filters(request, names),
            podlook.search(request, _("Find a run"), keep=tuple(key for key in KEPT if key != "q")),
            class_="head row",
        )

    def _nothing(self, request: PageRequest) -> Markup:
        query = request.query
        if any(query.get(key) for key in ("q", "time", "pipeline")) or query.get("state") in FILTERS:
            link = el("a", _("Show all"), href=request.link(state=None, q=None, time=None, pipeline=None, after=None))
            return el("div", el("p", _("No run matches this filter."), " ", link), class_="empty")
        if query.get("archived"):
            link = el("a", _("Show the others"), href=request.link(archived=None))
            return el("div", el("p", _("Nothing has been archived."), " ", link), class_="empty")
        return look.empty(
            _("Nothing has run here yet. This trains and serves a model on real data:"), "headrace quickstart"
        )

    def _table(self, request: PageRequest, page: RunList) -> Markup:
        longest = slowest(page.runs, request) or 1.0
        rows = [self._row(request, run, longest) for run in page.runs]
        every = el("input", type="checkbox", data_tick_all=True, aria_label=_("Select all runs of this page"))
        head = el(
            "tr",
            el("th", every, class_="tickcell"),
            el("th", _("State")),
            el("th", _("Run")),
            el("th", _("Pipeline"), class_="hide-s"),
            el("th", _("Took")),
            el("th", _("Started")),
        )
        older = (
            el("a", _("Older runs"), href=request.link(after=page.next_page_token), class_="more")
            if page.next_page_token
            else ""
        )
        newest = (
            el("a", _("Newest runs"), href=request.link(after=None), class_="more")
            if request.query.get("after")
            else ""
        )
        return Markup(el("table", el("thead", head), el("tbody", rows)) + older + newest)

    def _row(self, request: PageRequest, run: Run, longest: float) -> Markup:
        kind, word = look_of(run.state)
        width = f"{max(duration(run, request.now) / longest * 100, 1.5):.1f}%"
        bar = el(
            "svg", el("rect", width=width, height="8", rx="2", class_=kind), class_="dur hide-s", aria_hidden="true"
        )
        reason = told(run.error_message) if run.state is RuntimeState.FAILED else ""
        tick = el(
            "input",
            type="checkbox",
            name="run",
            value=run.id,
            class_="tick",
            aria_label=_("Select {name}", name=run.display_name),
        )
        pipeline = el("a", run.pipeline_name, href=request.link(pipeline=run.pipeline_name, after=None), class_="dim")
        return el(
            "tr",
            el("td", tick, class_="tickcell"),
            el("td", look.pill(kind, word)),
            el(
                "td",
                el("a", run.display_name, href=f"/runs/{run.id}", data_row=True),
                el("span", reason, class_="reason", title=reason) if reason else None,
                class_="cut",
            ),
            el("td", pipeline, class_="dim hide-s nowrap"),
            el("td", bar, look.took(run.created_at, run.finished_at), class_="nowrap"),
            el("td", look.moment(run.created_at), class_="dim nowrap num"),
            id=f"run-{run.id}",
        )


def _words() -> dict[str, str]:
    return {
        "running": _("Running"),
        "succeeded": _("Succeeded"),
        "failed": _("Failed"),
        "canceled": _("Stopped or skipped"),
    }


def _filters(request: PageRequest, names: list[str]) -> Markup:
    """By pipeline and by time."""
    query = request.query
    chosen = query.get("pipeline", "")
    known = names if chosen in {"", *names} else [chosen, *names]
    times = {
        "": _("Any time"),
        "1h": _("The last hour"),
        "1d": _("The last 24 hours"),
        "7d": _("The last 7 days"),
        "30d": _("The last 30 days"),
    }
    hidden = [
        el("input", type="hidden", name=key, value=query[key])
        for key in KEPT
        if key not in {"pipeline", "time"} and query.get(key)
    ]
    pipelines = [el("option", _("Every pipeline"), value="", selected=not chosen)]
    pipelines += [el("option", name, value=name, selected=name == chosen) for name in known]
    windows = [el("option", words, value=key, selected=key == query.get("time", "")) for key, words in times.items()]
    return el(
        "form",
        hidden,
        el("select", pipelines, name="pipeline", class_="btn", data_go=True, aria_label=_("Pipeline")),
        el("select", windows, name="time", class_="btn", data_go=True, aria_label=_("Time")),
        el("noscript", el("button", _("Show"), class_="btn", type="submit")),
        method="get",
        action=request.path,
        class_="picker",
    )


def _bulk(allowed: frozenset[str], *, archived: bool) -> Markup:
    """What can be done with the ticked runs; the stylesheet shows it when one is ticked."""
    offered = [
        ("compare", _("Compare"), "", True),
        ("retry", _("Retry"), "", not archived),
        ("terminate", _("Stop"), _("Stop the chosen runs?"), not archived),
        ("archive", _("Archive"), "", not archived),
        ("unarchive", _("Restore"), "", archived),
        ("delete", _("Delete"), _("Delete the chosen runs and what they recorded? It cannot be undone."), archived),
    ]
    buttons = [
        el("button", words, type="submit", name="action", value=verb, class_="btn small", data_confirm=sure or None)
        for verb, words, sure, fits in offered
        if fits and (verb == "compare" or verb in allowed)
    ]
    return el(
        "div",
        el("span", _("With the chosen runs:"), class_="dim"),
        buttons,
        class_="bulk",
        role="group",
        aria_label=_("With the chosen runs:"),
    )

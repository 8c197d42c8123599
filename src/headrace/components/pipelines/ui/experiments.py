"""Experiments: the list with their last runs, making and archiving them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace.components.pipelines.ui import forms
from headrace.components.pipelines.ui.calls import segment
from headrace.components.pipelines.ui.catalogue import BARS, moment
from headrace.components.pipelines.ui.recent import GROUP
from headrace.components.pipelines.ui.states import bars
from headrace.machinery import look, podlook
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import Done, Fragment, authorize, button
from headrace.machinery.words import _, told

if TYPE_CHECKING:
    from headrace.components.pipelines.store.models import Run
    from headrace.components.pipelines.ui.calls import Calls
    from headrace.components.pipelines.ui.shelves import Shelves
    from headrace.machinery.component import Context
    from headrace.machinery.pages import Form, PageRequest

PAGE_SIZE = 50
AVAILABLE, ARCHIVED = "AVAILABLE", "ARCHIVED"


class ExperimentsPage:
    """The page `/experiments`."""

    def __init__(self, context: Context, calls: Calls, shelves: Shelves) -> None:
        self._context, self._calls, self._shelves = context, calls, shelves

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        namespace, archived = request.namespace, request.query.get("archived") == "yes"
        wanted = [{"operation": "EQUALS", "key": "storage_state", "string_value": ARCHIVED if archived else AVAILABLE}]
        if request.query.get("q"):
            wanted.append({"operation": "IS_SUBSTRING", "key": "display_name", "string_value": request.query["q"]})
        listed = await self._calls.get(
            request.user,
            "/experiments",
            namespace=namespace,
            page_size=str(PAGE_SIZE),
            page_token=request.query.get("after", ""),
            sort_by="last_run_created_at desc",
            filter=forms.as_json({"predicates": wanted}),
        )
        found = listed.get("experiments", [])
        await authorize(self._context.client, request, "list", "runs", group=GROUP, namespace=namespace)
        idents = [e["experiment_id"] for e in found]
        runs = await self._shelves.last_runs("experiment_id", idents, namespace, BARS)
        head = el(
            "div",
            el("h1", _("Experiments")),
            el("span", listed.get("total_size", 0), class_="dim num"),
            el(
                "a",
                _("Archived"),
                href=request.link(archived=None if archived else "yes", after=None),
                class_="chip",
                aria_current="true" if archived else None,
            ),
            podlook.search(request, _("Find an experiment"), keep=("ns", "archived")),
            class_="head row",
        )
        rows = [self._row(request, e, runs.get(e["experiment_id"], []), archived=archived) for e in found]
        if rows:
            titles = (_("Experiment"), _("Last runs"), _("Last run"), _("Made"), "")
            top = el(
                "tr",
                [el("th", name, class_="nowrap hide-s" if n in {1, 3} else "nowrap") for n, name in enumerate(titles)],
            )
            token = listed.get("next_page_token", "")
            more = el("a", _("Older ones"), href=request.link(after=token), class_="more") if token else ""
            inner = Markup(el("table", el("thead", top), el("tbody", rows)) + more)
        else:
            inner = look.empty(_("No experiment here. Runs that name none belong to one called Default."))
        form = el(
            "form",
            forms.line("name", required=True, placeholder=_("Name"), aria_label=_("Name"), maxlength="128"),
            forms.line("description", placeholder=_("Description"), aria_label=_("Description")),
            el("button", _("Make an experiment"), type="submit", name="action", value="make", class_="btn"),
            method="post",
            class_="toolbar",
        )
        panel = el("section", None if archived else form, inner, class_="panel fullpanel", aria_label=_("Experiments"))
        return Fragment(_("Experiments"), el("div", head, panel, class_="page"), fill=True, namespace=namespace)

    def _row(self, request: PageRequest, found: dict[str, Any], runs: list[Run], *, archived: bool) -> Markup:
        ident, reason = found["experiment_id"], told(found.get("description", ""))
        last = found.get("last_run_created_at", "")
        words = _("Archive this experiment with its runs? Its schedules are switched off.")
        press = (
            button(_("Restore"), "restore", kind="small", experiment=ident)
            if archived
            else button(_("Archive"), "archive", kind="small", confirm=words, experiment=ident)
        )
        return el(
            "tr",
            el(
                "td",
                el(
                    "a",
                    found["display_name"],
                    href=f"/runs?experiment={ident}&ns={quote(request.namespace)}",
                    data_row=True,
                ),
                el("span", reason, class_="reason", title=reason) if reason else None,
                class_="cut",
            ),
            el("td", bars(runs, request.now, slots=BARS, width=5) if runs else None, class_="hide-s nowrap"),
            el("td", moment(last) if runs else "—", class_="dim nowrap num"),
            el("td", moment(found.get("created_at")), class_="dim nowrap num hide-s"),
            el("td", press, class_="right"),
            id=f"e-{ident}",
        )

    async def make(self, request: PageRequest, form: Form) -> Done:
        """A new one."""
        body = {"display_name": form.text("name").strip(), "description": form.text("description").strip()}
        await self._calls.post(request.user, "/experiments", body, namespace=request.namespace)
        return Done("", _("The experiment is made."))

    async def archive(self, request: PageRequest, form: Form) -> Done:
        """With its runs."""
        await self._calls.post(request.user, f"/experiments/{segment(form.text('experiment'))}:archive")
        return Done("", _("It is archived."))

    async def restore(self, request: PageRequest, form: Form) -> Done:
        """Without its runs."""
        await self._calls.post(request.user, f"/experiments/{segment(form.text('experiment'))}:unarchive")
        return Done("", _("It is restored. Its runs are restored one by one."))

"""Pipelines: the list, and one of them with its versions; names, descriptions and tags are edited there."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace.components.pipelines.store.models import Spec
from headrace.components.pipelines.types.ir import SpecError, parse_pipeline_spec
from headrace.components.pipelines.ui import edits, forms, graph, specs
from headrace.components.pipelines.ui.calls import segment
from headrace.components.pipelines.ui.recent import GROUP
from headrace.components.pipelines.ui.states import bars
from headrace.components.pipelines.ui.timeline import whole
from headrace.machinery import look, podlook
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import Done, Fragment, authorize, button
from headrace.machinery.words import _

if TYPE_CHECKING:
    from headrace.components.pipelines.store.models import Run
    from headrace.components.pipelines.types.ir import PipelineSpec
    from headrace.components.pipelines.ui.calls import Calls
    from headrace.components.pipelines.ui.shelves import Shelves
    from headrace.machinery.component import Context
    from headrace.machinery.pages import Form, PageRequest

PAGE_SIZE, BARS = 50, 12
VERSIONS = 100
MAX_EVERYWHERE = "200"


class PipelinesPage:
    """The page `/pipelines`."""

    def __init__(self, context: Context, calls: Calls, shelves: Shelves) -> None:
        self._context, self._calls, self._shelves = context, calls, shelves

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        namespace = request.namespace
        asked = {"page_size": str(PAGE_SIZE), "sort_by": "created_at desc"}
        if request.query.get("q"):
            asked["filter"] = substring("display_name", request.query["q"])
        if request.query.get("after"):
            asked["page_token"] = request.query["after"]
        own = await self._calls.get(request.user, "/pipelines", namespace=namespace, **asked)
        shared: list[dict[str, Any]] = []
        if not request.query.get("after"):
            asked["page_size"] = MAX_EVERYWHERE
            shared = (await self._calls.get(request.user, "/pipelines", namespace="", **asked)).get("pipelines", [])
        found = [*own.get("pipelines", []), *shared]
        idents = [p["pipeline_id"] for p in found]
        await authorize(self._context.client, request, "list", "runs", group=GROUP, namespace=namespace)
        runs = await self._shelves.last_runs("pipeline_id", idents, namespace, BARS)
        counts = await self._shelves.version_counts(idents)
        total = int(own.get("total_size", 0)) + len(shared)
        head = el(
            "div",
            el("h1", _("Pipelines")),
            el("span", total, class_="dim num"),
            podlook.search(request, _("Find a pipeline"), keep=("ns",)),
            el("a", _("Upload a pipeline"), href=f"/pipelines/new?ns={quote(namespace)}", class_="btn primary"),
            class_="head row",
        )
        rows = [self._row(request, p, runs.get(p["pipeline_id"], []), counts) for p in found]
        if rows:
            titles = (_("Pipeline"), _("Versions"), _("Last runs"), _("Made"), "")
            top = el(
                "tr",
                [el("th", name, class_="nowrap hide-s" if n in {1, 2} else "nowrap") for n, name in enumerate(titles)],
            )
            token = own.get("next_page_token", "")
            more = el("a", _("Older ones"), href=request.link(after=token), class_="more") if token else ""
            inner = Markup(el("table", el("thead", top), el("tbody", rows)) + more)
        elif request.query.get("q"):
            inner = look.empty(el("a", _("Nothing has this name. Show all"), href=request.link(q=None)))
        else:
            words = _("There is no pipeline here yet. Upload one that kfp has compiled, or make and run one:")
            inner = look.empty(words, "headrace quickstart")
        panel = el("section", inner, class_="panel fullpanel", aria_label=_("Pipelines"))
        return Fragment(_("Pipelines"), el("div", head, panel, class_="page"), fill=True, namespace=namespace)

    def _row(self, request: PageRequest, found: dict[str, Any], runs: list[Run], counts: dict[str, int]) -> Markup:
        ident, ns = found["pipeline_id"], quote(request.namespace)
        shared = el("span", _("shared by all"), class_="chip") if not found.get("namespace") else None
        reason = found.get("description", "")
        return el(
            "tr",
            el(
                "td",
                el("a", found["display_name"], href=f"/pipelines/{ident}?ns={ns}", data_row=True),
                " ",
                shared,
                el("span", reason, class_="reason", title=reason) if reason else None,
                class_="cut",
            ),
            el("td", counts.get(ident, 0), class_="num hide-s"),
            el("td", bars(runs, request.now, slots=BARS, width=5) if runs else None, class_="hide-s nowrap"),
            el("td", moment(found.get("created_at")), class_="dim nowrap num"),
            el("td", el("a", _("Run"), href=f"/pipelines/{ident}/run?ns={ns}", class_="btn small"), class_="right"),
            id=f"p-{ident}",
        )


class PipelinePage:
    """The page `/pipelines/{id}`."""

    def __init__(self, context: Context, calls: Calls, shelves: Shelves) -> None:
        self._context, self._calls, self._shelves = context, calls, shelves

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        ident = segment(request.parameters["id"])
        found = await self._calls.get(request.user, f"/pipelines/{ident}")
        listed = await self._calls.get(
            request.user, f"/pipelines/{ident}/versions", page_size=str(VERSIONS), sort_by="created_at desc"
        )
        versions: list[dict[str, Any]] = listed.get("pipeline_versions", [])
        wanted = request.query.get("version", "")
        chosen = next((v for v in versions if v["pipeline_version_id"] == wanted), versions[0] if versions else None)
        if wanted and (chosen is None or chosen["pipeline_version_id"] != wanted):
            chosen = await self._calls.get(request.user, f"/pipelines/{ident}/versions/{segment(wanted)}")
        namespace = found.get("namespace") or request.namespace
        runs: dict[str, list[Run]] = {}
        if await self._context.client.review_access(
            request.user, "list", group=GROUP, resource="runs", namespace=namespace
        ):
            runs = await self._shelves.last_runs("pipeline_id", [ident], namespace, 2 * BARS)
        spec = parsed(chosen["pipeline_spec"]) if chosen is not None else None
        split = el(
            "div",
            el("section", await _left(request, versions, chosen, spec), class_="panel", aria_label=_("The pipeline")),
            el(
                "section",
                _about(found, chosen, spec),
                _edit(found, chosen) if await self._may_edit(request, found, namespace) else None,
                _runs(request, runs.get(ident, []), namespace, ident),
                _versions(request, versions, chosen),
                class_="panel",
                aria_label=_("Versions"),
            ),
            class_="split",
        )
        body = el("div", _head(request, found, chosen), split, class_="page")
        return Fragment(found["display_name"], body, fill=True, namespace=namespace)

    async def _may_edit(self, request: PageRequest, found: dict[str, Any], namespace: str) -> bool:
        """Whether to offer it; the API decides again when it is done. What all share nobody edits here by accident."""
        if not found.get("namespace"):
            namespace = ""
        return await self._context.client.review_access(
            request.user, "update", group=GROUP, resource="pipelines", namespace=namespace
        )

    async def edit(self, request: PageRequest, form: Form) -> Done:
        """The pipeline's name that is shown, its description and its tags."""
        ident = segment(request.parameters["id"])
        await self._calls.patch(request.user, f"/pipelines/{ident}", edits.body_of(form))
        return Done("", _("It is saved."))

    async def edit_version(self, request: PageRequest, form: Form) -> Done:
        """The same of a version."""
        path = f"/pipelines/{segment(request.parameters['id'])}/versions/{segment(form.text('version'))}"
        await self._calls.patch(request.user, path, edits.body_of(form))
        return Done("", _("It is saved."))

    async def delete(self, request: PageRequest, _form: Form) -> Done:
        """The pipeline with its versions; runs keep what they ran."""
        ident = segment(request.parameters["id"])
        await self._calls.delete(request.user, f"/pipelines/{ident}", cascade="true")
        return Done(f"/pipelines?ns={quote(request.namespace)}", _("The pipeline is deleted. Its runs stay."))

    async def delete_version(self, request: PageRequest, form: Form) -> Done:
        """One version."""
        ident = segment(request.parameters["id"])
        await self._calls.delete(request.user, f"/pipelines/{ident}/versions/{segment(form.text('version'))}")
        return Done(request.link(version=None, against=None), _("The version is deleted. Its runs stay."))


def _head(request: PageRequest, found: dict[str, Any], chosen: dict[str, Any] | None) -> Markup:
    ident, ns = found["pipeline_id"], quote(request.namespace)
    suffix = f"&version={chosen['pipeline_version_id']}" if chosen else ""
    start = (
        el("a", _("Run"), href=f"/pipelines/{ident}/run?ns={ns}{suffix}", class_="btn primary"),
        el("a", _("Schedule"), href=f"/schedules/new?ns={ns}&pipeline={ident}{suffix}", class_="btn"),
    )
    words = _("Delete this pipeline and all its versions? Its runs stay.")
    title = el(
        "div",
        el("h1", found["display_name"]),
        el("span", chosen["display_name"], class_="chip") if chosen else None,
        el("span", class_="push"),
        start if chosen else None,
        el("a", _("New version"), href=f"/pipelines/new?ns={ns}&pipeline={ident}", class_="btn"),
        button(_("Delete"), "delete", kind="danger", confirm=words),
        class_="row",
    )
    crumbs = el("div", el("a", _("Pipelines"), href=f"/pipelines?ns={ns}"), class_="crumbs dim2")
    return el("div", crumbs, title, class_="head lines")


async def _left(
    request: PageRequest, versions: list[dict[str, Any]], chosen: dict[str, Any] | None, spec: PipelineSpec | str | None
) -> Markup:
    if chosen is None:
        return look.empty(_("This pipeline has no version yet: upload one."))
    tab = request.query.get("tab", "graph")
    entries = [
        (_("Graph"), request.link(tab=None, against=None), tab == "graph", None),
        (_("Document"), request.link(tab="yaml", against=None), tab == "yaml", None),
    ]
    if len(versions) > 1:
        entries.append((_("Changes"), request.link(tab="changes"), tab == "changes", None))
    strip = look.tabs(entries, _("The pipeline"))
    if tab == "yaml":
        return Markup(strip + specs.shown(await asyncio.to_thread(specs.lines_of, chosen["pipeline_spec"])))
    if tab == "changes" and len(versions) > 1:
        return Markup(strip + await _changes(request, versions, chosen))
    return Markup(strip + drawing(request, spec))


async def _changes(request: PageRequest, versions: list[dict[str, Any]], chosen: dict[str, Any]) -> Markup:
    others = [v for v in versions if v["pipeline_version_id"] != chosen["pipeline_version_id"]]
    place = versions.index(chosen) if chosen in versions else 0
    usual = versions[place + 1] if place + 1 < len(versions) else others[0]
    asked = request.query.get("against", "")
    against = next((v for v in others if v["pipeline_version_id"] == asked), usual)

    def work() -> Markup:
        old, new = (specs.lines_of(v["pipeline_spec"]) for v in (against, chosen))
        return specs.difference(old, new)

    options = [(v["pipeline_version_id"], v["display_name"]) for v in others]
    hidden = [
        el("input", type="hidden", name=k, value=request.query[k])
        for k in ("ns", "version", "tab")
        if k in request.query
    ]
    picker = el(
        "select",
        [el("option", w, value=i, selected=i == against["pipeline_version_id"]) for i, w in options],
        name="against",
        class_="btn small",
        data_go=True,
        aria_label=_("Compare with"),
    )
    to = el("span", _("to {name}", name=chosen["display_name"]))
    bar = el("form", hidden, el("span", _("From")), picker, to, method="get", action=request.path, class_="row")
    return Markup(el("div", bar, class_="toolbar") + await asyncio.to_thread(work))


def drawing(request: PageRequest, spec: PipelineSpec | str | None) -> Markup:
    """The graph of a pipeline, or why there is none."""
    if spec is None or isinstance(spec, str):
        return look.empty(spec or _("This pipeline has no version yet: upload one."))
    boxes = graph.boxes_of(spec)
    folded = set(filter(None, request.query.get("fold", "").split(",")))
    many = graph.begins_shut(boxes)
    links = graph.Links(
        task=lambda _box: "",
        toggle=lambda box: request.link(fold=",".join(sorted(folded ^ {box.key.replace(",", " ")}))),
        shut=lambda box: many != (box.key.replace(",", " ") in folded),
    )
    total = sum(box.count() for box in boxes)
    said = el("p", _("{n} tasks; groups fold.", n=total), class_="dim2 small-print") if many else ""
    return Markup(said + el("div", graph.draw(boxes, links, _("Tasks of the pipeline")), class_="dagbox"))


def _about(found: dict[str, Any], chosen: dict[str, Any] | None, spec: Any) -> Markup:
    source = (chosen or {}).get("code_source_url", "")
    facts = podlook.facts(
        [
            (_("About"), found.get("description")),
            (_("This version"), (chosen or {}).get("description")),
            (_("Tags"), edits.chips(found.get("tags", {}))),
            (_("Tags of this version"), edits.chips((chosen or {}).get("tags", {}))),
            (_("Source"), el("a", source, href=source, target="_blank", rel="noopener") if source else None),
            (_("Made"), moment((chosen or found).get("created_at"))),
            (_("Id"), el("span", found["pipeline_id"], class_="mono")),
        ]
    )
    if spec is None or isinstance(spec, str) or not spec.root.input_definitions.parameters:
        return facts
    rows = [
        el(
            "tr",
            el("td", name, class_="wrap-any"),
            el("td", forms.words_of(p.kind), class_="dim"),
            el(
                "td",
                json.dumps(whole(p.default_value), ensure_ascii=False)[:80]
                if p.has_default
                else _("needed")
                if p.required
                else "—",
            ),
        )
        for name, p in spec.root.input_definitions.parameters.items()
    ]
    head = el("tr", el("th", _("Parameter")), el("th", _("Type")), el("th", _("Default")))
    return Markup(facts + el("table", el("thead", head), el("tbody", rows), class_="dense"))


def _edit(found: dict[str, Any], chosen: dict[str, Any] | None) -> Markup:
    parts = [edits.form(_("Edit the pipeline"), "edit", found)]
    if chosen is not None:
        parts.append(edits.form(_("Edit this version"), "edit-version", chosen, version=chosen["pipeline_version_id"]))
    return Markup("".join(parts))


def _runs(request: PageRequest, runs: list[Run], namespace: str, ident: str) -> Markup:
    if not runs:
        return Markup()
    link = el("a", _("All its runs"), href=f"/runs?ns={quote(namespace)}&pipeline={ident}", class_="push")
    return Markup(
        el("div", el("h2", _("Last runs")), link, class_="ph")
        + el("div", bars(runs, request.now, slots=2 * BARS, width=9), class_="pad")
    )


def _versions(request: PageRequest, versions: list[dict[str, Any]], chosen: dict[str, Any] | None) -> Markup:
    rows = []
    for version in versions:
        here = chosen is not None and version["pipeline_version_id"] == chosen["pipeline_version_id"]
        ident = version["pipeline_version_id"]
        words = _("Delete version {name}?", name=version["display_name"])
        rows.append(
            el(
                "tr",
                el(
                    "td",
                    el("a", version["display_name"], href=request.link(version=ident, against=None), data_row=True),
                    class_="wrap-any",
                ),
                el("td", moment(version.get("created_at")), class_="dim nowrap num"),
                el(
                    "td",
                    button(_("Delete"), "delete-version", kind="danger small", confirm=words, version=ident),
                    class_="right",
                ),
                class_="sel" if here else None,
            )
        )
    head = el("div", el("h2", _("Versions")), el("span", len(versions), class_="dim num"), class_="ph")
    return Markup(head + el("table", el("tbody", rows)))


def parsed(document: dict[str, Any]) -> PipelineSpec | str:
    """The pipeline, or why it cannot run."""
    try:
        return parse_pipeline_spec(Spec(document).document)
    except SpecError as error:
        return str(error)


def substring(key: str, text: str) -> str:
    """A filter of the API: the field contains the text."""
    return json.dumps({"predicates": [{"operation": "IS_SUBSTRING", "key": key, "string_value": text}]})


def moment(text: str | None) -> Markup:
    """A moment as the API tells it."""
    import datetime as dt  # noqa: PLC0415 - a name that types use elsewhere

    return look.moment(dt.datetime.fromisoformat(text)) if text else Markup()

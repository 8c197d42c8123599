"""The form that starts a run, or plans runs: fields of the pipeline's parameters, posted through the API's own code.

Addresses: `/runs/new?pipeline=…&version=…`, `/runs/new?clone=RUN`, `/pipelines/{id}/run`, `/schedules/new?…` alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace.components.pipelines.ui import forms, specs
from headrace.components.pipelines.ui.calls import segment
from headrace.components.pipelines.ui.catalogue import parsed
from headrace.machinery import look
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import Done, Fragment, PageError
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.components.pipelines.store.models import RecurringRun, Run
    from headrace.components.pipelines.store.recurring import RecurringRuns
    from headrace.components.pipelines.store.repository import RunRepository
    from headrace.components.pipelines.types.ir import PipelineSpec
    from headrace.components.pipelines.ui.calls import Calls
    from headrace.machinery.pages import Form, PageRequest

MANY = "200"
MINUTE = 60
CRON, INTERVAL = "cron", "interval"
DEFAULT_CRON = "0 0 6 * * *"


@dataclass(frozen=True, slots=True)
class _Source:
    """What is to run. Exactly one of `version` and `document` is sent."""

    title: str
    spec: PipelineSpec
    document: dict[str, Any]
    namespace: str
    pipeline: dict[str, Any] | None = None
    version: dict[str, Any] | None = None
    cloned: Run | None = None
    like: RecurringRun | None = None
    """The schedule that another one is to be like."""

    @property
    def given(self) -> Mapping[str, Any]:
        """Parameters of the run that is cloned, or of the schedule, as far as this pipeline has them."""
        known = self.spec.root.input_definitions.parameters
        before = self.cloned or self.like
        return {k: v for k, v in before.parameters.items() if k in known} if before else {}


class LaunchPage:
    """The pages `/runs/new`, `/pipelines/{id}/run` and, with `recurring`, `/schedules/new`."""

    def __init__(self, calls: Calls, runs: RunRepository, *, recurring: RecurringRuns | None = None) -> None:
        self._calls, self._runs, self._schedules = calls, runs, recurring
        self._recurring = recurring is not None

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        source = await self._source(request)
        if source is None:
            return await self._choose(request)
        title = _("Schedule {name}") if self._recurring else _("Run {name}")
        title = title.format(name=source.title)
        sections = [self._which(request, source), await self._about(request, source)]
        known = source.spec.root.input_definitions
        if known.artifacts and not all(a.is_optional for a in known.artifacts.values()):
            sections.append(
                el("p", _("This pipeline takes artifacts as its input: a run cannot be given any."), class_="pad")
            )
        fields = [forms.parameter(name, wanted, source.given) for name, wanted in known.parameters.items()]
        if fields:
            sections += [el("h2", _("Parameters")), *fields]
        if self._recurring:
            sections += _when(source.like)
        words = _("Schedule it") if self._recurring else _("Start the run")
        sections.append(el("button", words, type="submit", name="action", value="start", class_="btn primary"))
        form = el("form", sections, method="post", class_="fields")
        back = f"/pipelines/{source.pipeline['pipeline_id']}" if source.pipeline else "/runs"
        name = source.pipeline["display_name"] if source.pipeline else _("Runs")
        crumbs = el("div", el("a", name, href=f"{back}?ns={quote(source.namespace)}"), class_="crumbs")
        head = el("div", crumbs, el("h1", title), class_="head lines")
        panel = el("section", form, class_="panel fullpanel", aria_label=title)
        return Fragment(title, el("div", head, panel, class_="page"), fill=True, namespace=source.namespace)

    async def start(self, request: PageRequest, form: Form) -> Done:
        """Start or schedule it; the API authorizes and checks. Raises PageError."""
        source = await self._source(request)
        if source is None:
            raise PageError(422, _("No pipeline"), _("Choose a pipeline first."))
        values = forms.values_of(source.spec.root.input_definitions.parameters, form)
        name = form.text("name").strip() or f"{source.title} {request.now:%Y-%m-%d %H:%M:%S}"
        body: dict[str, Any] = {
            "display_name": name,
            "description": form.text("description").strip(),
            "runtime_config": {"parameters": values, "pipeline_root": form.text("root").strip()},
        }
        if form.text("experiment"):
            body["experiment_id"] = form.text("experiment")
        if form.text("account").strip():
            body["service_account"] = form.text("account").strip()
        if form.text("cache") == "off":
            body["pipeline_spec"] = specs.without_cache(source.document)
        elif source.version is not None:
            reference = {"pipeline_id": source.version["pipeline_id"]}
            if not (self._recurring and form.text("follow") == "latest"):
                reference["pipeline_version_id"] = source.version["pipeline_version_id"]
            body["pipeline_version_reference"] = reference
        else:
            body["pipeline_spec"] = source.document
        if not self._recurring:
            made = await self._calls.post(request.user, "/runs", body, namespace=source.namespace)
            return Done(f"/runs/{made['run_id']}", _("The run has been started."))
        body |= _plan(form)
        await self._calls.post(request.user, "/recurringruns", body, namespace=source.namespace)
        return Done(f"/schedules?ns={quote(source.namespace)}", _("It is scheduled."))

    async def _source(self, request: PageRequest) -> _Source | None:
        """What the address names. Raises PageError."""
        query = request.query
        if query.get("like") and self._schedules is not None:
            return await self._as_scheduled(request, self._schedules)
        pipeline_id = request.parameters.get("id") or query.get("pipeline", "")
        cloned = await self._clone(request) if query.get("clone") else None
        namespace = cloned.namespace if cloned else request.namespace
        if cloned is not None and not pipeline_id and not cloned.pipeline_version_id:
            return await self._again(cloned)
        version_id = query.get("version", "")
        if cloned is not None and not pipeline_id:
            pipeline_id, version_id = cloned.pipeline_id, cloned.pipeline_version_id
            try:
                await self._calls.get(request.user, f"/pipelines/{pipeline_id}/versions/{version_id}")
            except PageError as error:
                if error.status != 404:
                    raise
                return await self._again(cloned)  # the version has been deleted since; the run knows what it ran
        if not pipeline_id:
            return None
        pipeline = await self._calls.get(request.user, f"/pipelines/{segment(pipeline_id)}")
        if version_id:
            version = await self._calls.get(request.user, f"/pipelines/{pipeline_id}/versions/{segment(version_id)}")
        else:
            listed = await self._calls.get(
                request.user, f"/pipelines/{pipeline_id}/versions", page_size="1", sort_by="created_at desc"
            )
            if not listed.get("pipeline_versions"):
                raise PageError(404, _("Nothing to run"), _("This pipeline has no version yet: upload one."))
            version = listed["pipeline_versions"][0]
        document = version["pipeline_spec"]
        namespace = pipeline.get("namespace") or namespace
        return _Source(pipeline["display_name"], _spec(document), document, namespace, pipeline, version, cloned)

    async def _as_scheduled(self, request: PageRequest, schedules: RecurringRuns) -> _Source:
        """What another schedule starts; whoever may see it may read that."""
        ident = segment(request.query["like"])
        told = await self._calls.get(request.user, f"/recurringruns/{ident}")
        found = await schedules.get(ident)
        if found is None:
            raise PageError(404, _("It is not there"), _("The schedule was deleted."))
        like, _spec_of = found
        if not like.pipeline_id:
            document = told.get("pipeline_spec") or {}
            return _Source(like.display_name, _spec(document), document, like.namespace, like=like)
        named = like.pipeline_version_id
        chosen = {"pipeline": like.pipeline_id, "version": named} if named else {"pipeline": like.pipeline_id}
        source = await self._source(replace(request, query=chosen, namespace=like.namespace))
        if source is None:
            raise PageError(404, _("It is not there"), _("The schedule was deleted."))
        return replace(source, like=like)

    async def _clone(self, request: PageRequest) -> Run:
        """The run to be cloned; whoever may see it may read what it ran."""
        ident = segment(request.query["clone"])
        await self._calls.get(request.user, f"/runs/{ident}")
        run = await self._runs.get_run(ident)
        if run is None:
            raise PageError(404, _("It is not there"), _("The run was deleted."))
        return run

    async def _again(self, run: Run) -> _Source:
        row = await self._runs.show_run(run.id)
        if row is None:
            raise PageError(404, _("It is not there"), _("The run was deleted."))
        document = row.spec.document
        return _Source(run.pipeline_name or run.display_name, _spec(document), document, run.namespace, cloned=run)

    async def _choose(self, request: PageRequest) -> Fragment:
        """No pipeline was named: a list of them."""
        title = _("Schedule a pipeline") if self._recurring else _("Run a pipeline")
        found: list[dict[str, Any]] = []
        for namespace in (request.namespace, ""):
            listed = await self._calls.get(
                request.user, "/pipelines", namespace=namespace, page_size=MANY, sort_by="display_name"
            )
            found += listed.get("pipelines", [])
        rows = [
            el("tr", el("td", el("a", p["display_name"], href=request.link(pipeline=p["pipeline_id"]), data_row=True)))
            for p in found
        ]
        if rows:
            inner = el("table", el("tbody", rows))
        else:
            link = el("a", _("Upload a pipeline"), href=f"/pipelines/new?ns={quote(request.namespace)}")
            inner = look.empty(link)
        head = el("div", el("h1", title), el("span", _("Which pipeline?"), class_="dim"), class_="head row")
        panel = el("section", inner, class_="panel fullpanel", aria_label=title)
        return Fragment(title, el("div", head, panel, class_="page"), fill=True)

    def _which(self, request: PageRequest, source: _Source) -> Markup | None:
        parts = [el("b", source.title)]
        if source.version is not None and source.pipeline is not None:
            link = f"/pipelines/{source.pipeline['pipeline_id']}?version={source.version['pipeline_version_id']}"
            link = el("a", source.version["display_name"], href=f"{link}&ns={quote(request.namespace)}")
            parts.append(el("span", _("version"), " ", link, class_="dim"))
        if source.cloned is not None:
            parts.append(
                el(
                    "span",
                    _("as in the run"),
                    " ",
                    el("a", source.cloned.display_name, href=f"/runs/{source.cloned.id}"),
                )
            )
        return el("div", el("span", _("Pipeline"), class_="name"), el("div", parts, class_="row"), class_="field")

    async def _about(self, request: PageRequest, source: _Source) -> Markup:
        active = {"predicates": [{"operation": "EQUALS", "key": "storage_state", "string_value": "AVAILABLE"}]}
        listed = await self._calls.get(
            request.user,
            "/experiments",
            namespace=source.namespace,
            page_size=MANY,
            sort_by="display_name",
            filter=forms.as_json(active),
        )
        cloned, like = source.cloned, source.like
        before = cloned or like
        experiments = [
            ("", _("Default")),
            *((e["experiment_id"], e["display_name"]) for e in listed.get("experiments", [])),
        ]
        chosen = request.query.get("experiment") or (
            before.experiment_id if before and (like or not self._recurring) else ""
        )
        name = _("Name of the schedule") if self._recurring else _("Name of the run")
        suggested = _("Clone of {name}", name=before.display_name) if before else ""
        more = el(
            "details",
            el("summary", _("More settings")),
            forms.row(_("Description"), forms.line("description", like.description if like else ""), "f-description"),
            forms.row(
                _("Pipeline root"),
                forms.line("root", before.pipeline_root if before else "", placeholder="minio://mlpipeline/…"),
                "f-root",
                _("Where artifacts go; empty: the usual place"),
            ),
            forms.row(
                _("Service account"),
                forms.line("account", before.service_account if before else "", placeholder="default-editor"),
                "f-account",
            ),
        )
        follow = None
        if self._recurring and source.version is not None:
            kinds = [("version", _("this version")), ("latest", _("the newest version at each time"))]
            follow = forms.row(
                _("Runs"),
                forms.choice("follow", kinds, "latest" if like and not like.pipeline_version_id else "version"),
                "f-follow",
            )
        cache = [("", _("as the pipeline says")), ("off", _("off: every step runs"))]
        return Markup(
            "".join(
                part
                for part in (
                    forms.row(
                        name, forms.line("name", suggested, placeholder=source.title), "f-name", _("Empty: one is made")
                    ),
                    forms.row(_("Experiment"), forms.choice("experiment", experiments, chosen), "f-experiment"),
                    follow,
                    forms.row(_("Cache"), forms.choice("cache", cache, ""), "f-cache"),
                    more,
                )
                if part
            )
        )


def _when(like: RecurringRun | None) -> list[Markup]:
    kinds = [(CRON, _("by cron")), (INTERVAL, _("every so many minutes"))]
    catchup = [("", _("made up for, in order")), ("no", _("left out, but for the newest"))]
    trigger = like.trigger if like else {}
    cron, interval = trigger.get("cron_schedule", {}), trigger.get("periodic_schedule", {})
    bounds = cron or interval
    minutes = f"{int(interval['interval_second']) / MINUTE:g}" if interval else "60"
    begins, ends = _local(bounds.get("start_time", "")), _local(bounds.get("end_time", ""))
    at_once = str(like.max_concurrency) if like else "1"
    return [
        el("h2", _("When")),
        forms.row(_("Kind"), forms.choice("trigger", kinds, INTERVAL if interval else CRON), "f-trigger"),
        forms.row(
            "Cron",
            forms.line("cron", cron.get("cron") or DEFAULT_CRON, spellcheck="false"),
            "f-cron",
            _("Six fields: second minute hour day month weekday, in UTC"),
        ),
        forms.row(_("Minutes"), forms.line("minutes", minutes, kind="number", min="1", step="any"), "f-minutes"),
        forms.row(_("Begins"), forms.line("begins", begins, kind="datetime-local"), "f-begins", _("UTC; empty: now")),
        forms.row(_("Ends"), forms.line("ends", ends, kind="datetime-local"), "f-ends", _("UTC; empty: never")),
        forms.row(_("At once"), forms.line("concurrency", at_once, kind="number", min="1", max="10"), "f-concurrency"),
        forms.row(
            _("Missed times"), forms.choice("catchup", catchup, "no" if like and like.no_catchup else ""), "f-catchup"
        ),
    ]


def _local(moment: str) -> str:
    """A moment of the API as a browser's field has it."""
    return moment[:16] if moment else ""


def _plan(form: Form) -> dict[str, Any]:
    bounds = {"start_time": _moment(form.text("begins")), "end_time": _moment(form.text("ends"))}
    given = {key: value for key, value in bounds.items() if value}
    if form.text("trigger") == INTERVAL:
        try:
            seconds = round(float(form.text("minutes")) * MINUTE)
        except (ValueError, OverflowError) as error:
            raise PageError(422, _("That does not fit"), _("The minutes must be a number.")) from error
        trigger: dict[str, Any] = {"periodic_schedule": {"interval_second": str(seconds)} | given}
    else:
        trigger = {"cron_schedule": {"cron": form.text("cron").strip()} | given}
    return {
        "trigger": trigger,
        "mode": "ENABLE",
        "max_concurrency": form.text("concurrency") or "1",
        "no_catchup": form.text("catchup") == "no",
    }


def _moment(text: str) -> str:
    """What a browser's field of a moment says, in UTC."""
    return f"{text if text.count(':') > 1 else f'{text}:00'}Z" if text else ""


def _spec(document: dict[str, Any]) -> PipelineSpec:
    found = parsed(document)
    if isinstance(found, str):
        raise PageError(422, _("This is not a pipeline that can run"), found)
    return found

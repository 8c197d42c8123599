"""Served models: whether each answers, where, why not, and a request to copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.core import Event
from headrace.components.serving.types import GROUP, InferenceService
from headrace.machinery import look, podlook
from headrace.machinery.html import Markup, el
from headrace.machinery.offers import Hit
from headrace.machinery.pages import Fragment, authorize, both
from headrace.machinery.words import _, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.meta import Condition
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest

RESOURCE = "inferenceservices"
EXAMPLE = """kubectl apply -f - <<'END'
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: digits, namespace: {namespace}}}
spec: {{predictor: {{model: {{modelFormat: {{name: sklearn}}, storageUri: "s3://BUCKET/PATH"}}}}}}
END"""
_FRAMEWORKS = (
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
)


class ModelsPage:
    """The page `/models`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def follow(self, request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """The services and their events."""
        site, namespace = self._context.site, request.namespace
        return both(
            site.changes(InferenceService).subscribe(wake, namespace), site.changes(Event).subscribe(wake, namespace)
        )

    async def panel(self, request: PageRequest) -> Markup:
        """For the first page."""
        models = await self._models(request)
        if not models:
            return look.empty(_("No model is served in this namespace."), "headrace quickstart")
        rows = []
        for model in models[:8]:
            kind, word = state(model)
            link = el("a", model.metadata.name, href=_link(request, model))
            why = None if kind == look.OK else el("span", reason(model), class_="dim wrap-any")
            rows.append(el("div", el("div", link, look.pill(kind, word), class_="row"), why))
        return el("div", rows, class_="served")

    async def find(self, request: PageRequest, text: str) -> list[Hit]:
        """For the search: the models of the namespace, once something is searched for."""
        models = await self._models(request) if text else []
        return [Hit(_("Model"), m.metadata.name, _link(request, m), state(m)[1]) for m in models]

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        models = await self._models(request)
        text = request.query.get("q", "").lower()
        shown = [model for model in models if text in model.metadata.name.lower()]
        name = request.query.get("model")
        chosen = next((m for m in models if m.metadata.name == name), None)
        if chosen is None and not name and shown:
            chosen = shown[0]
        head = el(
            "div",
            el("h1", _("Models")),
            el("span", _("{n} served", n=len(models)), class_="dim num"),
            podlook.search(request, _("Find a model"), keep=("ns",)),
            class_="head row",
        )
        right: Markup | None = None
        if not models:
            left = look.empty(
                _("No model is served in this namespace. The digits example trains one and serves it:"),
                "headrace quickstart",
            ) + look.empty(_("Or serve one that lies in a bucket:"), EXAMPLE.format(namespace=request.namespace))
        elif not shown:
            left = look.empty(_("Nothing matches this filter."))
        else:
            left = self._table(request, shown, chosen)
        if chosen is not None:
            right = await self._detail(request, chosen)
        elif name and models:
            right = look.empty(
                _("There is no {name} in {namespace} (any more).", name=name, namespace=request.namespace)
            )
        split = el(
            "div",
            el("section", left, class_="panel", aria_label=_("Models")),
            el("section", right, class_="panel", aria_label=_("What is selected")) if right else None,
            class_="split" if right else "split one",
        )
        return Fragment(_("Models"), el("div", head, split, class_="page"), fill=True)

    async def _models(self, request: PageRequest) -> list[InferenceService]:
        await authorize(self._context.client, request, "list", RESOURCE, group=GROUP)
        cache = await self._context.site.cache(InferenceService)
        return sorted(cache.all(request.namespace), key=lambda model: model.metadata.name)

    def _table(self, request: PageRequest, models: list[InferenceService], chosen: InferenceService | None) -> Markup:
        rows = []
        for model in models:
            kind, word = state(model)
            why = reason(model) if kind != look.OK else ""
            name = model.metadata.name
            rows.append(
                el(
                    "tr",
                    el("td", look.pill(kind, word)),
                    el(
                        "td",
                        el("a", name, href=request.link(model=name, tab=None), data_row=True),
                        el("span", why, class_="reason", title=why) if why else None,
                        class_="cut",
                    ),
                    el("td", framework(model), class_="dim"),
                    el("td", look.moment(model.metadata.creation_timestamp), class_="dim nowrap num"),
                    id=f"model-{model.metadata.uid}",
                    class_="sel" if model is chosen else None,
                )
            )
        head = el("tr", [el("th", words) for words in (_("State"), _("Model"), _("Format"), _("Created"))])
        return el("table", el("thead", head), el("tbody", rows))

    async def _detail(self, request: PageRequest, model: InferenceService) -> Markup:
        name, namespace = model.metadata.name, model.metadata.namespace
        tab = request.query.get("tab", "overview")
        kind, word = state(model)
        cache = await self._context.site.cache(Event)
        events = [e for e in cache.all(namespace) if e.involved_object.uid == model.metadata.uid]
        events.sort(key=lambda e: (e.last_timestamp or request.now).timestamp())
        head = el("div", el("h2", name), look.pill(kind, word), class_="dhead row")
        strip = look.tabs(
            [
                (_("Overview"), request.link(tab=None), tab != "events", None),
                (_("Events"), request.link(tab="events"), tab == "events", len(events) or None),
            ],
            _("About {name}", name=name),
        )
        if tab == "events":
            return el("div", head, strip, podlook.event_table(events), class_="detail")
        base = f"{self._context.settings.gateway_url}/serving/{namespace}/{name}"
        token = f'-H "Authorization: Bearer $(headrace token{self._context.settings.home_option} -n {namespace})"'
        ready = f"curl {token} {base}/v1/models/{name}"
        ask = f"curl {token} \\\n  -d '{{\"instances\": [[0.0, 1.0, 2.0]]}}' \\\n  {base}/v1/models/{name}:predict"
        copies = model.status.model_status.copies
        facts = podlook.facts(
            [
                (_("Address"), el("span", base, class_="mono")),
                (_("Host name"), el("span", model.status.url, class_="mono") if model.status.url else None),
                (_("In pods"), el("span", model.status.address.url, class_="mono") if model.status.address else None),
                (_("Format"), framework(model)),
                (_("Model"), el("span", source(model), class_="mono")),
                (_("Copies"), _("{n} ready", n=copies.total_copies) if copies is not None else None),
                (_("Pods"), el("a", _("Show its pods"), href=f"/workloads?ns={namespace}&q={name}-predictor")),
            ]
        )
        failure = look.why(_("Why it does not answer"), reason(model)) if kind == look.BAD else None
        return el(
            "div",
            head,
            strip,
            el(
                "div",
                failure,
                facts,
                el("h3", _("Ask it"), class_="subhead"),
                el(
                    "div",
                    look.command(ready),
                    el("p", _("With rows of your own data:")),
                    look.command(ask),
                    class_="empty",
                ),
                el("h3", _("Conditions"), class_="subhead"),
                el("table", el("tbody", [_condition(c) for c in model.status.conditions]), class_="events"),
            ),
            class_="detail",
        )


def state(model: InferenceService) -> tuple[str, str]:
    """Colour and word."""
    ready = _ready(model)
    if model.metadata.deletion_timestamp is not None:
        return look.WAIT, _("Terminating")
    if any(c.type == "Stopped" and c.status == "True" for c in model.status.conditions):
        return look.WAIT, _("Stopped")
    if ready is None:
        return look.WAIT, _("New")
    if ready.status == "True":
        return look.OK, _("Ready")
    if model.status.model_status.transition_status in {"BlockedByFailedLoad", "InvalidSpec"}:
        return look.BAD, _("Failed")
    return look.RUN, _("Starting")


def reason(model: InferenceService) -> str:
    """Why it is not ready, in a sentence."""
    failure, ready = model.status.model_status.last_failure_info, _ready(model)
    if ready is not None and ready.message:
        return told(ready.message)
    return told(failure.message) if failure is not None else _("Its pods are being started.")


def framework(model: InferenceService) -> str:
    """What wrote the model."""
    predictor = model.spec.predictor
    if predictor.model is not None:
        return predictor.model.model_format.name
    return next((name for name in _FRAMEWORKS if getattr(predictor, name) is not None), "container")


def source(model: InferenceService) -> str:
    """Where the model lies."""
    predictor = model.spec.predictor
    server = predictor.model or predictor.sklearn
    return (server.storage_uri or "") if server is not None else ""


def _ready(model: InferenceService) -> Condition | None:
    return next((c for c in model.status.conditions if c.type == "Ready"), None)


def _condition(condition: Condition) -> Markup:
    kind = {"True": look.OK, "False": look.BAD}.get(condition.status, look.WAIT)
    if condition.type == "Stopped":
        kind = look.WAIT
    return el(
        "tr",
        el("td", look.pill(kind, condition.type)),
        el("td", condition.reason, class_="dim"),
        el("td", told(condition.message), class_="wrap-any"),
        el("td", look.moment(condition.last_transition_time, date=False), class_="dim nowrap num"),
    )


def _link(request: PageRequest, model: InferenceService) -> str:
    return f"/models?ns={request.namespace}&model={model.metadata.name}"

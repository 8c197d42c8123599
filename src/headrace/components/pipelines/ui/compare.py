"""Runs side by side: what differs of their parameters and metrics, curves over each other, parallel coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from headrace.components.pipelines.policy import preview
from headrace.components.pipelines.policy.view import build_view
from headrace.components.pipelines.types.ir import SpecError
from headrace.components.pipelines.ui import charts
from headrace.components.pipelines.ui.recent import GROUP
from headrace.components.pipelines.ui.states import cpu_seconds, duration, look_of
from headrace.components.pipelines.ui.timeline import LEAVES, short
from headrace.machinery import look
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.pages import Fragment, PageError, authorize, both
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.components.pipelines.store.models import RunRow
    from headrace.components.pipelines.ui.follow import FollowedRuns
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest

MAX_RUNS = 10
MAX_AXES = 12
SERIES = 7
"""Colours and dashes; with more runs they begin again."""
MISSING = "—"
WIDTH, HEIGHT = 900.0, 260.0
LEFT, TOP, SIDE = 34.0, 8.0, 260.0


@dataclass(frozen=True, slots=True)
class Side:
    """What is compared of one run."""

    row: RunRow
    metrics: Mapping[str, float | str] = field(default_factory=dict)
    curves: Mapping[str, list[dict[str, float]]] = field(default_factory=dict)
    matrices: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Metadata of artifacts that hold a confusion matrix, by where they come from."""


class ComparePage:
    """The page `/compare?run=…&run=…`."""

    def __init__(self, context: Context, runs: FollowedRuns) -> None:
        self._context, self._runs = context, runs

    def follow(self, request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """Every run that is shown."""
        return both(*(self._runs.changed.subscribe(wake, ident) for ident in asked(request)))

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        idents = asked(request)
        if len(idents) < 2:
            words = _("Tick at least two runs in the list of runs, then press Compare.")
            raise PageError(400, _("Nothing to compare"), words)
        if len(idents) > MAX_RUNS:
            words = _("At most {n} runs can be compared at once.", n=MAX_RUNS)
            raise PageError(400, _("Too many runs"), words)
        sides = []
        for ident in idents:
            row = await self._runs.show_run(ident)
            if row is None:
                raise PageError(404, _("There is no such run"), _("{id} may have been deleted.", id=ident[:80]))
            await authorize(self._context.client, request, "get", "runs", group=GROUP, namespace=row.run.namespace)
            sides.append(side_of(row))
        full = request.query.get("all") == "yes"
        parameters = table([parameters_of(s.row) for s in sides], full=full)
        metrics = table([s.metrics for s in sides], full=full)
        toggle = el(
            "a",
            _("What is equal too"),
            href=address(idents, None if full else "yes"),
            class_="chip",
            aria_current="true" if full else None,
        )
        crumbs = el("div", el("a", _("Runs"), href=f"/runs?ns={sides[0].row.run.namespace}"), class_="crumbs")
        head = el(
            "div",
            crumbs,
            el("div", el("h1", _("Compare {n} runs", n=len(sides))), toggle, class_="row"),
            class_="head lines",
        )
        body = el(
            "div",
            head,
            el(
                "div",
                _panel(_("Runs"), _summary(sides, idents, request)),
                _panel(_("Parameters"), _values(sides, parameters) or _same(_("They were given the same parameters."))),
                _panel(_("Metrics"), _values(sides, metrics) or _same(_("They have no metrics that differ."))),
                _panel(_("Parallel coordinates"), coordinates(sides, parameters, metrics)),
                _panel(_("ROC curves"), curves(sides)),
                _panel(_("Confusion matrices"), _matrices(sides)),
                class_="stack pad-page",
            ),
        )
        return Fragment(_("Compare runs"), body, namespace=sides[0].row.run.namespace)


def asked(request: PageRequest) -> list[str]:
    """The runs that the address names, each once; `run` may also hold several with commas."""
    found = [part for value in request.every.get("run", ()) for part in value.split(",") if part]
    return list(dict.fromkeys(found))


def address(idents: Sequence[str], full: str | None) -> str:
    """The page of these runs."""
    return "/compare?" + urlencode([*(("run", ident) for ident in idents), *([("all", full)] if full else [])])


def side_of(row: RunRow) -> Side:
    """What a run has made that can be compared."""
    places = {
        ident: task.path.removeprefix("root/")
        for task in row.tasks
        if task.type in LEAVES
        for idents in task.outputs.artifacts.values()
        for ident in idents
    }
    made = [(places[artifact.id], artifact) for artifact in row.artifacts.values() if artifact.id in places]
    holders: dict[str, set[str]] = {}
    for place, artifact in made:
        for key in artifact.metadata:
            holders.setdefault(key, set()).add(place)
    metrics: dict[str, float | str] = {}
    lines: dict[str, list[dict[str, float]]] = {}
    matrices: dict[str, dict[str, Any]] = {}
    for place, artifact in made:
        if artifact.type == "system.Metrics":
            for key, value in artifact.metadata.items():
                if isinstance(value, int | float | str) and not isinstance(value, bool):
                    name = key if len(holders[key]) < 2 else f"{place} · {key}"
                    metrics[name] = value
        elif artifact.type == "system.ClassificationMetrics":
            points = preview.roc(artifact.metadata)
            if points:
                lines[place] = points
            if artifact.metadata.get("confusionMatrix"):
                matrices[place] = artifact.metadata
    return Side(row, metrics, lines, matrices)


def parameters_of(row: RunRow) -> dict[str, Any]:
    """What a run was given, and the defaults of what it was not given."""
    try:
        known = build_view(row).spec.root.input_definitions.parameters
    except SpecError:
        return dict(row.run.parameters)
    usual = {name: wanted.default_value for name, wanted in known.items() if wanted.has_default}
    return {**usual, **row.run.parameters}


def table(columns: Sequence[Mapping[str, Any]], *, full: bool) -> dict[str, list[Any]]:
    """Values by name, a column each; of those that are equal only with `full`. What is absent is MISSING."""
    names = dict.fromkeys(name for column in columns for name in column)
    found = {name: [column.get(name, MISSING) for column in columns] for name in names}
    return {n: values for n, values in found.items() if full or any(v != values[0] for v in values[1:])}


def _panel(title: str, inner: Markup) -> Markup | None:
    if not inner:
        return None
    return el("section", el("div", el("h2", title), class_="ph"), inner, class_="panel scroll", aria_label=title)


def _same(words: str) -> Markup:
    return el("p", words, class_="dim pad")


def _key(index: int) -> Markup:
    """What shows which line is whose: colour and dashes."""
    stroke = el("line", x1="1", x2="25", y1="5", y2="5", class_=f"series s{index % SERIES}")
    return el("svg", stroke, width="26", height="10", class_="key", aria_hidden="true")


def _heads(sides: Sequence[Side]) -> Markup:
    names = [el("th", _key(n), " ", side.row.run.display_name, class_="wrap-any") for n, side in enumerate(sides)]
    return el("thead", el("tr", el("th"), names))


def _summary(sides: Sequence[Side], idents: Sequence[str], request: PageRequest) -> Markup:
    rows = []
    for index, side in enumerate(sides):
        run = side.row.run
        kind, word = look_of(run.state)
        rest = [ident for ident in idents if ident != run.id]
        less = el("a", _("Leave out"), href=address(rest, request.query.get("all")), class_="btn small")
        rows.append(
            el(
                "tr",
                el("td", _key(index), class_="nowrap"),
                el("td", el("a", run.display_name, href=f"/runs/{run.id}", data_row=True), class_="wrap-any"),
                el("td", look.pill(kind, word)),
                el("td", run.pipeline_name, class_="dim wrap-any hide-s"),
                el("td", look.seconds(duration(run, request.now)), class_="nowrap num"),
                el("td", _spent(side), class_="dim nowrap num hide-s"),
                el("td", look.moment(run.created_at), class_="dim nowrap num hide-s"),
                el("td", less if len(rest) > 1 else None, class_="right"),
            )
        )
    return el("table", el("tbody", rows))


def _spent(side: Side) -> str:
    seconds = cpu_seconds(side.row.tasks)
    return "" if seconds is None else _("{time} of CPU", time=look.seconds(seconds))


def _values(sides: Sequence[Side], found: Mapping[str, Sequence[Any]]) -> Markup:
    if not found:
        return Markup()
    rows = []
    for name, values in found.items():
        cells = [el("td", _said(v), class_="num wrap-any") for v in values]
        rows.append(el("tr", el("th", name, scope="row", class_="wrap-any"), cells))
    return el("table", _heads(sides), el("tbody", rows), class_="compare")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _said(value: Any) -> Child:
    return f"{value:.6g}" if isinstance(value, float) else short(value)


def coordinates(
    sides: Sequence[Side], parameters: Mapping[str, Sequence[Any]], metrics: Mapping[str, Sequence[Any]]
) -> Markup:
    """An axis for each number that differs, a line for each run. Nothing with fewer than two axes."""
    found = [*parameters.items(), *metrics.items()]
    axes = [(n, v) for n, v in found if sum(map(_number, v)) > 1 and len({x for x in v if _number(x)}) > 1]
    axes = axes[:MAX_AXES]
    if len(axes) < 2:
        return Markup()
    top, bottom, side = 40.0, HEIGHT - 26, 70.0
    step = (WIDTH - 2 * side) / (len(axes) - 1)
    parts: list[Markup] = []
    places: list[list[tuple[float, float] | None]] = []
    for index, (name, values) in enumerate(axes):
        x = side + index * step
        low, high = min(v for v in values if _number(v)), max(v for v in values if _number(v))
        parts += [
            el("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=top, y2=bottom, class_="axisline"),
            el("text", el("title", name), _cut(name), x=f"{x:.1f}", y=13, text_anchor="middle"),
            el("text", f"{high:.4g}", x=f"{x:.1f}", y=top - 9, text_anchor="middle"),
            el("text", f"{low:.4g}", x=f"{x:.1f}", y=bottom + 16, text_anchor="middle"),
        ]
        share = [(v - low) / (high - low) if _number(v) else None for v in values]
        places.append([None if s is None else (x, bottom - s * (bottom - top)) for s in share])
    for number, one in enumerate(sides):
        points = [axis[number] for axis in places if axis[number] is not None]
        line = " ".join(f"{p[0]:.1f},{p[1]:.1f}" for p in points if p is not None)
        hint = el("title", one.row.run.display_name)
        parts.append(el("polyline", hint, points=line, class_=f"series s{number % SERIES}"))
    told = _("Parallel coordinates of {n} runs", n=len(sides))
    box = f"0 0 {WIDTH:.0f} {HEIGHT:.0f}"
    return el("svg", parts, class_="chart wide", viewBox=box, role="img", aria_label=told)


def curves(sides: Sequence[Side]) -> Markup:
    """ROC curves over each other."""
    lines: list[Markup] = []
    legend: list[Markup] = []
    for index, side in enumerate(sides):
        for place, points in side.curves.items():
            pairs = sorted((p["false_positive_rate"], p["recall"]) for p in points)
            ends = [(0.0, 0.0), *pairs, (1.0, 1.0)]
            area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(ends))
            where = " ".join(f"{LEFT + x * SIDE:.1f},{TOP + (1 - y) * SIDE:.1f}" for x, y in ends)
            words = f"{side.row.run.display_name} · {place} · {area:.4f}"
            lines.append(el("polyline", el("title", words), points=where, class_=f"series s{index % SERIES}"))
            legend.append(el("div", _key(index), " ", words, class_="wrap-any"))
    if not lines:
        return Markup()
    far, low = LEFT + SIDE, TOP + SIDE
    frame = [
        el("line", x1=LEFT, x2=far, y1=low, y2=low, class_="axisline"),
        el("line", x1=LEFT, x2=LEFT, y1=TOP, y2=low, class_="axisline"),
        el("line", x1=LEFT, x2=far, y1=low, y2=TOP, class_="chance"),
        el("text", _("false positive rate"), x=LEFT + SIDE / 2, y=low + 16, text_anchor="middle"),
        el("text", _("recall"), x=LEFT + 6, y=TOP + 14),
    ]
    told = _("{n} ROC curves", n=len(lines))
    picture = el("svg", frame, lines, class_="chart", viewBox="0 0 310 292", role="img", aria_label=told)
    return el("div", picture, el("div", legend, class_="legend"), class_="row top")


def _matrices(sides: Sequence[Side]) -> Markup:
    found = []
    for index, side in enumerate(sides):
        for place, metadata in side.matrices.items():
            picture = charts.confusion(metadata.get("confusionMatrix"))
            if picture:
                title = el("div", _key(index), " ", f"{side.row.run.display_name} · {place}", class_="wrap-any pad")
                found.append(el("div", title, picture))
    return el("div", found, class_="row top") if found else Markup()


def _cut(text: str) -> str:
    return text if len(text) <= 16 else f"…{text[-15:]}"

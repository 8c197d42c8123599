"""What a person sees of an artifact without downloading it: a table, a picture, text, metrics, Markdown, HTML.

The API decides what an artifact is and reads it, in the name of the person who looks (`policy.preview`). HTML stands
in a frame of its own, from an address whose policy gives it neither an origin nor a network. Invariant: the right is
asked for each time, also when the preview is at hand.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from headrace.components.pipelines.ui import folders, markdown
from headrace.components.pipelines.ui.calls import segment
from headrace.components.pipelines.ui.charts import charts
from headrace.components.pipelines.ui.recent import GROUP
from headrace.machinery import look
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import PageError, authorize
from headrace.machinery.words import _

if TYPE_CHECKING:
    from headrace.components.pipelines.store.models import Artifact
    from headrace.components.pipelines.ui.calls import Calls
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest

KEPT = 16
MAX_TEXT = 20_000
API = "/apis/v2beta1/artifacts"
_SHOWN_BY_ITSELF = frozenset({"system.HTML", "system.Markdown", "system.ClassificationMetrics", "system.Metrics"})


def shown_first(artifact: Artifact) -> bool:
    """Whether a person wants to see it without asking."""
    return artifact.type in _SHOWN_BY_ITSELF


class Previews:
    """Keeps the last few: an open page is made anew with every change of its run."""

    def __init__(self, context: Context, calls: Calls) -> None:
        self._context, self._calls = context, calls
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()

    async def of(self, request: PageRequest, artifact: Artifact, *, settled: bool) -> Markup:
        """The preview, or a sentence that says why there is none. `settled`: nobody writes the artifact any more."""
        try:
            await authorize(
                self._context.client, request, "readArtifact", "runs", group=GROUP, namespace=artifact.namespace
            )
            found = self._kept.get(artifact.id)
            if found is None:
                found = await self._calls.get(request.user, f"/artifacts/{segment(artifact.id)}:preview")
        except PageError as error:
            return el("div", el("p", error.message), class_="empty")
        if settled:
            self._kept[artifact.id] = found
            self._kept.move_to_end(artifact.id)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return render(artifact, found)


def render(artifact: Artifact, found: dict[str, Any]) -> Markup:
    """What the API answered, as markup."""
    kind = found.get("kind")
    size = found.get("size")
    note = look.size(int(size)) if size is not None else ""
    if found.get("truncated") and kind in {"text", "table", "markdown"}:
        note = _("the beginning of {size}", size=note) if note else _("the beginning")
    inner = _inner(artifact, str(kind), found)
    return el("div", inner, el("span", note, class_="dim2 num") if note else None, class_="preview")


def _inner(artifact: Artifact, kind: str, found: dict[str, Any]) -> Markup:
    match kind:
        case "folder":
            return folders.render(found, artifact.namespace)
        case "classification":
            return _pictures(artifact.metadata) or el("p", _("It holds no curve and no matrix."), class_="dim")
        case "metrics":
            return numbers(found.get("metrics") or {})
        case "image":
            name = artifact.name or _("Picture")
            return el("img", src=f"{API}/{artifact.id}:show", alt=name, loading="lazy", class_="picture")
        case "html":
            return frame(artifact)
        case "table":
            return table(found.get("columns") or [], found.get("rows") or [])
        case "markdown":
            return markdown.render(_text(found))
        case "text":
            return el("pre", _text(found), class_="value")
        case "visualizations":
            items = found.get("items") or []
            return Markup("".join(_visualization(item) for item in items))
    return el("p", _("These are bytes that only a program can read."), class_="dim")


def frame(artifact: Artifact) -> Markup:
    """HTML that a step wrote: it may run its own scripts, without an origin and without a network."""
    title = artifact.name or "HTML"
    return el(
        "iframe",
        src=f"{API}/{artifact.id}:show",
        sandbox="allow-scripts",
        loading="lazy",
        title=title,
        referrerpolicy="no-referrer",
        class_="framed",
    )


def numbers(metrics: dict[str, Any]) -> Markup:
    """Metrics as tiles."""
    tiles = [
        el("div", el("b", _number(value)), el("span", key))
        for key, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return el("div", tiles, class_="metrics") if tiles else Markup()


def table(columns: list[Any], rows: list[list[Any]]) -> Markup:
    """Cells as text."""
    head = el("tr", [el("th", str(cell)) for cell in columns])
    body = [el("tr", [el("td", str(cell)) for cell in row]) for row in rows]
    return el("div", el("table", el("thead", head), el("tbody", body), class_="dense"), class_="sheet", tabindex="0")


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) and not value.is_integer() else f"{value:g}"


def _pictures(metadata: dict[str, Any]) -> Markup:
    return Markup("".join(el("h4", title) + picture for title, picture in charts(metadata)))


def _text(found: dict[str, Any]) -> str:
    text = str(found.get("text") or "")
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _visualization(item: dict[str, Any]) -> Markup:
    """An output that a component of kfp 1 asked to be shown."""
    matrix, points, sheet = item.get("confusion_matrix"), item.get("roc"), item.get("table")
    if matrix:
        specs = [{"displayName": str(label)} for label in matrix["labels"]]
        return _pictures({"confusionMatrix": {"annotationSpecs": specs, "rows": [{"row": r} for r in matrix["rows"]]}})
    if points:
        shown = [{"falsePositiveRate": p["false_positive_rate"], "recall": p["recall"]} for p in points]
        return _pictures({"confidenceMetrics": shown})
    if sheet:
        return table(sheet.get("columns") or [], sheet.get("rows") or [])
    if item.get("type") == "markdown" and isinstance(item.get("text"), str):
        return markdown.render(_text(item))
    if isinstance(item.get("text"), str):
        return el("pre", _text(item), class_="value")
    return el("p", _("It lies at {source}.", source=str(item.get("source", ""))), class_="dim")

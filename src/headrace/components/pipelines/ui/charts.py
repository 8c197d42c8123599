"""Metrics of classification as pictures: the confusion matrix and the ROC curve, from an artifact's metadata."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from headrace.machinery.html import Markup, el
from headrace.machinery.words import _

MAX_CLASSES = 20
MAX_POINTS = 2000
SPECIAL = frozenset({"confusionMatrix", "confidenceMetrics"})
"""Keys of metadata that are pictures, not values."""


def charts(metadata: dict[str, Any]) -> list[tuple[str, Markup]]:
    """Titles and pictures of what the metadata holds; nothing of what does not have its shape."""
    found: list[tuple[str, Markup]] = []
    matrix = confusion(metadata.get("confusionMatrix"))
    if matrix:
        found.append((_("Confusion matrix"), matrix))
    curve = roc(metadata.get("confidenceMetrics"))
    if curve:
        found.append((_("ROC curve"), curve))
    return found


def confusion(value: Any) -> Markup:
    """Rows are what is true, columns what was predicted."""
    value = _unwrap(value)
    if not isinstance(value, dict):
        return Markup()
    names = [_name(spec) for spec in value.get("annotationSpecs") or []]
    rows = [_numbers(row.get("row") if isinstance(row, dict) else row) for row in value.get("rows") or []]
    if not names or len(names) > MAX_CLASSES or len(rows) != len(names) or any(len(r) != len(names) for r in rows):
        return Markup()
    count = len(names)
    left, top, width = 58, 34, 300
    cell = (width - left) / count
    largest = max((max(row) for row in rows), default=0.0) or 1.0
    parts = [el("text", _("predicted"), x=left, y="12"), el("text", _("true"), x="0", y=top + 12)]
    for index, name in enumerate(names):
        middle = (index + 0.5) * cell
        parts.append(el("text", name[:8], x=f"{left + middle:.1f}", y=top - 6, text_anchor="middle"))
        parts.append(el("text", name[:8], x=left - 6, y=f"{top + middle + 4:.1f}", text_anchor="end"))
    for i, row in enumerate(rows):
        for j, number in enumerate(row):
            x, y = left + j * cell, top + i * cell
            size = f"{cell - 1.5:.1f}"
            share = number / largest
            place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": size, "height": size, "rx": 2}
            parts.append(el("rect", class_="cellbg", **place))
            if share:
                hint = el("title", _("{true} taken for {said}: {n}", true=names[i], said=names[j], n=f"{number:g}"))
                parts.append(
                    Markup(
                        f"<g>{hint}{el('rect', class_='cell', fill_opacity=f'{0.14 + 0.86 * share:.2f}', **place)}</g>"
                    )
                )
            tone = "cellval on" if share > 0.55 else "cellval" if share else "cellval zero"
            parts.append(el("text", f"{number:g}", x=f"{x + cell / 2 - 0.7:.1f}", y=f"{y + cell / 2:.1f}", class_=tone))
    height = top + count * cell + 2
    told = _("Confusion matrix of {n} classes", n=count)
    return el("svg", parts, class_="chart", viewBox=f"0 0 {width} {height:.0f}", role="img", aria_label=told)


def roc(value: Any) -> Markup:
    """The curve, and the area below it by trapezoids."""
    value = _unwrap(value)
    if isinstance(value, dict):
        value = value.get("confidenceMetrics")
    if not isinstance(value, list) or len(value) < 2:
        return Markup()
    points = sorted(
        (float(p.get("falsePositiveRate", 0)), float(p.get("recall", 0)))
        for p in value[:MAX_POINTS]
        if isinstance(p, dict) and all(isinstance(p.get(k, 0), int | float) for k in ("falsePositiveRate", "recall"))
    )
    if len(points) < 2:
        return Markup()
    closed = [(0.0, 0.0), *points, (1.0, 1.0)]
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(closed))
    left, top, side = 34, 8, 240

    def place(x: float, y: float) -> str:
        return f"{left + x * side:.1f},{top + (1 - y) * side:.1f}"

    lines = [
        el("line", x1=left + f * side, x2=left + f * side, y1=top, y2=top + side, class_="gridline")
        for f in (0, 0.5, 1)
    ] + [
        el("line", x1=left, x2=left + side, y1=top + f * side, y2=top + f * side, class_="gridline")
        for f in (0, 0.5, 1)
    ]
    words = [
        el("text", "0", x=left, y=top + side + 16),
        el("text", "1", x=left + side, y=top + side + 16, text_anchor="end"),
        el("text", _("false positive rate"), x=left + side / 2, y=top + side + 16, text_anchor="middle"),
        el("text", _("recall"), x=left + 6, y=top + 14),
        el("text", "1", x=left - 6, y=top + 10, text_anchor="end"),
        el("text", _("area {n}", n=f"{area:.4f}"), x=left + side - 8, y=top + side - 10, text_anchor="end"),
    ]
    chance = el("polyline", points=f"{place(0, 0)} {place(1, 1)}", class_="chance", fill="none")
    curve = el("polyline", points=" ".join(place(x, y) for x, y in closed), class_="curve")
    told = _("ROC curve, area {n}", n=f"{area:.4f}")
    return el("svg", lines, chance, curve, words, class_="chart", viewBox="0 0 290 270", role="img", aria_label=told)


def _unwrap(value: Any) -> Any:
    """Older clients wrap structures under `struct`."""
    if isinstance(value, dict) and set(value) == {"struct"}:
        return value["struct"]
    return value


def _name(spec: Any) -> str:
    return str(spec.get("displayName", "")) if isinstance(spec, dict) else str(spec)


def _numbers(row: Any) -> list[float]:
    if not isinstance(row, list) or not all(isinstance(n, int | float) for n in row):
        return []
    return [float(n) for n in row]

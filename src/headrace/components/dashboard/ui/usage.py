"""The machine's use over the last hour as small charts; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.machinery import look
from headrace.machinery.html import Markup, el
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Sequence

HOUR = 3600.0
WIDTH, HEIGHT = 240.0, 30.0
GAP_SECONDS = 120.0
"""Between samples that are further apart there is no line: the platform was down."""


def chart(name: str, points: Sequence[tuple[float, float]], now: float, *, alarm: bool) -> Markup:
    """Shares (0 to 1) at moments (seconds since the epoch), the oldest first; the last one is how it is now."""
    share = points[-1][1] if points else 0.0
    highest = max((value for _at, value in points), default=0.0)
    kind = look.BAD if alarm and share > 0.95 else look.WARN if alarm and share > 0.85 else "accent"
    said = _(
        "{name} over the last hour: now {now} percent, at most {most}",
        name=name,
        now=round(share * 100),
        most=round(highest * 100),
    )
    parts = [part for run in _runs(points) for part in _drawn(run, now)]
    return el(
        "svg",
        el("title", said),
        el("line", x1=0, x2=f"{WIDTH:g}", y1=f"{HEIGHT - 0.5:g}", y2=f"{HEIGHT - 0.5:g}", class_="floor"),
        parts,
        class_=f"hour {kind}",
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=said,
    )


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The points, cut where something is missing."""
    runs: list[list[tuple[float, float]]] = []
    for at, value in points:
        if runs and at - runs[-1][-1][0] <= GAP_SECONDS:
            runs[-1].append((at, value))
        else:
            runs.append([(at, value)])
    return runs


def _drawn(run: list[tuple[float, float]], now: float) -> tuple[Markup, Markup]:
    placed = [
        (max(0.0, WIDTH * (1 - (now - at) / HOUR)), HEIGHT - 1 - min(max(value, 0.0), 1.0) * (HEIGHT - 3))
        for at, value in run
    ]
    if len(placed) == 1:  # a point alone has no line
        placed = [(max(placed[0][0] - 1, 0.0), placed[0][1]), placed[0]]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    area = f"{placed[0][0]:.1f},{HEIGHT:g} {line} {placed[-1][0]:.1f},{HEIGHT:g}"
    return el("polygon", points=area, class_="area"), el("polyline", points=line, class_="line")

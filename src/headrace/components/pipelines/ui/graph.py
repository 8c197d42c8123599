"""Tasks as boxes with arrows: one drawing for a pipeline that has not run and for a run of it.

Pure: layers by the longest way from a beginning, a wide layer broken into lines, groups (loops, conditions, nested
pipelines) as frames around their own drawing, or as one box while they are folded. Everything is placed by SVG
attributes, because the pages' policy allows no styles in the markup.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.components.pipelines.ui.states import widths
from headrace.machinery.html import Markup, el
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.components.pipelines.types.ir import ComponentSpec, PipelineSpec, TaskSpec

WIDTH, HEIGHT = 190.0, 44.0
GAP_X, GAP_Y = 26.0, 40.0
PAD, TITLE = 14.0, 30.0
LANE = 10.0
"""How far beside boxes an arrow runs."""
PER_LINE = 6
"""A layer with more boxes than this continues on the next line."""
FOLD_ABOVE = 60
"""With more tasks than this, groups begin folded."""
MAX_BOXES = 1500
MAX_DEPTH = 12
LETTERS = 23


@dataclass(slots=True)
class Box:
    """A task, or a group of them. `key` is unique in the drawing, `after` names siblings by their keys."""

    key: str
    label: str
    note: str = ""
    """The second line: the component, or what the group does."""
    kind: str = ""
    """The colour of a state, see `look`."""
    word: str = ""
    """The state in a word, for who does not see the colour."""
    after: Sequence[str] = ()
    children: list[Box] = field(default_factory=list)
    shares: Mapping[str, int] = field(default_factory=dict)
    """How many tasks of a group are of each colour."""

    def count(self) -> int:
        """The tasks within it, itself when it is one."""
        return sum(child.count() for child in self.children) if self.children else 1


@dataclass(frozen=True, slots=True)
class Links:
    """Where boxes lead: to a task, and to the same page with a group folded the other way. "" leads nowhere."""

    task: Callable[[Box], str]
    toggle: Callable[[Box], str]
    shut: Callable[[Box], bool]
    chosen: str = ""


@dataclass(slots=True)
class _Placed:
    width: float
    height: float
    boxes: list[tuple[Box, _Placed | None, float, float]]
    edges: list[tuple[Box, Box]]
    lines: list[_Line]


@dataclass(frozen=True, slots=True)
class _Line:
    """Where a line of boxes lies: an arrow past it goes around."""

    top: float
    bottom: float
    left: float
    right: float


def begins_shut(boxes: Sequence[Box]) -> bool:
    """Whether groups begin folded in a drawing of these."""
    return sum(box.count() for box in boxes) > FOLD_ABOVE


def draw(boxes: Sequence[Box], links: Links, label: str) -> Markup:
    """The picture. What is beyond MAX_BOXES is left out; `drawn` tells."""
    placed = _place(boxes, links, [MAX_BOXES])
    edges: list[Markup] = []
    parts: list[Markup] = []
    _paint(placed, PAD, PAD, links, edges, parts)
    width, height = placed.width + 2 * PAD, placed.height + 2 * PAD
    arrow = el(
        "marker",
        el("path", d="M0 0 7 3.5 0 7z"),
        id="arrow",
        viewBox="0 0 7 7",
        refX="6.5",
        refY="3.5",
        markerWidth="7",
        markerHeight="7",
        orient="auto",
    )
    return el(
        "svg",
        el("defs", arrow),
        edges,
        parts,
        class_="dag",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="group",
        aria_label=label,
    )


def layers(boxes: Sequence[Box]) -> list[list[Box]]:
    """Boxes by the longest way from a beginning; within a layer those that follow the same stand together."""
    known = {box.key: box for box in boxes}
    depth: dict[str, int] = {}
    before = {box.key: [key for key in box.after if key in known and key != box.key] for box in boxes}
    waits = {key: len(set(needs)) for key, needs in before.items()}
    follows: dict[str, list[str]] = {}
    for key, needs in before.items():
        for need in set(needs):
            follows.setdefault(need, []).append(key)
    ready = [box.key for box in boxes if not waits[box.key]]
    while ready:
        key = ready.pop()
        depth[key] = max((depth[need] + 1 for need in before[key]), default=0)
        for later in follows.get(key, ()):
            waits[later] -= 1
            if not waits[later]:
                ready.append(later)
    for box in boxes:  # a circle, which no checked pipeline has
        depth.setdefault(box.key, 0)
    rows: list[list[Box]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for box in boxes:
        rows[depth[box.key]].append(box)
    place: dict[str, float] = {}
    for row in rows:
        order = {box.key: index for index, box in enumerate(row)}
        row.sort(key=lambda box: _middle(box, before, place, order))
        for index, box in enumerate(row):
            place[box.key] = (index + 0.5) / len(row)
    return rows


def _middle(
    box: Box, before: Mapping[str, list[str]], place: Mapping[str, float], order: Mapping[str, int]
) -> tuple[float, int]:
    found = [place[key] for key in before[box.key] if key in place]
    return (sum(found) / len(found) if found else 0.5), order[box.key]


def _place(boxes: Sequence[Box], links: Links, left: list[int]) -> _Placed:
    """`left` holds how many boxes may still be drawn."""
    lines: list[list[tuple[Box, _Placed | None]]] = []
    for row in layers(boxes):
        for start in range(0, len(row), PER_LINE):
            line: list[tuple[Box, _Placed | None]] = []
            for box in row[start : start + PER_LINE]:
                if left[0] <= 0:
                    break
                left[0] -= 1
                inner = _place(box.children, links, left) if box.children and not links.shut(box) else None
                line.append((box, inner))
            if line:
                lines.append(line)
    width = max((sum(_size(i)[0] for _each, i in line) + GAP_X * (len(line) - 1) for line in lines), default=WIDTH)
    placed: list[tuple[Box, _Placed | None, float, float]] = []
    taken: list[_Line] = []
    y = 0.0
    for line in lines:
        used = sum(_size(inner)[0] for _each, inner in line) + GAP_X * (len(line) - 1)
        x = (width - used) / 2
        for box, inner in line:
            placed.append((box, inner, x, y))
            x += _size(inner)[0] + GAP_X
        tall = max(_size(inner)[1] for _each, inner in line)
        taken.append(_Line(y, y + tall, (width - used) / 2, (width + used) / 2))
        y += tall + GAP_Y
    here = {box.key: box for box, *_ in placed}
    edges = [(here[key], box) for box in here.values() for key in box.after if key in here and key != box.key]
    return _Placed(width, max(y - GAP_Y, HEIGHT), placed, edges, taken)


def _size(inner: _Placed | None) -> tuple[float, float]:
    if inner is None:
        return WIDTH, HEIGHT
    return max(inner.width, WIDTH) + 2 * PAD, inner.height + TITLE + PAD


def _paint(placed: _Placed, dx: float, dy: float, links: Links, edges: list[Markup], parts: list[Markup]) -> None:  # noqa: PLR0917
    at: dict[str, tuple[float, float, float, float]] = {}
    for box, inner, x, y in placed.boxes:
        width, height = _size(inner)
        at[box.key] = (dx + x, dy + y, width, height)
        parts.append(_box(box, at[box.key], links, folded=inner is None))
        if inner is not None:
            shift = (width - inner.width) / 2
            _paint(inner, dx + x + shift, dy + y + TITLE, links, edges, parts)
    for a, b in placed.edges:
        x1, y1, w1, h1 = at[a.key]
        x2, y2, w2 = at[b.key][:3]
        sx, sy, tx, ty = x1 + w1 / 2, y1 + h1, x2 + w2 / 2, y2
        past = [line for line in placed.lines if line.top + dy >= sy and line.bottom + dy <= ty]
        path = _path(sx, sy, tx, ty, past, dx, dy)
        parts.append(el("path", d=path, class_="edge", marker_end="url(#arrow)"))


def _path(  # noqa: PLR0917 - two points and what lies between them
    sx: float, sy: float, tx: float, ty: float, past: Sequence[_Line], dx: float, dy: float
) -> str:
    """A curve from one box down to another; around the lines that it passes, on the nearer side."""
    if not past:
        bend = max(abs(ty - sy) / 2, GAP_Y / 2)
        return f"M{sx:.1f} {sy:.1f}C{sx:.1f} {sy + bend:.1f} {tx:.1f} {ty - bend:.1f} {tx:.1f} {ty - 1:.1f}"
    left, right = min(line.left for line in past) + dx - LANE, max(line.right for line in past) + dx + LANE
    middle = (sx + tx) / 2
    lane = left if abs(middle - left) < abs(right - middle) else right
    if max(sx, tx) < left:
        lane = max(sx, tx)
    elif min(sx, tx) > right:
        lane = min(sx, tx)
    top, bottom = past[0].top + dy, past[-1].bottom + dy
    half = GAP_Y / 2
    return (
        f"M{sx:.1f} {sy:.1f}C{sx:.1f} {sy + half:.1f} {lane:.1f} {top - half:.1f} {lane:.1f} {top:.1f}"
        f"L{lane:.1f} {bottom:.1f}C{lane:.1f} {bottom + half:.1f} {tx:.1f} {ty - half:.1f} {tx:.1f} {ty - 1:.1f}"
    )


def _box(box: Box, place: tuple[float, float, float, float], links: Links, *, folded: bool) -> Markup:
    x, y, width, height = place
    group = bool(box.children)
    href = links.task(box)
    hint = el("title", ", ".join(part for part in (box.label, box.note, box.word) if part))
    frame = el(
        "rect",
        x=f"{x:.1f}",
        y=f"{y:.1f}",
        width=f"{width:.1f}",
        height=f"{height:.1f}",
        rx="7",
        class_=("frame" if group and not folded else "node") + (" sel" if box.key == links.chosen else ""),
    )
    parts: list[Markup] = [hint, frame]
    text_x = x + 14
    if box.kind:
        parts.append(
            el("rect", x=f"{x:.1f}", y=f"{y + 8:.1f}", width="4", height="28", rx="2", class_=f"mark {box.kind}")
        )
    room = LETTERS - 3 if group else LETTERS
    title_y = y + (19 if folded or not group else 20)
    parts.append(el("text", _cut(box.label, room), x=f"{text_x:.1f}", y=f"{title_y:.1f}", class_="title"))
    note = box.note if not (group and folded) else f"{box.note} · {box.count()}".removeprefix(" · ")
    if note and (folded or not group):
        parts.append(el("text", _cut(note, LETTERS + 5), x=f"{text_x:.1f}", y=f"{y + 35:.1f}", class_="note"))
    elif note:
        text = el(
            "text", _cut(note, 40), x=f"{x + width - 34:.1f}", y=f"{title_y:.1f}", class_="note", text_anchor="end"
        )
        parts.append(text if width > 2 * WIDTH else Markup())
    if group and folded and box.shares:
        parts.extend(_shares(box.shares, x + 14, y + HEIGHT - 6, WIDTH - 28))
    inner = el("a", parts, href=href, class_="task", data_row=not group) if href else el("g", parts)
    if not group:
        return inner
    words = _("Unfold {name}", name=box.label) if folded else _("Fold {name}", name=box.label)
    sign = "+" if folded else "-"
    knob = el(
        "a",
        el("circle", cx=f"{x + width - 18:.1f}", cy=f"{y + 15:.1f}", r="9"),
        el("text", sign, x=f"{x + width - 18:.1f}", y=f"{y + 19.5:.1f}", text_anchor="middle"),
        href=links.toggle(box),
        class_="knob",
        aria_label=words,
    )
    return Markup(inner + knob)


def _shares(shares: Mapping[str, int], x: float, y: float, width: float) -> list[Markup]:
    parts = []
    for kind, share in widths(shares).items():
        wide = width * share
        parts.append(el("rect", x=f"{x:.1f}", y=f"{y:.1f}", width=f"{wide:.1f}", height="3", class_=f"mark {kind}"))
        x += wide
    return parts


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def boxes_of(spec: PipelineSpec) -> list[Box]:
    """A pipeline's tasks, as its author wrote them."""
    return _tasks(spec, spec.root, "", 0)


def _tasks(spec: PipelineSpec, component: ComponentSpec, prefix: str, depth: int) -> list[Box]:
    if component.dag is None or depth > MAX_DEPTH:
        return []
    found = []
    for name, task in component.dag.tasks.items():
        inner = spec.components.get(task.component_ref.name)
        children = _tasks(spec, inner, f"{prefix}{name}/", depth + 1) if inner is not None else []
        found.append(
            Box(
                key=f"{prefix}{name}",
                label=task.task_info.name or name,
                note=_note(spec, task, inner),
                after=[f"{prefix}{before}" for before in sorted(task.upstream())],
                children=children,
            )
        )
    return found


def _note(spec: PipelineSpec, task: TaskSpec, component: ComponentSpec | None) -> str:
    condition = f"if {task.trigger_policy.condition}" if task.trigger_policy.condition else ""
    if task.parameter_iterator is not None or task.artifact_iterator is not None:
        limit = task.iterator_policy.parallelism_limit
        return _("loop, {n} at a time", n=limit) if limit else _("loop")
    if component is not None and component.dag is not None:
        return condition or "pipeline"
    name = task.component_ref.name.removeprefix("comp-")
    executor = spec.deployment_spec.executors.get(component.executor_label) if component is not None else None
    if executor is not None and executor.importer is not None:
        return _("importer {name}", name=name)
    return condition or name

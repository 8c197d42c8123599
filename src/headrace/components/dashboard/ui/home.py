"""The first page: is everything well, what runs now, what failed and why, what this machine has left."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from headrace.api.core import Node
from headrace.components.dashboard.controller import existing
from headrace.components.dashboard.ui import usage
from headrace.machinery import look
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.pages import Fragment, PageError, both, button
from headrace.machinery.words import _, told

if TYPE_CHECKING:
    from collections.abc import Callable

    import psutil

    from headrace.api.core import Node as NodeObject
    from headrace.components.dashboard.controller import History
    from headrace.machinery.component import Context
    from headrace.machinery.offers import Start
    from headrace.machinery.pages import ComponentFacts, PageRequest, Panel

MEASURE_SECONDS = 5.0
HEALTH_SECONDS = 2.0


class Home:
    """Renders the page from the platform's facts and the components' panels."""

    def __init__(self, context: Context, history: History) -> None:
        self._context, self._history = context, history
        self._process: psutil.Process | None = None

    def follow(self, request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """Whatever its panels follow, and the node."""
        site = self._context.site
        ends = [panel.follow(request, wake) for panel in site.panels]
        return both(site.changes(Node).subscribe(wake), *ends)

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        panels = sorted(self._context.site.panels, key=lambda panel: panel.order)
        wide = [await _panel(panel, request) for panel in panels if not panel.side]
        side = [await _panel(panel, request) for panel in panels if panel.side]
        nodes = list((await self._context.site.cache(Node)).all())
        body = el(
            "div",
            el("h1", _("Home"), class_="sr"),
            await self._health(nodes),
            el(
                "div",
                el("div", wide, await self._start(request), class_="stack"),
                el("div", await self._machine(nodes, request.now.timestamp()), side, class_="stack"),
                class_="cols",
            ),
            class_="wrap",
        )
        return Fragment(_("Home"), body, again=MEASURE_SECONDS)

    async def _health(self, nodes: list[NodeObject]) -> Markup:
        """One row: every component that runs, and the node that runs the pods."""
        components = self._context.site.components
        found = await asyncio.gather(*(_health(facts) for facts in components))
        entries = [(_(facts.title), sentence) for facts, sentence in zip(components, found, strict=True)]
        entries += [(_("Node"), _node(node)) for node in nodes]
        chips = [
            el(
                "li",
                look.dot(look.BAD if sentence else look.OK, _("failing") if sentence else _("ready")),
                title,
                el("span", " ", sentence, class_="dim") if sentence else None,
            )
            for title, sentence in entries
        ]
        return el("ul", chips, class_="health", aria_label=_("Health of the components"))

    async def _machine(self, nodes: list[NodeObject], now: float) -> Markup:
        import psutil  # noqa: PLC0415 - with the first look

        samples = [*self._history.since(usage.HOUR), await self._history.look()]
        memory, cores = psutil.virtual_memory(), psutil.cpu_count() or 1
        disk = psutil.disk_usage(str(existing(self._context.settings.home)))
        if self._process is None:
            self._process = psutil.Process(os.getpid())
        own = self._process.memory_info().rss
        busy = f"{samples[-1].cpu * cores:.1f}"
        used = look.size(memory.total - memory.available)
        rows = [
            (_("CPU"), [(s.at, s.cpu) for s in samples], _("{n} of {all} cores", n=busy, all=cores)),
            (_("Memory"), [(s.at, s.memory) for s in samples], _("{n} of {all}", n=used, all=look.size(memory.total))),
            (_("Disk"), [(s.at, s.disk) for s in samples], _("{n} free", n=look.size(disk.free))),
        ]
        lines = [
            el(
                "div",
                el("span", name),
                usage.chart(name, points, now, alarm=number > 0),
                el("span", words, class_="num dim"),
            )
            for number, (name, points, words) in enumerate(rows)
        ]
        share = _gauge(own / memory.total, full=True)
        lines.append(el("div", el("span", _("Platform")), share, el("span", look.size(own), class_="num dim")))
        gpus = [count for node in nodes if (count := node.status.capacity.get("nvidia.com/gpu"))]
        if gpus:
            words = _("{n} on this machine", n=gpus[0])
            lines.append(el("div", el("span", _("GPU")), el("span"), el("span", words, class_="num dim")))
        return _box(_("This machine"), el("div", lines, class_="use"), note=_("the last hour"))

    async def _start(self, request: PageRequest) -> Markup:
        settings = self._context.settings
        home = settings.home_option
        starts = [start for start in self._context.site.starts if await start.shown(request)]
        rows = [
            el(
                "div",
                el("div", el("b", _(start.title)), el("small", _(start.words))),
                _press(start, f"{start.path}?ns={quote(request.namespace)}"),
            )
            for start in starts
        ]
        lines: list[tuple[str, str, str]] = [
            (
                _("Use kubectl"),
                _("The whole Kubernetes API is there."),
                f"export KUBECONFIG=$(headrace status --kubeconfig{home})",
            ),
            (
                _("Submit a pipeline of your own"),
                _("Any pipeline that the KFP SDK compiles."),
                (
                    f"kfp --endpoint {settings.gateway_url}/pipeline --existing-token $(headrace token{home}) "
                    f"-n {request.namespace} run create -e Default -f pipeline.yaml"
                ),
            ),
        ]
        rows += [
            el("div", el("div", el("b", title), el("small", words)), look.command(line)) for title, words, line in lines
        ]
        return _box(_("Start something"), el("div", rows, class_="start"))


def _press(start: Start, where: str) -> Markup:
    if start.action:
        return button(_(start.press), start.action, kind="primary", to=where)
    return el("div", el("a", _(start.press), href=where, class_="btn"))


async def _panel(panel: Panel, request: PageRequest) -> Markup:
    """A part that cannot be shown leaves its place to the others."""
    try:
        inner = await panel.render(request)
    except PageError as error:
        if error.status == 403:
            return Markup()
        inner = look.empty(told(error.message))
    return _box(_(panel.name), inner) if inner else Markup()


def _box(title: str, inner: Child, note: str = "") -> Markup:
    head = el("div", el("h2", title), el("span", note, class_="dim2") if note else None, class_="ph")
    return el("section", head, inner, class_="panel", aria_label=title)


def _gauge(share: float, *, full: bool) -> Markup:
    kind = look.BAD if full and share > 0.95 else look.WARN if full and share > 0.85 else "accent"
    width = f"{min(max(share, 0.0), 1.0) * 100:.1f}%"
    return el(
        "svg",
        el("rect", class_="track", width="100%", height="6", rx="3"),
        el("rect", width=width, height="6", rx="3"),
        class_=f"gauge {kind}",
        role="img",
        aria_label=_("{n} percent", n=round(share * 100)),
    )


async def _health(facts: ComponentFacts) -> str:
    if facts.health is None:
        return ""
    try:
        async with asyncio.timeout(HEALTH_SECONDS):
            return await facts.health()
    except TimeoutError:
        return _("does not answer")
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs on the page
        return str(error) or type(error).__name__


def _node(node: NodeObject) -> str:
    for condition in node.status.conditions:
        if condition.type == "Ready" and condition.status != "True":
            return told(condition.message) or _("is not ready")
        if condition.type.endswith("Pressure") and condition.status == "True":
            return told(condition.message) or condition.type
    return ""

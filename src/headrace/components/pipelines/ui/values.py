"""What a task got and gave: parameters, artifacts with a preview, where they came from and who used them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.components.pipelines.store.lineage import LinkQuery
from headrace.components.pipelines.store.models import Direction
from headrace.components.pipelines.ui.charts import SPECIAL
from headrace.components.pipelines.ui.previews import API, Previews, shown_first
from headrace.components.pipelines.ui.timeline import short
from headrace.machinery import look, podlook
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.components.pipelines.store.lineage import Lineage, Link
    from headrace.components.pipelines.store.models import Artifact, RunRow, TaskRow, Values
    from headrace.machinery.pages import PageRequest

MAX_VALUE = 4000
MAX_SHOWN = 50
"""So many artifacts of one side are listed; a loop's collected outputs can be thousands."""
MAX_USERS = 6
PARAMETER = "show"
"""The artifact whose preview the address asks for; "none" closes the one that is open by itself."""


class ValuesTab:
    """The tab `values` of the task's panel."""

    def __init__(self, previews: Previews, lineage: Lineage) -> None:
        self._previews, self._lineage = previews, lineage

    async def render(self, request: PageRequest, row: RunRow, task: TaskRow) -> Markup:
        """Inputs, then outputs."""
        sides = [(_("Inputs"), task.inputs, False), (_("Outputs"), task.outputs, True)]
        listed = {id(values): artifacts_of(values, row)[:MAX_SHOWN] for _title, values, _made in sides}
        every = [artifact for found in listed.values() for _key, artifact in found]
        links = await self._links(row.run.namespace, every)
        asked = request.query.get(PARAMETER) or next(
            (a.id for a in every if shown_first(a) and a.task_id == task.id), ""
        )
        parts: list[Markup] = []
        for title, values, made in sides:
            if not count(values):
                continue
            facts: list[tuple[str, Child]] = [(key, value_of(value)) for key, value in values.parameters.items()]
            parts += [el("h3", title, class_="subhead"), podlook.facts(facts) if facts else Markup()]
            for key, artifact in listed[id(values)]:
                opened = artifact.id == asked
                preview = (
                    await self._previews.of(request, artifact, settled=task.state.final or not made) if opened else None
                )
                parts.append(_artifact(request, row, key, artifact, links.get(artifact.id, []), preview))
            more = len(artifacts_of(values, row)) - MAX_SHOWN
            if more > 0:
                parts.append(look.empty(_("{n} more artifacts are not listed here.", n=more)))
        return el("div", parts) if parts else look.empty(_("This task has neither inputs nor outputs (yet)."))

    async def _links(self, namespace: str, artifacts: Sequence[Artifact]) -> dict[str, list[Link]]:
        if not artifacts:
            return {}
        found: dict[str, list[Link]] = {}
        for link in await self._lineage.links(LinkQuery(namespace, artifact_ids=sorted({a.id for a in artifacts}))):
            if link.step:
                found.setdefault(link.artifact_id, []).append(link)
        return found


def count(values: Values) -> int:
    """How many things there are."""
    return len(values.parameters) + len(values.artifacts)


def artifacts_of(values: Values, row: RunRow) -> list[tuple[str, Artifact]]:
    """By the names under which the task knows them."""
    return [
        (key, row.artifacts[ident]) for key, ids in values.artifacts.items() for ident in ids if ident in row.artifacts
    ]


def value_of(value: Any) -> Markup:
    """A parameter, whole within bounds."""
    text = value if isinstance(value, str) else _wire.pretty(value)
    if len(text) > MAX_VALUE:
        text = _("{text}… ({n} characters)", text=text[:MAX_VALUE], n=len(text))
    return el("pre", text)


def _artifact(  # noqa: PLR0917 - the parts of one entry
    request: PageRequest, row: RunRow, key: str, artifact: Artifact, links: Sequence[Link], preview: Markup | None
) -> Markup:
    plain = {k: v for k, v in artifact.metadata.items() if k not in SPECIAL and k != "display_name"}
    opened = preview is not None
    toggle = el(
        "a",
        _("Close") if opened else _("Preview"),
        href=request.link(**{PARAMETER: "none" if opened else artifact.id}),
        class_="btn small",
        aria_expanded="true" if opened else "false",
        aria_label=_("Preview of {name}", name=key),
    )
    download = el(
        "a",
        _("Download"),
        href=f"{API}/{artifact.id}:download",
        class_="btn small",
        data_plain=True,
        download=True,
        aria_label=_("Download {name}", name=key),
    )
    head = el(
        "div",
        el("b", key),
        el("span", artifact.type.removeprefix("system."), class_="chip"),
        el("span", toggle, download, class_="acts push"),
        class_="row",
    )
    return el(
        "div",
        head,
        el("span", artifact.uri, class_="mono"),
        el("span", short(plain), class_="dim") if plain else None,
        _lineage(row, artifact, links),
        preview,
        class_="artifact",
        id=f"artifact-{artifact.id}-{key}",
    )


def _lineage(row: RunRow, artifact: Artifact, links: Sequence[Link]) -> Markup:
    """Which task made it, and which used it, here and in other runs."""
    made = [link for link in links if link.direction is Direction.OUTPUT and link.task_id == artifact.task_id]
    again = [link for link in links if link.direction is Direction.OUTPUT and link.task_id != artifact.task_id]
    used = [link for link in links if link.direction is Direction.INPUT]
    parts: list[Child] = []
    for words, found in ((_("made by"), made), (_("taken again by"), again), (_("used by"), used)):
        distinct = list({link.task_id: link for link in found}.values())
        if not distinct:
            continue
        shown = [_user(row, link) for link in distinct[:MAX_USERS]]
        listed: list[Child] = [part for link in shown for part in (", ", link)][1:]
        rest = len(distinct) - MAX_USERS
        more = ", " + _("{n} more", n=rest) if rest > 0 else None
        parts.append(el("span", el("span", words, class_="dim2"), " ", listed, more))
    return el("div", parts, class_="row lineage") if parts else Markup()


def _user(row: RunRow, link: Link) -> Markup:
    task = next((task for task in row.tasks if task.id == link.task_id), None) if link.run_id == row.run.id else None
    name = task.display_name or task.name if task is not None else link.task_name
    elsewhere = f" ({link.run_name})" if link.run_id != row.run.id else ""
    return el("a", f"{name}{elsewhere}", href=f"/runs/{link.run_id}?task={link.task_id}&tab=values")

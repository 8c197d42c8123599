"""How pods look on every page that shows one: their state in a word, their trouble in a sentence, events and logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.core import Event
from headrace.machinery import look
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.pages import LogSource, authorize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.api.core import ContainerStatus, Pod
    from headrace.api.meta import Object
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest, Site

_PATIENT = frozenset({"", "ContainerCreating", "PodInitializing"})
_EXITS = {
    126: "the command could not be executed",
    127: "the command was not found",
    134: "it aborted",
    137: "it was killed",
    139: "it crashed by a memory fault",
    143: "it was asked to end",
}


def state(pod: Pod) -> tuple[str, str]:
    """Colour and word."""
    status = pod.status
    if pod.metadata.deletion_timestamp is not None:
        return look.WAIT, "Terminating"
    if status.phase == "Succeeded":
        return look.OK, "Completed"
    for each in (*status.init_container_statuses, *status.container_statuses):
        waiting, ended = each.state.waiting, each.state.terminated
        if waiting is not None and waiting.reason not in _PATIENT:
            return look.BAD, waiting.reason
        if ended is not None and ended.exit_code:
            return look.BAD, ended.reason or "Error"
    if status.phase == "Failed":
        return look.BAD, status.reason or "Failed"
    if status.phase == "Running":
        ready = all(each.ready for each in status.container_statuses)
        return (look.OK, "Running") if ready else (look.RUN, "Not ready")
    return look.WAIT, "Waiting" if status.phase in {"", "Pending"} else status.phase


def container_state(status: ContainerStatus | None) -> tuple[str, str]:
    """Colour and word for one container."""
    if status is None:
        return look.WAIT, "Waiting"
    waiting, ended = status.state.waiting, status.state.terminated
    if ended is not None:
        return (look.BAD if ended.exit_code else look.OK), ended.reason or ("Error" if ended.exit_code else "Completed")
    if waiting is not None:
        return (look.WAIT if waiting.reason in _PATIENT else look.BAD), waiting.reason or "Waiting"
    return (look.OK, "Running") if status.ready else (look.RUN, "Not ready")


def trouble(pod: Pod) -> str:
    """What is wrong with the pod, as a sentence; empty when nothing is."""
    status = pod.status
    for each in (*status.init_container_statuses, *status.container_statuses):
        waiting, ended, before = each.state.waiting, each.state.terminated, each.last_state.terminated
        if waiting is not None and waiting.reason not in _PATIENT:
            last = f" Before that, {_ended(before.exit_code, before.reason)}." if before is not None else ""
            return f"Container {each.name} waits: {waiting.message or waiting.reason}.{last}".replace("..", ".")
        if ended is not None and ended.exit_code:
            more = f" {ended.message}" if ended.message else ""
            return f"Container {each.name} ended: {_ended(ended.exit_code, ended.reason)}.{more}"
    if status.phase == "Failed":
        return status.message or status.reason
    if status.phase in {"", "Pending"}:
        for condition in status.conditions:
            if condition.type == "PodScheduled" and condition.status != "True":
                return condition.message
    return ""


def _ended(code: int, reason: str) -> str:
    if reason == "OOMKilled":
        return "it used more memory than its limit and was killed"
    words = _EXITS.get(code)
    return f"{words} (exit code {code})" if words else f"it failed with exit code {code}"


def exit_words(code: int) -> str:
    """What an exit code means, where there is no pod any more to tell more."""
    return f"Its container ended: {_ended(code, '')}."


def facts(rows: Iterable[tuple[str, Child]]) -> Markup:
    """A list of names and values; a row without a value is left out."""
    parts = [(el("dt", name), el("dd", value)) for name, value in rows if value not in (None, "", False)]
    return el("dl", parts, class_="kv")


def search(request: PageRequest, words: str, *, keep: tuple[str, ...]) -> Markup:
    """A filter by text that stands in the URL."""
    hidden = [el("input", type="hidden", name=k, value=request.query[k]) for k in keep if request.query.get(k)]
    value = request.query.get("q", "")
    field = el("input", type="search", name="q", value=value, placeholder=words, aria_label=words, data_find=True)
    return el(
        "form", hidden, field, el("kbd", "/"), class_="search push", method="get", action=request.path, role="search"
    )


async def events(site: Site, about: Object) -> list[Event]:
    """What happened to a pod, or to another object, newest last."""
    cache = await site.cache(Event)
    uid = about.metadata.uid
    found = [e for e in cache.all(about.metadata.namespace) if e.involved_object.uid == uid]
    return sorted(found, key=when)


def event_table(found: list[Event], about: Callable[[Event], Child] | None = None) -> Markup:
    """Events as a table, with what each is about where `about` says it."""
    if not found:
        return look.empty("No events. They are kept for an hour.")
    rows = [
        el(
            "tr",
            el("td", look.moment(e.last_timestamp or e.event_time or e.metadata.creation_timestamp, date=False)),
            el("td", look.pill(look.WARN, e.reason) if e.type == "Warning" else el("span", e.reason, class_="dim")),
            el("td", about(e)) if about is not None else None,
            el(
                "td",
                e.message,
                el("span", f" ({e.count} times)", class_="dim2") if e.count > 1 else None,
                class_="wrap-any",
            ),
        )
        for e in found
    ]
    about_head = el("th", "Object") if about is not None else None
    head = el("tr", el("th", "Time"), el("th", "Reason"), about_head, el("th", "Message"))
    return el("table", el("thead", head), el("tbody", rows), class_="events")


def when(event: Event) -> float:
    """The moment of an event, for sorting."""
    moment = event.last_timestamp or event.event_time or event.metadata.creation_timestamp
    return moment.timestamp() if moment is not None else 0.0


async def log_panel(
    context: Context, request: PageRequest, pod: Pod, container: str, extra: Child = None
) -> tuple[Markup, LogSource]:
    """Where the browser writes the log of a pod's container, and what it follows."""
    source = LogSource(pod.metadata.namespace, pod.metadata.name, container, pod.metadata.uid)
    return await log_of(context, request, source, extra), source


async def log_of(context: Context, request: PageRequest, source: LogSource, extra: Child = None) -> Markup:
    """The panel of a log. Raises PageError unless the user may read it."""
    await authorize(context.client, request, "get", "pods", subresource="log", namespace=source.namespace)
    bar = el(
        "div",
        extra,
        el("input", type="search", placeholder="Search the log", aria_label="Search the log", data_log_search=True),
        el("span", class_="dim2 num", data_log_count=True),
        el("button", "Follow", class_="btn small", type="button", data_log_follow=True, aria_pressed="true"),
        class_="toolbar",
    )
    lines = el(
        "div",
        class_="log",
        id=f"log-{source.uid}-{source.container}",
        data_keep=True,
        data_log=True,
        tabindex="0",
        role="log",
        aria_label=f"Log of {source.pod}",
    )
    return el("div", bar, lines, class_="logbox")

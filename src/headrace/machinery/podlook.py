"""How pods look on every page that shows one: their state in a word, their trouble in a sentence, events and logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.core import Event
from headrace.machinery import look
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.pages import LogSource, authorize
from headrace.machinery.words import _, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.api.core import ContainerStatus, Pod
    from headrace.api.meta import Object
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest, Site

_PATIENT = frozenset({"", "ContainerCreating", "PodInitializing"})


def _exits() -> dict[int, str]:
    return {
        126: _("the command could not be executed"),
        127: _("the command was not found"),
        134: _("it aborted"),
        137: _("it was killed"),
        139: _("it crashed by a memory fault"),
        143: _("it was asked to end"),
    }


def _reason(word: str) -> str:
    """A reason of a container's end in a word; those that are names stay as the API has them."""
    return {"Error": _("Error"), "Completed": _("Completed"), "Failed": _("Failed")}.get(word, word)


def state(pod: Pod) -> tuple[str, str]:
    """Colour and word."""
    status = pod.status
    if pod.metadata.deletion_timestamp is not None:
        return look.WAIT, _("Terminating")
    if status.phase == "Succeeded":
        return look.OK, _("Completed")
    for each in (*status.init_container_statuses, *status.container_statuses):
        waiting, ended = each.state.waiting, each.state.terminated
        if waiting is not None and waiting.reason not in _PATIENT:
            return look.BAD, waiting.reason
        if ended is not None and ended.exit_code:
            return look.BAD, _reason(ended.reason or "Error")
    if status.phase == "Failed":
        return look.BAD, _reason(status.reason or "Failed")
    if status.phase == "Running":
        ready = all(each.ready for each in status.container_statuses)
        return (look.OK, _("Running")) if ready else (look.RUN, _("Not ready"))
    return look.WAIT, _("Waiting") if status.phase in {"", "Pending"} else status.phase


def container_state(status: ContainerStatus | None) -> tuple[str, str]:
    """Colour and word for one container."""
    if status is None:
        return look.WAIT, _("Waiting")
    waiting, ended = status.state.waiting, status.state.terminated
    if ended is not None:
        usual = "Error" if ended.exit_code else "Completed"
        return (look.BAD if ended.exit_code else look.OK), _reason(ended.reason or usual)
    if waiting is not None:
        return (look.WAIT if waiting.reason in _PATIENT else look.BAD), waiting.reason or _("Waiting")
    return (look.OK, _("Running")) if status.ready else (look.RUN, _("Not ready"))


def trouble(pod: Pod) -> str:
    """What is wrong with the pod, as a sentence; empty when nothing is."""
    status = pod.status
    for each in (*status.init_container_statuses, *status.container_statuses):
        waiting, ended, before = each.state.waiting, each.state.terminated, each.last_state.terminated
        if waiting is not None and waiting.reason not in _PATIENT:
            said = _("Container {name} waits: {why}.", name=each.name, why=told(waiting.message or waiting.reason))
            if before is not None:
                said += " " + _("Before that, {how}.", how=_ended(before.exit_code, before.reason))
            return said.replace("..", ".").replace("。。", "。")
        if ended is not None and ended.exit_code:
            more = f" {told(ended.message)}" if ended.message else ""
            return _("Container {name} ended: {how}.", name=each.name, how=_ended(ended.exit_code, ended.reason)) + more
    waits = next(
        (
            each.state.waiting.message
            for each in (*status.init_container_statuses, *status.container_statuses)
            if each.state.waiting is not None and each.state.waiting.message
        ),
        "",
    )
    if waits:
        words = told(waits)
        return f"{words[:1].upper()}{words[1:]}."
    if status.phase == "Failed":
        return told(status.message or status.reason)
    if status.phase in {"", "Pending"}:
        for condition in status.conditions:
            if condition.type == "PodScheduled" and condition.status != "True":
                return told(condition.message)
    return ""


def _ended(code: int, reason: str) -> str:
    if reason == "OOMKilled":
        return _("it used more memory than its limit and was killed")
    words = _exits().get(code)
    if words:
        return _("{how} (exit code {code})", how=words, code=code)
    return _("it failed with exit code {code}", code=code)


def exit_words(code: int) -> str:
    """What an exit code means, where there is no pod any more to tell more."""
    return _("Its container ended: {how}.", how=_ended(code, ""))


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
        return look.empty(_("No events. They are kept for an hour."))
    rows = [
        el(
            "tr",
            el("td", look.moment(e.last_timestamp or e.event_time or e.metadata.creation_timestamp, date=False)),
            el("td", look.pill(look.WARN, e.reason) if e.type == "Warning" else el("span", e.reason, class_="dim")),
            el("td", about(e)) if about is not None else None,
            el(
                "td",
                told(e.message),
                el("span", " ", _("({n} times)", n=e.count), class_="dim2") if e.count > 1 else None,
                class_="wrap-any",
            ),
        )
        for e in found
    ]
    about_head = el("th", _("Object")) if about is not None else None
    head = el("tr", el("th", _("Time")), el("th", _("Reason")), about_head, el("th", _("Message")))
    return el("table", el("thead", head), el("tbody", rows), class_="events folded")


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
    words = _("Search the log")
    bar = el(
        "div",
        extra,
        el("input", type="search", placeholder=words, aria_label=words, data_log_search=True),
        el("span", class_="dim2 num", data_log_count=_("Lines: {n}", n="#")),
        el("button", _("Follow"), class_="btn small", type="button", data_log_follow=True, aria_pressed="true"),
        class_="toolbar",
    )
    lines = el(
        "div",
        class_="log",
        id=f"log-{source.uid}-{source.container}",
        data_keep=True,
        data_log=_("The container wrote nothing."),
        tabindex="0",
        role="log",
        aria_label=_("Log of {pod}", pod=source.pod),
    )
    return el("div", bar, lines, class_="logbox")

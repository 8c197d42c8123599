"""Pages of the dashboard as values: a component brings them, the dashboard mounts them.

A page is a function from a request to a fragment, called again whenever what it follows has changed; the dashboard
sends the new fragment to the browser when it differs. Invariants: a page authorizes every time that it is rendered,
for the namespace that it shows; a subscription costs nothing while nobody looks. A page's actions are what its forms
post to: each authorizes by itself, and the gateway has made sure that the person's own page asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

from headrace.api.meta import Object
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.words import _

if TYPE_CHECKING:
    import datetime as dt

    from headrace.api.identity import User
    from headrace.client.base import Client, Registry
    from headrace.machinery.component import Shells
    from headrace.machinery.informer import Informer
    from headrace.machinery.manager import Manager
    from headrace.machinery.offers import Finder, Start

T = TypeVar("T", bound=Object)


class PageError(Exception):
    """The page cannot be shown; the status and a sentence that says why and what to do."""

    def __init__(self, status: int, title: str, message: str) -> None:
        super().__init__(message)
        self.status, self.title, self.message = status, title, message


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Who wants to see what. `url` is path and query, as it stands in the browser."""

    user: User
    path: str
    namespace: str
    """The namespace that the query names, else the user's own."""
    now: dt.datetime
    parameters: Mapping[str, str] = field(default_factory=dict)
    """From the path."""
    query: Mapping[str, str] = field(default_factory=dict)
    every: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """As `query`, with each value of a name that stands there several times."""

    def link(self, **changes: str | None) -> str:
        """The same page with parts of the query changed; None or "" takes a part away."""
        query = {key: value for key, value in {**self.query, **changes}.items() if value}
        return f"{self.path}?{urlencode(query)}" if query else self.path


@dataclass(frozen=True, slots=True)
class LogSource:
    """A container's log that the page shows and follows."""

    namespace: str
    pod: str
    container: str
    uid: str


@dataclass(frozen=True, slots=True)
class Fragment:
    """What stands inside the frame."""

    title: str
    body: Markup
    log: LogSource | None = None
    again: float | None = None
    """Seconds after which to render again although nothing was heard: for measurements, which have no events."""
    fill: bool = False
    """Whether the body fills the window and scrolls in its parts."""
    namespace: str = ""
    """Where what is shown lies, when that is not what the request named."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a form brings, whole in memory: the dashboard refuses what is too large before."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """What a form sends. Fields that were not sent are empty."""

    fields: Mapping[str, tuple[str, ...]]
    files: Mapping[str, Upload] = field(default_factory=dict)
    """By name, the last of each."""
    uploads: tuple[Upload, ...] = ()
    """All files, in the order in which they were chosen."""

    def text(self, name: str) -> str:
        """The field's only or first value."""
        return next(iter(self.fields.get(name, ())), "")

    def all(self, name: str) -> tuple[str, ...]:
        """Every value: of check boxes with one name."""
        return self.fields.get(name, ())


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an action: where to go now (nowhere: the same page, made anew), and what to say."""

    location: str = ""
    message: str = ""


Action = Callable[["PageRequest", Form], Awaitable[Done]]
"""Does what a button says. Raises PageError, in words for the person who pressed it."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page. `follow(request, wake)` calls `wake` on changes until what it returned is called."""

    path: str
    """With parameters in braces: `/runs/{id}`."""
    title: str
    render: Callable[[PageRequest], Awaitable[Fragment]]
    follow: Callable[[PageRequest, Callable[[], None]], Callable[[], None]]
    section: str = ""
    """Where the navigation lists it; nowhere when empty."""
    actions: Mapping[str, Action] = field(default_factory=dict)
    """By the value of the form's field `action`."""
    listed: Callable[[User], Awaitable[bool]] | None = None
    """Whether the navigation lists it for this person; for everybody when there is no such function."""
    starts: bool = False
    """Whether somebody begins something here: the search finds it without the navigation listing it."""
    greets: Callable[[User], Awaitable[bool]] | None = None
    """Whether it stands in the place of the first page for this person now."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A part of the first page. Empty markup means that it has nothing to say (or that the user may not see it)."""

    name: str
    render: Callable[[PageRequest], Awaitable[Markup]]
    follow: Callable[[PageRequest, Callable[[], None]], Callable[[], None]]
    side: bool = False
    """In the narrow column."""
    order: int = 0


@dataclass(frozen=True, slots=True)
class ComponentFacts:
    """A component that runs. `health` says "" or what is wrong, in a sentence."""

    name: str
    title: str
    health: Callable[[], Awaitable[str]] | None = None


class Signal:
    """Tells listeners that something changed; a topic narrows it, and "" reaches and hears everything."""

    def __init__(self) -> None:
        self._listeners: dict[int, tuple[str, Callable[[], None]]] = {}
        self._next = 0

    def subscribe(self, wake: Callable[[], None], topic: str = "") -> Callable[[], None]:
        """Call `wake` on changes of the topic; the result ends that."""
        number = self._next = self._next + 1
        self._listeners[number] = (topic, wake)

        def end() -> None:
            self._listeners.pop(number, None)

        return end

    def fire(self, topic: str = "") -> None:
        """Something of this topic changed."""
        for wanted, wake in list(self._listeners.values()):
            if not topic or not wanted or wanted == topic:
                wake()


def both(*ends: Callable[[], None]) -> Callable[[], None]:
    """One callable that ends several subscriptions."""

    def end() -> None:
        for each in ends:
            each()

    return end


async def authorize(
    client: Client,
    request: PageRequest,
    verb: str,
    resource: str,
    *,
    group: str = "",
    subresource: str = "",
    namespace: str | None = None,
) -> None:
    """Raises PageError (403) unless the user may, in the namespace that the request names or in the given one."""
    where = request.namespace if namespace is None else namespace
    allowed = await client.review_access(
        request.user, verb, group=group, resource=resource, subresource=subresource, namespace=where
    )
    if not allowed:
        what = f"{resource}/{subresource}" if subresource else resource
        words = _(
            "{who} may not {verb} {what} in namespace {where}. "
            "Ask an owner of that namespace to add you as a contributor.",
            who=request.user.name,
            verb=verb,
            what=what,
            where=where,
        )
        raise PageError(403, _("Not yours to see"), words)


CACHE_SECONDS = 5.0


@dataclass(slots=True)
class Site:
    """What pages may know of the rest of the platform. `platform` fills it while it builds the components; informers
    begin when the first page asks for them.
    """

    manager: Manager | None = None
    registry: Registry | None = None
    """The API server's core, for what a person does on a page: under the person's name, never another."""
    shells: Shells | None = None
    """Terminals in pods, where a node agent runs."""
    components: list[ComponentFacts] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    finders: list[Finder] = field(default_factory=list)
    _signals: dict[type[Object], Signal] = field(default_factory=dict)

    async def cache(self, kind: type[T]) -> Informer[T]:
        """The filled cache of a kind. Raises PageError while it cannot be filled."""
        informer = self._informer(kind)
        try:
            async with asyncio.timeout(CACHE_SECONDS):
                await informer.synced.wait()
        except TimeoutError as error:
            words = _("The platform has not read its {kind} yet. Reload in a moment.", kind=kind.INFO.plural)
            raise PageError(503, _("Starting"), words) from error
        return informer

    def changes(self, kind: type[Object]) -> Signal:
        """Fires with the namespace of every object of the kind that comes, changes or goes."""
        found = self._signals.get(kind)
        if found is None:
            found = self._signals[kind] = Signal()
            signal = found

            def heard(old: Object | None, new: Object | None) -> None:
                changed = new if new is not None else old
                if changed is not None:
                    signal.fire(changed.metadata.namespace)

            self._informer(kind).on_change(heard)
        return found

    def _informer(self, kind: type[T]) -> Informer[T]:
        if self.manager is None:
            raise PageError(503, "No cluster", "These pages were built without a platform around them.")
        return self.manager.informer(kind)


def button(
    label: Child, action: str, *, kind: str = "", confirm: str = "", to: str = "", title: str = "", **fields: str
) -> Markup:
    """A form that is one button: it posts `action` and the fields to this page, or to the page at `to`.

    `kind` is `primary` or `danger`; with `confirm`, a sentence, the person is asked first.
    """
    hidden = [el("input", type="hidden", name=key, value=value) for key, value in fields.items()]
    pressed = el(
        "button",
        label,
        type="submit",
        name="action",
        value=action,
        class_=f"btn {kind}".strip(),
        title=title or None,
    )
    return el("form", hidden, pressed, method="post", action=to or None, class_="act", data_confirm=confirm or None)

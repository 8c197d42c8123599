"""One ASGI application: `/static/…` (files), `/live` (the stream of a page), `/terminal` and pages by path.

The gateway authenticates and puts the user into the scope; every page authorizes by itself, each time it is rendered.
What pages import is imported when the first request comes, so that a platform that nobody looks at does not pay.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

from headrace.api import _wire
from headrace.api.core import Namespace
from headrace.components.dashboard.api.central import Central
from headrace.machinery.pages import Fragment, Page, PageError, PageRequest, Panel
from headrace.machinery.settings import DEFAULT_NAMESPACE
from headrace.machinery.words import _, of_request, speaking, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.identity import User
    from headrace.components.dashboard.api.static import Static
    from headrace.components.dashboard.api.terminal import Terminals
    from headrace.components.dashboard.controller import History
    from headrace.components.dashboard.ui.home import Home
    from headrace.components.dashboard.ui.images import ImagesPage
    from headrace.components.dashboard.ui.shell import Shell
    from headrace.components.dashboard.ui.workloads import Workloads
    from headrace.machinery.component import Context
    from headrace.machinery.pages import Action, Done, Form

log = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
HTML, NOT_KEPT = b"text/html; charset=utf-8", (b"cache-control", b"no-store")
_SAFE = "/?&=#%:+,;@~!$'()*[]"
_SERVICE_ACCOUNT = "system:serviceaccount:"
LINK_PATHS = frozenset({"/pipeline", "/pipeline/", "/_/pipeline", "/_/pipeline/"})
"""Where upstream's own pages are: what is behind the `#` is read by the browser (`early.js`)."""


class App:
    """See the module."""

    def __init__(self, context: Context, history: History) -> None:
        self._context, self._history = context, history
        self._central = Central(context, history)
        self._routes: list[tuple[re.Pattern[str], Page]] | None = None
        self._parts: tuple[Home, Workloads, Shell, Static, ImagesPage] | None = None
        self._terminals: Terminals | None = None
        follow_home = self._follow(lambda parts: parts[0].follow)
        self.own_pages = (
            Page("/", "Home", self._home, follow_home, section=" "),
            Page(
                "/workloads",
                "Workloads",
                self._workloads,
                self._follow(lambda p: p[1].follow),
                section="System",
                actions={name: self._action(name) for name in ("check", "apply", "delete", "restart", "scale")},
            ),
            Page(
                "/workloads/images",
                "Images and environments",
                self._images,
                self._follow(lambda p: p[4].follow),
                actions={name: self._image_action(name) for name in ("prune", "remove-environment", "remove-image")},
                starts=True,
            ),
        )
        self.own_panels: tuple[Panel, ...] = ()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """ASGI 3, http and websocket."""
        path = scope["path"]
        if scope["type"] == "websocket":
            with speaking(of_request(scope)):
                await self._socket(scope, receive, send)
            return
        with speaking(of_request(scope)):
            await self._speak(scope, receive, send, path)

    async def _speak(self, scope: dict[str, Any], receive: Any, send: Any, path: str) -> None:
        if scope["method"] == "POST":
            await self._act(scope, receive, send)
        elif scope["method"] not in {"GET", "HEAD"}:
            words = f"{path} is not an API: pages are read with GET, their forms posted."
            await self._refuse(send, 405, words, (b"allow", b"GET, HEAD, POST"))
        elif path.startswith("/static/"):
            accepted = b",".join(value for name, value in scope["headers"] if name == b"accept-encoding")
            status, body, headers = self._made[3].get(path.removeprefix("/static/"), accepted)
            await self._answer(send, status, body, headers[0][1], headers[1:])
        elif path.startswith("/api/"):
            query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            status, found = await self._central.answer(scope["state"]["user"], path, query)
            await self._answer(send, status, _wire.encode(found), b"application/json", [NOT_KEPT])
        elif path == "/find":
            await self._find(scope, send)
        elif path == "/live":
            await self._live(scope, receive, send)
        else:
            await self._page(scope, send)

    async def _socket(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        from headrace.components.dashboard.api.terminal import Terminals  # noqa: PLC0415 - with the first terminal

        if scope["path"] != "/terminal":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "Only /terminal takes WebSockets."})
            return
        if self._terminals is None:
            self._terminals = Terminals(self._context.site.shells)
        await self._terminals.serve(scope, receive, send)

    async def _page(self, scope: dict[str, Any], send: Any) -> None:
        if scope["path"] in LINK_PATHS:
            scope = {**scope, "path": "/"}
        request, page = await self.find(scope["state"]["user"], scope["path"], scope["query_string"].decode("latin-1"))
        if page is None and not any(n == b"accept" and b"text/html" in value for n, value in scope["headers"]):
            await self._refuse(send, 404, f"Nothing is served at {scope['path']!r}.")
            return
        status, fragment = await self.render(request, page)
        shell = self._made[2]
        document = await shell.document(request, page, fragment)
        await self._answer(send, status, document.encode(), HTML, [NOT_KEPT])

    async def _act(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """A form of a page: JSON for the page's script, a redirection where there is none."""
        path, query = scope["path"], scope["query_string"].decode("latin-1")
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
        request, page = await self.find(scope["state"]["user"], path, query)
        if page is None and b"text/html" not in accept:
            await self._refuse(send, 404, f"Nothing is served at {path!r}.")
            return
        plain = b"application/json" not in accept
        try:
            done = await _done(request, page, scope, receive)
        except PageError as error:
            if plain:
                shell = self._made[2]
                document = await shell.document(request, page, shell.problem(error))
                await self._answer(send, error.status, document.encode(), HTML, [NOT_KEPT])
                return
            said = _wire.encode({"title": error.title, "error": told(error.message)})
            await self._answer(send, error.status, said, b"application/json", [NOT_KEPT])
            return
        if plain:
            target = done.location or (f"{path}?{query}" if query else path)
            await self._answer(send, 303, b"", b"text/plain", [(b"location", quote(target, safe=_SAFE).encode())])
            return
        body = _wire.encode({"location": done.location, "message": done.message})
        await self._answer(send, 200, body, b"application/json", [NOT_KEPT])

    async def _find(self, scope: dict[str, Any], send: Any) -> None:
        from headrace.components.dashboard.api.find import find  # noqa: PLC0415 - with the first search

        request, _page = await self.find(scope["state"]["user"], "/find", scope["query_string"].decode("latin-1"))
        found = _wire.encode(await find(self._context.site, request))
        await self._answer(send, 200, found, b"application/json", [NOT_KEPT])

    async def _live(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        from headrace.components.dashboard.api.live import Stream  # noqa: PLC0415 - with the first page

        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        split = urlsplit(query.get("url", "/"))
        request, page = await self.find(scope["state"]["user"], split.path, split.query)
        if page is None:
            await self._answer(send, 404, b"There is no such page.", b"text/plain", [])
            return
        stream = Stream(self._context, lambda: self.render(self._now(request), page), query.get("have", ""))
        await stream.run(lambda wake: page.follow(request, wake), receive, send, HEADERS)

    async def find(self, user: User, path: str, query: str) -> tuple[PageRequest, Page | None]:
        """The page of a path, and the request as the page sees it."""
        pairs = parse_qsl(query)
        values = dict(pairs)
        every: dict[str, tuple[str, ...]] = {}
        for key, value in pairs:
            every[key] = (*every.get(key, ()), value)
        if path == "/":
            path = await self._greeting(user)
        namespace = values.get("ns") or await self._home_namespace(user)
        for pattern, page in self._table:
            match = pattern.fullmatch(path)
            if match is not None:
                found = match.groupdict()
                return PageRequest(user, path, namespace, self._context.clock.precise(), found, values, every), page
        return PageRequest(user, path, namespace, self._context.clock.precise(), {}, values, every), None

    async def _greeting(self, user: User) -> str:
        """The path of what stands in the place of the first page, for people who have to do something before."""
        for page in self._context.site.pages:
            try:
                if page.greets is not None and await page.greets(user):
                    return page.path
            except PageError:
                log.info("page %s cannot say yet whether it greets %s", page.path, user.name)
        return "/"

    async def render(self, request: PageRequest, page: Page | None) -> tuple[int, Fragment]:
        """The fragment of a page, or a fragment that says why there is none."""
        shell = self._made[2]
        if page is None:
            words = _("Nothing is at {path}. The navigation lists every page.", path=request.path)
            return 404, shell.problem(PageError(404, _("There is no such page"), words))
        try:
            return 200, await page.render(request)
        except PageError as error:
            return error.status, shell.problem(error)
        except Exception:
            log.exception("page %s failed", page.path)
            words = _("The platform's log says what happened: `headrace logs` shows it.")
            return 500, shell.problem(PageError(500, _("This page could not be made"), words))

    async def _home_namespace(self, user: User) -> str:
        """The namespace that is shown when the address names none: a service account's, or the user's profile."""
        if user.name.startswith(_SERVICE_ACCOUNT):
            return user.name.removeprefix(_SERVICE_ACCOUNT).split(":", 1)[0]
        try:
            namespaces = (await self._context.site.cache(Namespace)).all()
        except PageError:
            return DEFAULT_NAMESPACE
        own = (n.metadata.name for n in namespaces if n.metadata.annotations.get("owner") == user.name)
        return min(own, default=DEFAULT_NAMESPACE)

    def _now(self, request: PageRequest) -> PageRequest:
        return PageRequest(
            request.user,
            request.path,
            request.namespace,
            self._context.clock.precise(),
            request.parameters,
            request.query,
            request.every,
        )

    @property
    def _table(self) -> list[tuple[re.Pattern[str], Page]]:
        if self._routes is None:
            self._routes = [(_pattern(page.path), page) for page in self._context.site.pages]
        return self._routes

    @property
    def _made(self) -> tuple[Home, Workloads, Shell, Static, ImagesPage]:
        if self._parts is None:
            from headrace.components.dashboard.api.static import Static  # noqa: PLC0415
            from headrace.components.dashboard.ui.home import Home  # noqa: PLC0415
            from headrace.components.dashboard.ui.images import ImagesPage  # noqa: PLC0415
            from headrace.components.dashboard.ui.shell import Shell  # noqa: PLC0415
            from headrace.components.dashboard.ui.workloads import Workloads  # noqa: PLC0415

            static = Static()
            self._parts = (
                Home(self._context, self._history),
                Workloads(self._context),
                Shell(self._context, static, self._central),
                static,
                ImagesPage(self._context),
            )
        return self._parts

    async def _home(self, request: PageRequest) -> Fragment:
        return await self._made[0].render(request)

    async def _workloads(self, request: PageRequest) -> Fragment:
        return await self._made[1].render(request)

    async def _images(self, request: PageRequest) -> Fragment:
        return await self._made[4].render(request)

    def _image_action(self, name: str) -> Action:
        async def act(request: PageRequest, form: Form) -> Done:
            return await self._made[4].actions[name](request, form)

        return act

    def _action(self, name: str) -> Action:
        async def act(request: PageRequest, form: Form) -> Done:
            return await self._made[1].objects.actions[name](request, form)

        return act

    def _follow(self, choose: Callable[[Any], Any]) -> Callable[[PageRequest, Callable[[], None]], Callable[[], None]]:
        def follow(request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
            end: Callable[[], None] = choose(self._made)(request, wake)
            return end

        return follow

    async def _refuse(self, send: Any, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        """For programs, in the gateway's words."""
        await self._answer(send, status, _wire.encode({"error": message}), b"application/json", list(headers))

    async def _answer(
        self, send: Any, status: int, body: bytes, kind: bytes, headers: list[tuple[bytes, bytes]]
    ) -> None:
        fields = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *HEADERS, *headers]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})


async def _done(request: PageRequest, page: Page | None, scope: dict[str, Any], receive: Any) -> Done:
    """Do what the form says. Raises PageError."""
    from headrace.components.dashboard.api.forms import read_form  # noqa: PLC0415 - with the first form

    form = await read_form(scope, receive)
    action = page.actions.get(form.text("action")) if page is not None else None
    if action is None:
        raise PageError(404, _("Nothing to do"), _("This page has no such action. Reload it."))
    return await action(request, form)


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", path)
    return re.compile("".join(f"(?P<{p}>[^/]+)" if i % 2 else re.escape(p) for i, p in enumerate(parts)) + "/?")

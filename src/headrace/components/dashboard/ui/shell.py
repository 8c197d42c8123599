"""The frame around every page: the bar at the top, the navigation, what a page that cannot be shown says."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from headrace.api.core import Namespace
from headrace.components.dashboard.api.live import version
from headrace.components.dashboard.api.static import SHEET
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import Fragment, PageError
from headrace.machinery.words import LANGUAGES, _, language, told

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.components.dashboard.api.central import Central
    from headrace.components.dashboard.api.static import Static
    from headrace.machinery.component import Context
    from headrace.machinery.pages import Page, PageRequest

SECTIONS = (" ", "Build", "Train", "Ship", "Data", "System")
HIDDEN_NAMESPACES = frozenset({"kube-public", "kube-node-lease"})
_WAVES = Markup(
    '<svg width="22" height="22" viewBox="0 0 22 22" fill="none" stroke="currentColor" stroke-width="2" '
    'stroke-linecap="round" aria-hidden="true"><path d="M2 7c3-3 6 3 9 0s6 3 9 0M2 13c3-3 6 3 9 0s6 3 9 0"/></svg>'
)


class Shell:
    """Makes whole documents of fragments."""

    def __init__(self, context: Context, static: Static, central: Central) -> None:
        self._context, self._static, self._central = context, static, central

    async def document(self, request: PageRequest, page: Page | None, fragment: Fragment) -> str:
        """The HTML document."""
        url = self._static.url
        head = el(
            "head",
            el("meta", charset="utf-8"),
            el("meta", name="viewport", content="width=device-width, initial-scale=1"),
            el("title", f"{fragment.title} · Headrace"),
            el("link", rel="icon", href=url("icon.svg")),
            el("link", rel="stylesheet", href=url(SHEET)),
            el("script", src=url("early.js")),
            [el("link", rel="modulepreload", href=url(name)) for name in self._static.modules],
            el("script", type="module", src=url("app.js")),
            el("script", type="module", src=url("palette.js")),
        )
        main = el(
            "main",
            fragment.body,
            id="main",
            tabindex="-1",
            class_="main fill" if fragment.fill else "main",
            data_version=version(fragment) if page is not None else None,
        )
        frame = el(
            "div",
            await self._top(request, fragment.namespace or request.namespace),
            await self._nav(request, page),
            main,
            class_="shell",
            id="shell",
        )
        skip = el("a", _("Skip to the page"), href="#main", class_="skip")
        notice = el(
            "div",
            id="notice",
            class_="notice",
            role="status",
            hidden=True,
            data_yes=_("Yes"),
            data_no=_("No"),
            data_lost=_("The connection was lost: the session or the platform has ended. Reload to see which."),
            data_silent=_("The platform does not answer. `headrace status` says whether it runs."),
            data_copy=_("The browser does not allow copying here."),
            data_copied=_("Copied"),
            data_theme=_("The browser does not keep the choice."),
            data_no_terminal=_("The terminal could not be loaded. Reload the page."),
        )
        return f"<!doctype html>{el('html', head, el('body', skip, frame, notice), lang=language())}"

    def problem(self, error: PageError) -> Fragment:
        """A page that cannot be shown."""
        body = el(
            "div",
            el("h1", error.title),
            el("p", told(error.message)),
            el("p", el("a", _("Back to the first page"), href="/")),
            class_="problem",
        )
        return Fragment(error.title, body)

    async def _top(self, request: PageRequest, shown: str) -> Markup:
        options = [
            el("option", name, value=name, selected=name == shown) for name in await self._namespaces(request, shown)
        ]
        picker = el(
            "form",
            el("label", _("Namespace"), for_="ns", class_="dim"),
            el("select", options, id="ns", name="ns", class_="btn", data_go=True),
            el("noscript", el("button", _("Show"), class_="btn", type="submit")),
            method="get",
            action=_top_path(request),
            class_="picker",
        )
        user = request.user.name.removeprefix("system:serviceaccount:").replace(":", "/")
        return el(
            "header",
            el("a", _WAVES, "Headrace", href="/", class_="brand"),
            el(
                "button",
                _("Find"),
                el("kbd", "Ctrl K"),
                type="button",
                class_="btn find",
                data_palette=True,
                data_label=_("Find anything"),
                data_hint=_("A run, a pipeline, a pod, a model, a page, something to do"),
                data_none=_("Nothing is called so here."),
                aria_haspopup="dialog",
                aria_keyshortcuts="Control+K Meta+K",
            ),
            el("span", class_="push"),
            picker,
            el(
                "button",
                _("Theme"),
                class_="btn",
                type="button",
                data_theme_toggle=True,
                title=_("Light or dark (t)"),
            ),
            el(
                "details",
                el("summary", _initials(user), class_="btn", aria_label=_("Account")),
                el(
                    "div",
                    el("b", user),
                    _languages(),
                    el("a", _("Your account"), href="/account"),
                    el("a", _("Log out"), href="/logout", data_plain=True),
                    class_="menu panel",
                ),
                class_="account",
            ),
            class_="top",
        )

    async def _namespaces(self, request: PageRequest, shown: str) -> list[str]:
        """Those whose pods the user may see, and the one that is shown."""
        cache = await self._context.site.cache(Namespace)
        found = {shown}
        for name in (namespace.metadata.name for namespace in cache.all()):
            if name in HIDDEN_NAMESPACES or name in found:
                continue
            if await self._context.client.review_access(request.user, "list", resource="pods", namespace=name):
                found.add(name)
        return sorted(found)

    async def _nav(self, request: PageRequest, page: Page | None) -> Markup:
        user = request.user
        pages = [p for p in self._context.site.pages if p.section and (p.listed is None or await p.listed(user))]
        here = request.path
        query = f"?{urlencode({'ns': request.query['ns']})}" if request.query.get("ns") else ""
        parts: list[Markup] = []
        for section in _sections(p.section for p in pages):
            if section.strip():
                parts.append(el("h3", _(section)))
            for found in pages:
                if found.section != section:
                    continue
                current = found is page or (found.path != "/" and here.startswith(f"{found.path}/"))
                parts.append(el("a", _(found.title), href=found.path + query, aria_current="page" if current else None))
        links = await self._central.menu()
        if links:
            parts.append(el("h3", _("Links")))
            parts += [el("a", words, href=link, data_plain=True, rel="noopener") for words, link in links]
        return el("nav", parts, class_="nav", aria_label=_("Pages"))


def _languages() -> Markup:
    """A line of languages; the choice is kept in a cookie by the page's script."""
    here = language()
    buttons = [
        el(
            "button",
            name,
            type="button",
            class_="btn",
            lang=tag,
            data_language=tag,
            aria_current="true" if tag == here else None,
        )
        for tag, name in LANGUAGES.items()
    ]
    return el("div", buttons, class_="languages", role="group", aria_label=_("Language"))


def _sections(present: Iterable[str]) -> list[str]:
    known = list(dict.fromkeys(present))
    return sorted(known, key=lambda name: (SECTIONS.index(name) if name in SECTIONS else len(SECTIONS), name))


def _top_path(request: PageRequest) -> str:
    """Where another namespace leads: the list that a detail belongs to, since the detail is not there."""
    return f"/{request.path.strip('/').split('/')[0]}"


def _initials(name: str) -> str:
    last = name.rpartition("/")[2]
    return "".join(part[0] for part in last.replace("@", "-").split("-") if part)[:2].upper() or "?"

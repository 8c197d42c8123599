"""`/audit`: who did what, from where, with what outcome. One's own entries, or everybody's for administrators."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headrace.machinery import look, podlook
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import Fragment
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.components.identity.api.accounts import Accounts
    from headrace.machinery.audit import Entry
    from headrace.machinery.pages import PageRequest

SEARCHED, SHOWN = 20_000, 200
PAUSE_SECONDS = 1.0


def calmly(heard: Callable[[Callable[[], None]], Callable[[], None]], wake: Callable[[], None]) -> Callable[[], None]:
    """Pass on what is heard: the first at once, and what follows closely together at the end of the pause."""
    loop = asyncio.get_running_loop()
    pause: asyncio.TimerHandle | None = None
    more = False

    def over() -> None:
        nonlocal pause, more
        pause = None
        if more:
            more = False
            hear()

    def hear() -> None:
        nonlocal pause, more
        if pause is not None:
            more = True
            return
        pause = loop.call_later(PAUSE_SECONDS, over)
        wake()

    unsubscribe = heard(hear)

    def end() -> None:
        unsubscribe()
        if pause is not None:
            pause.cancel()

    return end


class AuditPage:
    """Filters by person, outcome and text, all in the URL."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def follow(self, _request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """New entries; the log is read again at most every PAUSE_SECONDS."""
        return calmly(self._accounts.heard, wake)

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        query, everybody = request.query, await self._accounts.may(request.user, "list")
        who, outcome, text = query.get("user", ""), query.get("outcome", ""), query.get("q", "").lower()
        entries = await self._accounts.audit(request.user, SEARCHED, of=who)
        found = [e for e in entries if outcome in {"", outcome_of(e)} and text in _text(e)]
        chips = [
            el(
                "a",
                words,
                href=request.link(outcome=None if outcome == key else key),
                class_="chip",
                aria_current="true" if outcome == key else None,
            )
            for key, words in (("done", _("Done")), ("refused", _("Refused")))
        ]
        if who and everybody:
            chips.insert(0, el("a", f"{who} ✕", href=request.link(user=None), class_="chip", aria_current="true"))
        count = _("{n} entries", n=len(found))
        head = el(
            "div",
            el("h1", _("Audit log")),
            el("span", count if everybody else f"{count} · {request.user.name}", class_="dim num"),
            el("div", chips, class_="chips"),
            podlook.search(request, _("Find an entry"), keep=("user", "outcome")),
            class_="head row",
        )
        more = (
            el("p", _("The newest {n} are shown: narrow the search.", n=SHOWN), class_="more") if found[SHOWN:] else ""
        )
        listed = table(found[:SHOWN], who=everybody, request=request)
        body = el("section", listed, more, class_="panel fullpanel", aria_label=_("Audit log"))
        return Fragment(_("Audit log"), el("div", head, body, class_="page"), fill=True)


def outcome_of(entry: Entry) -> str:
    """`done` or `refused`."""
    failed = entry.outcome >= 400 or " failed" in entry.action or " not " in entry.action
    return "refused" if failed else "done"


def table(entries: list[Entry], *, who: bool, request: PageRequest | None = None) -> Markup:
    """Entries, the newest first; `who` did it where there are several people."""
    if not entries:
        return look.empty(_("No entries."))
    rows = [_row(entry, who=who, request=request) for entry in entries]
    heads = [el("th", _("Time")), *([el("th", _("Who"))] if who else []), el("th", _("What"))]
    if request is not None:
        heads += [el("th", _("From"), class_="hide-s"), el("th", _("Outcome"))]
    return el("table", el("thead", el("tr", heads)), el("tbody", rows), class_="dense folded")


def _row(entry: Entry, *, who: bool, request: PageRequest | None) -> Markup:
    bad = outcome_of(entry) == "refused"
    what = el(
        "td",
        el("b", entry.action, class_="bad" if bad else None),
        " ",
        el("span", entry.target, class_="mono"),
        el("span", " ", entry.detail, class_="dim2") if entry.detail else None,
        class_="wrap-any",
    )
    cells = [el("td", look.moment(entry.time), class_="dim num nowrap")]
    if who:
        link = el("a", entry.user, href=request.link(user=entry.user)) if request is not None else entry.user
        cells.append(el("td", link if entry.user else _("nobody")))
    cells.append(what)
    if request is not None:
        words = str(entry.outcome) if entry.outcome else (_("refused") if bad else _("done"))
        cells.append(el("td", entry.address, class_="dim mono hide-s"))
        cells.append(el("td", look.pill(look.BAD if bad else look.OK, words)))
    return el("tr", cells)


def _text(entry: Entry) -> str:
    return f"{entry.user} {entry.action} {entry.target} {entry.detail} {entry.address} {entry.outcome}".lower()

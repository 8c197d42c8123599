"""`/account`: where one is logged in, one's tokens, password and trail.

The secret of a new token is shown to the browser that made it and to nobody else who acts as the same person: the
answer leads to an address with a random word, and the secret is kept in memory under that word for a few minutes.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from headrace.api.core import Secret
from headrace.components.identity import render
from headrace.components.identity.api.accounts import MAX_DAYS
from headrace.components.identity.types import NAMESPACE
from headrace.components.identity.ui.audit import calmly
from headrace.components.identity.ui.audit import table as audit_table
from headrace.machinery import fields, look
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.pages import Done, Fragment, PageError, both, button
from headrace.machinery.people import READ, SCOPES
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.components.identity.api.accounts import Accounts
    from headrace.components.identity.render import Facts
    from headrace.machinery.component import Context
    from headrace.machinery.pages import Form, PageRequest

SHOWN_SECONDS = 300.0
DAYS = 90
TRAIL = 12


class AccountPage:
    """See the module."""

    def __init__(self, context: Context, accounts: Accounts) -> None:
        self._context, self._accounts = context, accounts
        self._fresh: dict[tuple[str, str], tuple[float, str, str]] = {}
        """By person and random word: until when (monotonic), the token's name, the secret."""

    def follow(self, _request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """Credentials, and what one did."""
        credentials = self._context.site.changes(Secret).subscribe(wake, NAMESPACE)
        return both(credentials, calmly(self._accounts.heard, wake))

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        user = request.user
        person = await self._accounts.local(user)
        sessions = await self._accounts.own(user, render.SESSION)
        tokens = await self._accounts.own(user, render.TOKEN)
        entries = await self._accounts.audit(user, TRAIL, of=user.name)
        groups = [g for g in user.groups if not g.startswith("system:")]
        head = el(
            "div",
            el("h1", _("Your account")),
            el("span", user.name, class_="dim"),
            [el("span", group, class_="chip") for group in groups],
            class_="row",
        )
        trail = el("a", _("All entries"), href="/audit", class_="more")
        body = el(
            "div",
            head,
            self._secret(request),
            el(
                "div",
                el(
                    "div",
                    _box(_("Tokens for programs"), _tokens(tokens), _token_form(open_=not tokens)),
                    _box(_("Sessions"), _sessions(sessions)),
                    class_="stack",
                ),
                el(
                    "div",
                    _box(_("Password"), _password(local=person is not None)),
                    _box(_("What you did last"), audit_table(entries, who=False), trail),
                    class_="stack",
                ),
                class_="cols",
            ),
            class_="wrap",
        )
        return Fragment(_("Your account"), body)

    def _secret(self, request: PageRequest) -> Markup | None:
        found = self._fresh.get((request.user.name, request.query.get("new", "")))
        if found is None or found[0] < self._context.clock.monotonic():
            return None
        _until, name, secret = found
        return el(
            "section",
            el("b", _("The token {name} is made. Copy it now: it is not shown again.", name=name)),
            look.command(secret),
            el("p", _("Send it as `Authorization: Bearer …`, or give it to kfp as existing_token."), class_="dim"),
            button(_("I have it"), "seen", kind="primary"),
            class_="panel once",
            role="status",
        )

    async def make(self, request: PageRequest, form: Form) -> Done:
        """A new token."""
        name, days = form.text("name").strip(), form.text("days")
        if not days.isdecimal():
            raise PageError(400, _("That was refused"), _("Days: a whole number from 1 to {n}.", n=MAX_DAYS))
        with fields.refusals():
            secret, _scopes = await self._accounts.make_token(
                request.user, name, list(form.all("scope")), int(days[:6])
            )
        now, word = self._context.clock.monotonic(), secrets.token_urlsafe(12)
        self._fresh = {key: kept for key, kept in self._fresh.items() if kept[0] >= now}
        self._fresh[request.user.name, word] = (now + SHOWN_SECONDS, name, secret)
        return Done(f"/account?new={word}")

    async def seen(self, request: PageRequest, _form: Form) -> Done:
        """The secret has been copied."""
        self._fresh.pop((request.user.name, request.query.get("new", "")), None)
        return Done("/account")

    async def end(self, request: PageRequest, form: Form) -> Done:
        """End a session or a token."""
        with fields.refusals():
            await self._accounts.end(request.user, form.text("name"))
        return Done(message=_("It has ended."))

    async def password(self, request: PageRequest, form: Form) -> Done:
        """Another password."""
        if form.text("new") != form.text("again"):
            raise PageError(400, _("That was refused"), _("The two new passwords differ."))
        with fields.refusals():
            await self._accounts.own_password(request.user, form.text("old"), form.text("new"))
        return Done("/account", _("The password is changed. Log in with the new one."))


def _box(title: str, *inner: Child) -> Markup:
    return el("section", el("div", el("h2", title), class_="ph"), inner, class_="panel", aria_label=title)


def _sessions(found: list[tuple[str, Facts]]) -> Markup:
    if not found:
        return look.empty(_("Nobody is logged in with this name: you came with a token."))
    rows = [
        el(
            "tr",
            el("td", facts.detail or _("Browser"), class_="wrap-any"),
            el("td", look.moment(facts.created), class_="dim num nowrap"),
            el("td", look.moment(facts.expires), class_="dim num nowrap hide-s"),
            el("td", button(_("End"), "end", name=name, title=_("Log this browser out")), class_="right"),
            id=f"row-{name}",
        )
        for name, facts in found
    ]
    return _table((_("Where"), _("Since"), _("Until"), ""), rows)


def _tokens(found: list[tuple[str, Facts]]) -> Markup | None:
    if not found:
        return None
    rows = [
        el(
            "tr",
            el("td", el("b", facts.detail), class_="wrap-any"),
            el("td", [el("span", scope, class_="chip") for scope in facts.scopes]),
            el("td", look.moment(facts.expires), class_="dim num nowrap hide-s"),
            el(
                "td",
                button(
                    _("End"),
                    "end",
                    name=name,
                    confirm=_("Programs that use the token {name} are refused from now on.", name=facts.detail),
                ),
                class_="right",
            ),
            id=f"row-{name}",
        )
        for name, facts in found
    ]
    return _table((_("Token"), _("May"), _("Until"), ""), rows)


def _token_form(*, open_: bool) -> Markup:
    form = fields.form(
        "make",
        fields.field(_("Name"), "name", required=True, maxlength=60, hint=_("By which you will know it: ci, laptop …")),
        fields.checks(
            _("It may"), "scope", [(scope, scope, _(words)) for scope, words in SCOPES.items()], chosen=(READ,)
        ),
        fields.field(_("Days"), "days", kind="number", value=str(DAYS), min=1, max=MAX_DAYS, required=True),
        submit=_("Make a token"),
    )
    return el("details", el("summary", _("New token")), form, class_="fold", open=open_)


def _password(*, local: bool) -> Markup:
    if not local:
        return look.empty(_("Your password is kept where you log in, not here."))
    return fields.form(
        "password",
        fields.field(_("Old password"), "old", kind="password", required=True),
        fields.field(_("New password"), "new", kind="password", required=True, minlength=8),
        fields.field(_("New password, again"), "again", kind="password", required=True, minlength=8),
        submit=_("Change the password"),
        confirm=_("Every browser is logged out, this one too. Tokens stay."),
    )


def _table(heads: tuple[str, ...], rows: list[Markup]) -> Markup:
    last = len(heads) - 2
    cells = [el("th", words, class_="hide-s" if i == last else None) for i, words in enumerate(heads)]
    return el("table", el("thead", el("tr", cells)), el("tbody", rows))

"""`/people`: everybody who can log in with a password here; for administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from headrace.components.identity.types import Password
from headrace.machinery import fields, look, podlook
from headrace.machinery.html import Markup, el
from headrace.machinery.offers import Hit
from headrace.machinery.pages import Done, Fragment, PageError, button
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.identity import User
    from headrace.components.identity.api.accounts import Accounts
    from headrace.components.identity.types import Person
    from headrace.machinery.component import Context
    from headrace.machinery.pages import Form, PageRequest


class PeoplePage:
    """Left everybody, right the selected one, or the form for a new one."""

    def __init__(self, context: Context, accounts: Accounts) -> None:
        self._context, self._accounts = context, accounts

    def follow(self, _request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """People."""
        return self._context.site.changes(Password).subscribe(wake)

    async def listed(self, user: User) -> bool:
        """Whether the navigation shows it."""
        return await self._accounts.may(user, "list")

    async def find(self, request: PageRequest, text: str) -> list[Hit]:
        """For the search: people, for who may manage them."""
        if not text or not await self.listed(request.user):
            return []
        people = await self._accounts.people(request.user)
        return [Hit(_("Person"), p.email, f"/people?person={quote(p.email)}", p.username) for p, _editable in people]

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        with fields.refusals():
            people = await self._accounts.people(request.user)
        text, chosen = request.query.get("q", "").lower(), request.query.get("person", "")
        shown = [(p, e) for p, e in people if text in f"{p.email} {p.username} {' '.join(p.groups)}".lower()]
        head = el(
            "div",
            el("h1", _("People")),
            el("span", _("{n} can log in with a password", n=len(people)), class_="dim num"),
            podlook.search(request, _("Find a person"), keep=("person",)),
            el("a", _("Add somebody"), href="/people", class_="btn primary"),
            class_="head row",
        )
        found = next(((p, e) for p, e in people if p.email == chosen), None)
        if found is not None:
            right = _detail(found[0], editable=found[1], self_=found[0].email == request.user.name)
        elif chosen:
            right = look.empty(_("There is nobody {name} (any more).", name=chosen))
        else:
            right = _new()
        left = _table(request, shown, chosen) if shown else look.empty(_("Nobody matches this filter."))
        split = el(
            "div",
            el("section", left, class_="panel", aria_label=_("People")),
            el("section", right, class_="panel", aria_label=_("The selected person")),
            class_="split",
        )
        return Fragment(_("People"), el("div", head, split, class_="page"), fill=True)

    async def add(self, request: PageRequest, form: Form) -> Done:
        """A new person."""
        with fields.refusals():
            person = await self._accounts.add(
                request.user,
                form.text("email"),
                form.text("password"),
                username=form.text("username").strip(),
                groups=_groups(form.text("groups")),
            )
        words = _("{name} can log in now. Tell them the password; they can change it.", name=person.email)
        return Done(f"/people?person={quote(person.email)}", words)

    async def password(self, request: PageRequest, form: Form) -> Done:
        """A new password for somebody."""
        with fields.refusals():
            await self._accounts.change(request.user, _person(request), password=form.text("password"))
        return Done(message=_("The password is changed, and the person's sessions have ended."))

    async def change(self, request: PageRequest, form: Form) -> Done:
        """Another name and other groups."""
        with fields.refusals():
            await self._accounts.change(
                request.user,
                _person(request),
                username=form.text("username").strip(),
                groups=_groups(form.text("groups")),
            )
        return Done(message=_("Saved."))

    async def remove(self, request: PageRequest, _form: Form) -> Done:
        """Nobody from now on."""
        email = _person(request)
        if email == request.user.name:
            words = _("You cannot remove yourself: another administrator can.")
            raise PageError(400, _("That was refused"), words)
        with fields.refusals():
            await self._accounts.remove(request.user, email)
        return Done("/people", _("{name} can no longer log in.", name=email))


def _person(request: PageRequest) -> str:
    return request.query.get("person", "").lower()


def _groups(text: str) -> list[str]:
    return [group for part in text.split(",") if (group := part.strip())]


def _table(request: PageRequest, people: list[tuple[Person, bool]], chosen: str) -> Markup:
    rows = [
        el(
            "tr",
            el("td", el("a", person.email, href=request.link(person=person.email), data_row=True), class_="wrap-any"),
            el("td", person.username, class_="dim hide-s"),
            el("td", [el("span", group, class_="chip") for group in person.groups]),
            class_="sel" if person.email == chosen else None,
            id=f"person-{person.email}",
        )
        for person, _editable in people
    ]
    head = el("tr", el("th", _("Address")), el("th", _("Name"), class_="hide-s"), el("th", _("Groups")))
    return el("table", el("thead", head), el("tbody", rows))


def _new() -> Markup:
    form = fields.form(
        "add",
        fields.field(_("E-mail address"), "email", kind="email", required=True),
        fields.field(_("Password"), "password", kind="password", required=True, minlength=8),
        fields.field(_("Name"), "username"),
        fields.field(_("Groups"), "groups", hint=_("Separated by commas. Roles can be bound to groups.")),
        submit=_("Add"),
    )
    return el("div", el("div", el("h2", _("Add somebody")), class_="dhead"), form, class_="detail")


def _detail(person: Person, *, editable: bool, self_: bool) -> Markup:
    head = el("div", el("h2", person.email), class_="dhead row")
    trail = el("a", _("What this person did"), href=f"/audit?user={quote(person.email)}", class_="more")
    if not editable:
        words = _("This person is in ConfigMap `dex` of namespace `auth`: change it there.")
        return el("div", head, look.empty(words), trail, class_="detail")
    remove = button(
        _("Remove"),
        "remove",
        kind="danger",
        confirm=_("{name} is logged out everywhere and can no longer log in. Profiles stay.", name=person.email),
    )
    return el(
        "div",
        head,
        fields.form(
            "change",
            fields.field(_("Name"), "username", value=person.username),
            fields.field(
                _("Groups"),
                "groups",
                value=", ".join(person.groups),
                hint=_("Separated by commas. Roles can be bound to groups."),
            ),
            submit=_("Save"),
        ),
        el("h3", _("New password"), class_="subhead"),
        fields.form(
            "password",
            fields.field(
                _("New password"),
                "password",
                kind="password",
                required=True,
                minlength=8,
                hint=_("The person's sessions end; tokens stay."),
            ),
            submit=_("Set the password"),
            kind="",
        ),
        el("div", remove, class_="foot") if not self_ else None,
        trail,
        class_="detail",
    )

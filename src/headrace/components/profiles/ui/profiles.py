"""`/profiles`: those that one is in; for administrators all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.rbac import RoleBinding
from headrace.components.profiles.api import SIMPLE
from headrace.components.profiles.types import Profile
from headrace.machinery import look, podlook
from headrace.machinery.html import Markup, el
from headrace.machinery.offers import Hit
from headrace.machinery.pages import Fragment, both
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.components.profiles.api import Bindings
    from headrace.components.profiles.types import Binding
    from headrace.machinery.component import Context
    from headrace.machinery.pages import PageRequest


_WIDE = frozenset({2, 4})
"""Columns that a narrow window leaves out."""


class ProfilesPage:
    """The list."""

    def __init__(self, context: Context, bindings: Bindings) -> None:
        self._context, self._bindings = context, bindings

    def follow(self, _request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """Profiles and who is in them."""
        changes = self._context.site.changes
        return both(changes(Profile).subscribe(wake), changes(RoleBinding).subscribe(wake))

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        admin = await self._bindings.is_admin(request.user)
        people: dict[str, list[Binding]] = {}
        for binding in await self._bindings.seen_by(request.user):
            people.setdefault(binding.referred_namespace, []).append(binding)
        profiles = {p.metadata.name: p for p in (await self._context.site.cache(Profile)).all()}
        names = sorted(set(profiles) if admin else set(profiles) & set(people))
        text = request.query.get("q", "").lower()
        rows = [
            _row(profiles[name], people.get(name, []), request.user.name)
            for name in names
            if text in name or text in owner_of(profiles[name]).lower()
        ]
        head = el(
            "div",
            el("h1", _("Profiles")),
            el("span", _("1 profile") if len(names) == 1 else _("{n} profiles", n=len(names)), class_="dim num"),
            podlook.search(request, _("Find a profile"), keep=("ns",)),
            el("a", _("New profile"), href="/welcome", class_="btn primary"),
            class_="head row",
        )
        heads = (_("Profile"), _("State"), _("Owner"), _("You are"), _("Members"))
        top = [el("th", words, class_="hide-s" if n in _WIDE else None) for n, words in enumerate(heads)]
        table = el("table", el("thead", el("tr", top)), el("tbody", rows))
        if rows:
            inner: Markup = table
        elif names:
            inner = look.empty(_("No profile matches this filter."))
        else:
            inner = look.empty(_("You are in no profile yet: make one, or ask an owner to add you."))
        body = el("section", inner, class_="panel fullpanel", aria_label=_("Profiles"))
        return Fragment(_("Profiles"), el("div", head, body, class_="page"), fill=True)

    async def find(self, request: PageRequest, text: str) -> list[Hit]:
        """For the search: profiles that the person is in."""
        if not text:
            return []
        found = sorted({b.referred_namespace for b in await self._bindings.seen_by(request.user)})
        return [Hit(_("Profile"), name, f"/profiles/{name}") for name in found]


def owner_of(profile: Profile) -> str:
    """Whose it is."""
    return profile.spec.owner.name if profile.spec.owner is not None else ""


def state(profile: Profile) -> tuple[str, str, str]:
    """Colour, word, and what is wrong in a sentence."""
    if profile.metadata.deletion_timestamp is not None:
        return look.WAIT, _("Being removed"), ""
    for condition in profile.status.conditions:
        if condition.type == "Failed":
            return look.BAD, _("Failed"), condition.message
        if condition.type == "Successful":
            return look.OK, _("Ready"), ""
    return look.RUN, _("Being made"), ""


def role_words(role: str) -> str:
    """KFAM's admin, edit and view as people call them."""
    return {"owner": _("owner"), "contributor": _("contributor"), "viewer": _("viewer")}.get(SIMPLE.get(role, ""), role)


def _row(profile: Profile, found: list[Binding], user: str) -> Markup:
    name = profile.metadata.name
    kind, word, why = state(profile)
    mine = [b.role_ref.name for b in found if b.user and b.user.name == user and b.role_ref]
    return el(
        "tr",
        el("td", el("a", name, href=f"/profiles/{name}", data_row=True)),
        el("td", look.pill(kind, word), el("span", why, class_="reason") if why else None),
        el("td", owner_of(profile), class_="dim wrap-any hide-s"),
        el("td", ", ".join(role_words(role) for role in mine) or "-"),
        el("td", len({b.user.name for b in found if b.user}), class_="num dim hide-s"),
        id=f"profile-{profile.metadata.uid}",
    )

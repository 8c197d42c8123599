"""The first login: a person without a namespace makes a profile with one press, and goes on to the first page.

As long as somebody owns and sees no namespace, this page stands where the first page would be.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from headrace.api.core import Namespace
from headrace.components.profiles import policy, render
from headrace.components.profiles.types import Profile
from headrace.components.profiles.ui.profiles import owner_of, state
from headrace.machinery import fields, look
from headrace.machinery.html import el
from headrace.machinery.pages import Done, Fragment, PageError, both
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.identity import User
    from headrace.components.profiles.api import Bindings
    from headrace.machinery.component import Context
    from headrace.machinery.pages import Form, PageRequest

PATIENCE_SECONDS = 15.0
_ACCOUNT = "system:"


class WelcomePage:
    """See the module."""

    def __init__(self, context: Context, bindings: Bindings) -> None:
        self._context, self._bindings = context, bindings

    def follow(self, _request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """Profiles that come, and their namespaces."""
        changes = self._context.site.changes
        return both(changes(Profile).subscribe(wake), changes(Namespace).subscribe(wake))

    async def needed(self, user: User) -> bool:
        """Whether the user is a person who owns and sees no namespace."""
        if user.name.startswith(_ACCOUNT):
            return False
        namespaces = list((await self._context.site.cache(Namespace)).all())
        if any(n.metadata.annotations.get("owner") == user.name for n in namespaces):
            return False
        client = self._context.client
        for namespace in namespaces:
            if await client.review_access(user, "list", resource="pods", namespace=namespace.metadata.name):
                return False
        return True

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        mine = [p for p in (await self._context.site.cache(Profile)).all() if owner_of(p) == request.user.name]
        failed = [why for p in mine if (why := state(p)[2])]
        taken = {n.metadata.name for n in (await self._context.site.cache(Namespace)).all()}
        body = el(
            "div",
            el("h1", _("Welcome, {name}", name=request.user.name.partition("@")[0])),
            el(
                "p",
                _(
                    "A profile is a namespace of your own: your pipelines, notebooks and models run there, with their "
                    "own object-store keys, and you decide who else sees them."
                ),
            ),
            look.why(_("The last one could not be made"), failed[0]) if failed else None,
            el(
                "section",
                fields.form(
                    "make",
                    fields.field(
                        _("Name of your profile"),
                        "name",
                        value=policy.suggest(request.user.name, taken),
                        required=True,
                        maxlength=policy.MAX_NAME,
                        pattern=r"[a-z0-9]([a-z0-9\-]*[a-z0-9])?",  # browsers read it with the flag v
                        hint=_("Lower-case letters, digits and hyphens. It cannot be changed later."),
                    ),
                    submit=_("Make my profile"),
                    to="/welcome",
                ),
                class_="panel",
            ),
            el("p", _("Or ask somebody who has a profile to add you as a contributor."), class_="dim"),
            class_="problem welcome",
        )
        return Fragment(_("Welcome"), body)

    async def make(self, request: PageRequest, form: Form) -> Done:
        """One's own profile; the answer comes when it can be used."""
        name = form.text("name").strip()
        if (await self._context.site.cache(Namespace)).get(name) is not None:
            words = _("There is a namespace {name} already: choose another name.", name=name)
            raise PageError(409, _("That was refused"), words)
        with fields.refusals():
            checked = policy.checked_name(name)
            await self._bindings.create_profile(request.user, render.default_profile(checked, request.user.name))
        wrong = await self._ready(name)
        if wrong:
            raise PageError(409, _("The profile could not be made"), wrong)
        return Done(f"/?ns={name}", _("{name} is yours.", name=name))

    async def _ready(self, name: str) -> str:
        """Waits until the profile and its namespace are there for every page; what is wrong, in a sentence."""
        changed = asyncio.Event()
        changes = self._context.site.changes
        end = both(changes(Profile).subscribe(changed.set), changes(Namespace).subscribe(changed.set))
        profiles, namespaces = await self._context.site.cache(Profile), await self._context.site.cache(Namespace)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while True:
                        changed.clear()
                        profile = profiles.get(name)
                        if profile is not None and profile.status.conditions:
                            wrong = state(profile)[2]
                            if wrong or namespaces.get(name) is not None:
                                return wrong
                        await changed.wait()
        finally:
            end()
        return _("It is still being made. Reload in a moment.")

"""Profiles' pages: the list, one profile, the first login, and quotas on the first page.

What they need is imported when the first of them is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.machinery.pages import Page, Panel

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.identity import User
    from headrace.components.profiles.ui.profile import ProfilePage
    from headrace.components.profiles.ui.profiles import ProfilesPage
    from headrace.components.profiles.ui.welcome import WelcomePage
    from headrace.machinery.component import Context
    from headrace.machinery.html import Markup
    from headrace.machinery.offers import Finder, Hit
    from headrace.machinery.pages import Action, Done, Form, Fragment, PageRequest


def pages_of(context: Context) -> tuple[tuple[Page, ...], tuple[Panel, ...], Finder]:
    """The pages, the panel and what the search finds."""
    views = _Views(context)

    def action(number: int, name: str) -> Action:
        return lambda request, form: views.act(number, name, request, form)

    async def needed(user: User) -> bool:
        return await views.made[2].needed(user)

    async def quota(request: PageRequest) -> Markup:
        return await views.made[1].panel(request)

    async def find(request: PageRequest, text: str) -> list[Hit]:
        return await views.made[0].find(request, text)

    pages = (
        Page(
            "/profiles",
            "Profiles",
            lambda request: views.render(0, request),
            lambda request, wake: views.follow(0, request, wake),
            section="System",
        ),
        Page(
            "/profiles/{profile}",
            "Profile",
            lambda request: views.render(1, request),
            lambda request, wake: views.follow(1, request, wake),
            actions={name: action(1, name) for name in ("add", "remove", "quota", "delete")},
        ),
        Page(
            "/welcome",
            "New profile",
            lambda request: views.render(2, request),
            lambda request, wake: views.follow(2, request, wake),
            actions={"make": action(2, "make")},
            starts=True,
            greets=needed,
        ),
    )
    follow = views.follow
    panel = Panel("Quota", quota, lambda request, wake: follow(1, request, wake), side=True, order=-1)
    return pages, (panel,), find


class _Views:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._pages: tuple[ProfilesPage, ProfilePage, WelcomePage] | None = None

    async def render(self, number: int, request: PageRequest) -> Fragment:
        return await self.made[number].render(request)

    def follow(self, number: int, request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        return self.made[number].follow(request, wake)

    async def act(self, number: int, name: str, request: PageRequest, form: Form) -> Done:
        action: Action = getattr(self.made[number], name)
        return await action(request, form)

    @property
    def made(self) -> tuple[ProfilesPage, ProfilePage, WelcomePage]:
        if self._pages is None:
            from headrace.components.profiles.api import Bindings  # noqa: PLC0415
            from headrace.components.profiles.ui.profile import ProfilePage  # noqa: PLC0415
            from headrace.components.profiles.ui.profiles import ProfilesPage  # noqa: PLC0415
            from headrace.components.profiles.ui.welcome import WelcomePage  # noqa: PLC0415

            bindings = Bindings(self._context.client)
            self._pages = (
                ProfilesPage(self._context, bindings),
                ProfilePage(self._context, bindings),
                WelcomePage(self._context, bindings),
            )
        return self._pages

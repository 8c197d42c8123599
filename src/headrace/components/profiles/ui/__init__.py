"""Profiles' pages: the list, one profile, the first login, and quotas on the first page.

What they need is imported when the first of them is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.machinery.late import Late
from headrace.machinery.pages import Page, Panel

if TYPE_CHECKING:
    from headrace.machinery.component import Context
    from headrace.machinery.offers import Finder


def pages_of(context: Context) -> tuple[tuple[Page, ...], tuple[Panel, ...], Finder]:
    """The pages, the panel and what the search finds."""

    def make() -> dict[str, Any]:
        from headrace.components.profiles.api import Bindings  # noqa: PLC0415
        from headrace.components.profiles.ui.profile import ProfilePage  # noqa: PLC0415
        from headrace.components.profiles.ui.profiles import ProfilesPage  # noqa: PLC0415
        from headrace.components.profiles.ui.welcome import WelcomePage  # noqa: PLC0415

        bindings = Bindings(context.client)
        return {
            "profiles": ProfilesPage(context, bindings),
            "profile": ProfilePage(context, bindings),
            "welcome": WelcomePage(context, bindings),
        }

    views = Late(make)
    pages = (
        Page("/profiles", "Profiles", views.call("profiles"), views.follow("profiles"), section="System"),
        Page(
            "/profiles/{profile}",
            "Profile",
            views.call("profile"),
            views.follow("profile"),
            actions=views.calls("profile", "add", "remove", "quota", "delete"),
        ),
        Page(
            "/welcome",
            "New profile",
            views.call("welcome"),
            views.follow("welcome"),
            actions=views.calls("welcome", "make"),
            starts=True,
            greets=views.call("welcome", "needed"),
        ),
    )
    panel = Panel("Quota", views.call("profile", "panel"), views.follow("profile"), side=True, order=-1)
    return pages, (panel,), views.call("profiles", "find")

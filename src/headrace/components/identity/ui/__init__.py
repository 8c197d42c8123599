"""Identity's pages: of the login (`pages`), and of accounts, people and the audit log in the dashboard.

What the latter need is imported when the first of them is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.machinery.late import Late
from headrace.machinery.pages import Page

if TYPE_CHECKING:
    from headrace.components.identity.api.accounts import Accounts
    from headrace.machinery.component import Context
    from headrace.machinery.offers import Finder


def pages_of(context: Context, accounts: Accounts) -> tuple[tuple[Page, ...], Finder]:
    """The pages inside the dashboard, and what the search finds."""

    def make() -> dict[str, Any]:
        from headrace.components.identity.ui.account import AccountPage  # noqa: PLC0415
        from headrace.components.identity.ui.audit import AuditPage  # noqa: PLC0415
        from headrace.components.identity.ui.people import PeoplePage  # noqa: PLC0415

        return {
            "account": AccountPage(context, accounts),
            "people": PeoplePage(context, accounts),
            "audit": AuditPage(accounts),
        }

    views = Late(make)
    pages = (
        Page(
            "/people",
            "People",
            views.call("people"),
            views.follow("people"),
            section="System",
            actions=views.calls("people", "add", "password", "change", "remove"),
            listed=views.call("people", "listed"),
        ),
        Page("/audit", "Audit log", views.call("audit"), views.follow("audit"), section="System"),
        Page(
            "/account",
            "Your account",
            views.call("account"),
            views.follow("account"),
            actions=views.calls("account", "make", "seen", "end", "password"),
            starts=True,
        ),
    )
    return pages, views.call("people", "find")

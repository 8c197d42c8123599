"""Identity's pages: of the login (`pages`), and of accounts, people and the audit log in the dashboard.

What the latter need is imported when the first of them is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.machinery.pages import Page

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.identity import User
    from headrace.components.identity.api.accounts import Accounts
    from headrace.components.identity.ui.account import AccountPage
    from headrace.components.identity.ui.audit import AuditPage
    from headrace.components.identity.ui.people import PeoplePage
    from headrace.machinery.component import Context
    from headrace.machinery.offers import Finder, Hit
    from headrace.machinery.pages import Action, Done, Form, Fragment, PageRequest


def pages_of(context: Context, accounts: Accounts) -> tuple[tuple[Page, ...], Finder]:
    """The pages inside the dashboard, and what the search finds."""
    views = _Views(context, accounts)

    def account(name: str) -> Action:
        return lambda request, form: views.act(0, name, request, form)

    def people(name: str) -> Action:
        return lambda request, form: views.act(1, name, request, form)

    async def listed(user: User) -> bool:
        return await views.made[1].listed(user)

    async def find(request: PageRequest, text: str) -> list[Hit]:
        return await views.made[1].find(request, text)

    pages = (
        Page(
            "/people",
            "People",
            lambda request: views.render(1, request),
            lambda request, wake: views.follow(1, request, wake),
            section="System",
            actions={name: people(name) for name in ("add", "password", "change", "remove")},
            listed=listed,
        ),
        Page(
            "/audit",
            "Audit log",
            lambda request: views.render(2, request),
            lambda request, wake: views.follow(2, request, wake),
            section="System",
        ),
        Page(
            "/account",
            "Your account",
            lambda request: views.render(0, request),
            lambda request, wake: views.follow(0, request, wake),
            actions={name: account(name) for name in ("make", "seen", "end", "password")},
            starts=True,
        ),
    )
    return pages, find


class _Views:
    def __init__(self, context: Context, accounts: Accounts) -> None:
        self._context, self._accounts = context, accounts
        self._pages: tuple[AccountPage, PeoplePage, AuditPage] | None = None

    async def render(self, number: int, request: PageRequest) -> Fragment:
        return await self.made[number].render(request)

    def follow(self, number: int, request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        return self.made[number].follow(request, wake)

    async def act(self, number: int, name: str, request: PageRequest, form: Form) -> Done:
        action: Action = getattr(self.made[number], name)
        return await action(request, form)

    @property
    def made(self) -> tuple[AccountPage, PeoplePage, AuditPage]:
        if self._pages is None:
            from headrace.components.identity.ui.account import AccountPage  # noqa: PLC0415
            from headrace.components.identity.ui.audit import AuditPage  # noqa: PLC0415
            from headrace.components.identity.ui.people import PeoplePage  # noqa: PLC0415

            self._pages = (
                AccountPage(self._context, self._accounts),
                PeoplePage(self._context, self._accounts),
                AuditPage(self._accounts),
            )
        return self._pages

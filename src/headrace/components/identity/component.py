"""People and their logins as a component. What needs the OAuth library is loaded with the first login."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.components.identity.types import NAMESPACE, Password
from headrace.machinery.component import Component, LazyApp, Mount, Parts
from headrace.machinery.settings import DEFAULT_USER

if TYPE_CHECKING:
    from headrace.components.identity.api.issuer import Issuer
    from headrace.machinery.component import ASGIApp, Context
    from headrace.machinery.settings import Settings

FIRST_USER_MADE = "headrace.dev/first-user"
"""On namespace `auth`: the default user was made once, and who deletes it is not overruled."""


def build(context: Context) -> Parts:
    """Wire directory, credentials and the issuer; the last is made when somebody first needs it."""
    from headrace.api.core import Namespace  # noqa: PLC0415 - imported when enabled
    from headrace.components.identity.api.accounts import Accounts  # noqa: PLC0415
    from headrace.components.identity.api.credentials import Credentials  # noqa: PLC0415
    from headrace.components.identity.api.directory import Directory  # noqa: PLC0415
    from headrace.components.identity.api.keys import Keys  # noqa: PLC0415
    from headrace.components.identity.api.sessions import KnownPeople  # noqa: PLC0415
    from headrace.components.identity.controller import CredentialController  # noqa: PLC0415
    from headrace.components.identity.ui import pages_of  # noqa: PLC0415

    client, clock, settings = context.client, context.clock, context.settings
    directory, credentials, keys = Directory(client), Credentials(client, clock), Keys(client, clock)
    accounts = Accounts(settings, client, directory, credentials, context.auditor)
    made: dict[str, Any] = {}

    def issuer() -> Issuer:
        if "issuer" not in made:
            from headrace.components.identity.api.issuer import Issuer  # noqa: PLC0415 - costs tens of milliseconds

            made["issuer"] = Issuer(f"{settings.gateway_url}/dex", directory, credentials, keys, clock)
        found: Issuer = made["issuer"]
        return found

    def app(path: str) -> ASGIApp:
        if "apps" not in made:
            from headrace.components.identity.api.account import Account  # noqa: PLC0415
            from headrace.components.identity.api.app import build_apps  # noqa: PLC0415
            from headrace.components.identity.api.connectors import Connectors  # noqa: PLC0415
            from headrace.components.identity.api.login import Login  # noqa: PLC0415

            login = Login(
                settings,
                clock,
                issuer(),
                directory,
                credentials=credentials,
                connectors=Connectors(directory, clock, f"{settings.gateway_url}/dex/callback"),
                auditor=context.auditor,
            )
            made["apps"] = build_apps(login, issuer(), keys, Account(accounts))
        return made["apps"][path]

    def later(path: str) -> LazyApp:
        return LazyApp(lambda: app(path))

    async def start() -> None:
        namespace = await client.get(Namespace, NAMESPACE)
        if FIRST_USER_MADE not in namespace.metadata.annotations:
            await directory.add_default(DEFAULT_USER)
            mark = {"metadata": {"annotations": {FIRST_USER_MADE: DEFAULT_USER}}}
            await client.patch(Namespace, NAMESPACE, mark)

    opened = tuple(Mount(path, later(path), open=True) for path in ("/dex", "/oauth2", "/login", "/logout"))
    pages, finder = pages_of(context, accounts)
    return Parts(
        controllers=(CredentialController(client, clock),),
        mounts=(*opened, Mount("/api/identity", later("/api/identity"))),
        people=KnownPeople(credentials, directory, issuer),
        start=start,
        pages=pages,
        finders=(finder,),
    )


def objects(_settings: Settings) -> list[dict[str, Any]]:
    """Where people are kept, and what this component may do there."""
    from headrace.components.identity import render  # noqa: PLC0415 - imported when enabled

    return [render.namespace(), *render.roles()]


COMPONENT = Component(name="identity", title="Identity", build=build, kinds=(Password,), objects=objects)

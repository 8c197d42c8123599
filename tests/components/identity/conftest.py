"""A gateway with people behind it, and browsers in front."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest

from headrace import bootstrap
from headrace.api.identity import ADMIN, component
from headrace.apiserver.authn.tokens import TokenIssuer
from headrace.components.identity.component import COMPONENT as IDENTITY
from headrace.components.identity.types import Password
from headrace.gateway import Gateway
from headrace.machinery.audit import AuditLog
from headrace.machinery.clock import SystemClock
from headrace.machinery.component import Context, Mount
from headrace.machinery.settings import Ports, Settings
from headrace.testing import EmbeddedCluster, embedded_cluster

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator
    from pathlib import Path

USER, PASSWORD = "user@example.com", "12341234"


class MovableClock(SystemClock):
    """The machine's clock, which a test may put forward."""

    ahead = 0.0

    def precise(self) -> dt.datetime:
        import datetime as dt

        return super().precise() + dt.timedelta(seconds=self.ahead)

    def now(self) -> dt.datetime:
        return self.precise().replace(microsecond=0)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


async def echo(scope: Any, _receive: Any, send: Any) -> None:
    """Says who asks."""
    user = scope["state"]["user"]
    said = json.dumps({"user": user.name, "groups": list(user.groups)}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": said})


@dataclass
class World:
    """Everything that a test talks to."""

    url: str
    cluster: EmbeddedCluster
    clock: MovableClock
    settings: Settings
    parts: Any
    auditor: AuditLog
    browsers: list[aiohttp.ClientSession] = field(default_factory=list)

    @property
    def client(self) -> Any:
        return self.cluster.client

    def browser(self) -> aiohttp.ClientSession:
        """One that nobody has logged in."""
        session = aiohttp.ClientSession(self.url, cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.browsers.append(session)
        return session

    async def enter(self, session: aiohttp.ClientSession, email: str, password: str) -> tuple[int, str]:
        """Follow the login from a page to its end, as a person does: the last status and path."""
        async with session.get("/page?x=1") as response:
            form = str(response.url.relative())
            assert "password" in await response.text()
        async with session.post(form, data={"login": email, "password": password}) as response:
            return response.status, response.url.raw_path_qs

    async def logged_in(self, email: str = USER, password: str = PASSWORD) -> aiohttp.ClientSession:
        session = self.browser()
        assert await self.enter(session, email, password) == (200, "/page?x=1")
        return session


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


@pytest.fixture
async def world(tmp_path: Path, signing_key: Path) -> AsyncIterator[World]:
    async with running(tmp_path, signing_key) as made:
        yield made


@contextlib.asynccontextmanager
async def running(home: Path, signing_key: Path, port: int = 0) -> AsyncIterator[World]:
    """A platform's front door; with a port, its issuer has a name that others can reach."""
    settings = Settings(home=home, ports=Ports(api=0, gateway=port, objectstore=0))
    clock = MovableClock()
    async with embedded_cluster((Password,), settings=settings, clock=clock) as cluster:
        await bootstrap.ensure(cluster.registry, ADMIN, bootstrap.cluster_objects(settings, (IDENTITY,)))
        await bootstrap.ensure(cluster.registry, ADMIN, IDENTITY.objects(settings))
        cluster.tokens = TokenIssuer(signing_key, cluster.registry, clock)
        auditor = AuditLog(settings.logs, clock)
        own = cluster.client_for(component("identity"))
        parts = IDENTITY.build(Context("identity", settings, own, clock, None, None, auditor=auditor))
        await parts.start()
        gateway = Gateway(
            settings,
            cluster.client_for(component("gateway")),
            None,
            (*parts.mounts, Mount("/", echo), Mount("/apis/v2beta1", echo)),
            manager=cluster.manager,
            clock=clock,
            people=parts.people,
            auditor=auditor,
        )
        await gateway.start()
        made = World("http://{}:{}".format(*gateway.address), cluster, clock, settings, parts, auditor)
        try:
            yield made
        finally:
            for session in made.browsers:
                await session.close()
            await gateway.stop()
            auditor.close()

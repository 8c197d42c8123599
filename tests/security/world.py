"""The whole platform without a node, asked in process: every edge is an ASGI application, so no socket is needed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from headrace import bootstrap
from headrace.api import _wire
from headrace.api.core import Namespace, Secret, ServiceAccount
from headrace.api.identity import ADMIN, AUTHENTICATED, User, component
from headrace.api.meta import ObjectMeta
from headrace.api.rbac import Subject
from headrace.apiserver.authn.tokens import TokenIssuer
from headrace.apiserver.http.app import ApiApp
from headrace.apiserver.http.messages import Connection
from headrace.client.embedded import EmbeddedClient
from headrace.components.identity.component import FIRST_USER_MADE
from headrace.components.identity.policy import object_name
from headrace.components.identity.types import Password
from headrace.components.objectstore import policy
from headrace.components.profiles import render as profiles
from headrace.components.profiles.component import FIRST_PROFILE_MADE
from headrace.gateway import Gateway
from headrace.machinery import logins
from headrace.machinery.audit import AuditLog
from headrace.machinery.clock import SystemClock
from headrace.machinery.component import Context
from headrace.machinery.pages import ComponentFacts, Site
from headrace.machinery.settings import Ports, Settings
from headrace.node.images.service import Images
from headrace.node.images.stock import DiskShelf
from headrace.node.logs import NodeLogs
from headrace.platform import load_components
from headrace.testing import EmbeddedCluster, embedded_cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from headrace.machinery.component import Mount

HOME, OTHER = "kubeflow-user-example-com", "other-team"
ROLES = ("anonymous", "foreign", "viewer", "editor", "owner", "admin")
"""Nobody; another namespace's service account; three people of HOME (the editor is its service account); a cluster
administrator."""
PEOPLE = {"viewer": "viewer@example.com", "owner": "user@example.com", "admin": "admin@example.com"}
ACCOUNTS = {"foreign": (OTHER, "default-editor"), "editor": (HOME, "default-editor")}
RBAC = "rbac.authorization.k8s.io"
KEYS = {"editor": ("home-key", "home-secret"), "foreign": ("other-key", "other-secret")}


@dataclass(frozen=True)
class Answer:
    """What came back, as far as it was waited for."""

    status: int
    headers: dict[str, str]
    body: bytes
    cookies: str = ""
    """What the answer sets, as a browser sends it back."""

    @property
    def outcome(self) -> str:
        """In the words of the rules, without judging."""
        if self.status == 302 and "/oauth2/start" in self.headers.get("location", ""):
            return "login"
        return str(self.status)

    def json(self) -> Any:
        return json.loads(self.body)


class NoDialer:
    """There are no pods."""

    async def dial(self, host: str, port: int) -> Any:
        raise OSError(f"{host}:{port} is not there")


@dataclass
class World:
    """Every edge of one platform, and who asks."""

    cluster: EmbeddedCluster
    client: EmbeddedClient
    settings: Settings
    gateway: Gateway
    api: ApiApp
    store: Any
    mounts: list[Mount]
    site: Site
    credentials: dict[str, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    """What stands in a path's braces."""

    async def ask(
        self, role: str, method: str, path: str, query: str = "", body: Any = None, *, accept: str = ""
    ) -> Answer:
        """At the gateway."""
        headers = [(b"host", b"localhost"), *self.credentials.get(role, ())]
        return await call(self.gateway, method, path, query, headers, body=body, accept=accept)

    async def ask_api(self, role: str, method: str, path: str, query: str = "", body: Any = None) -> Answer:
        """At the API server."""
        headers = [(b"host", b"localhost"), *(self.credentials[role] if role in ACCOUNTS else ())]
        groups = (AUTHENTICATED,)
        user = User(PEOPLE[role], groups=groups) if role in PEOPLE else None
        return await call(self.api, method, path, query, headers, body=body, state={"connection": Connection(user)})

    async def ask_store(
        self, role: str, method: str, path: str, query: str, body: bytes, *, more: dict[str, str] | None = None
    ) -> Answer:
        """At the object store: the owner has the namespace's keys, as its editor has; the viewer cannot read them."""
        keys = {**KEYS, "owner": KEYS["editor"]}
        keys["admin"] = (policy.ADMINISTRATOR.access_key, policy.ADMINISTRATOR.secret_key)
        headers = [(b"host", b"localhost:9000")]
        if role in keys:
            request = AWSRequest(
                method, f"http://localhost:9000{path}{'?' + query if query else ''}", data=body, headers=more or {}
            )
            S3SigV4Auth(Credentials(*keys[role]), "s3", "us-east-1").add_auth(request)
            headers += [(name.lower().encode(), str(value).encode()) for name, value in request.headers.items()]
        return await call(self.store, method, path, query, headers, body=body)

    def fill(self, path: str) -> str:
        """A path of a table with real names for its parameters."""
        for name, value in self.ids.items():
            path = path.replace(f"{{{name}}}", value)
        return path


async def call(
    app: Any,
    method: str,
    path: str,
    query: str,
    headers: list[tuple[bytes, bytes]],
    *,
    body: Any = None,
    accept: str = "",
    state: dict[str, Any] | None = None,
) -> Answer:
    """One request. Of an answer that goes on (a watch, a page's stream) only the beginning is waited for."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    sent = [*headers, (b"content-length", b"%d" % len(data))]
    kind = b"application/x-www-form-urlencoded" if accept else b"application/json"
    if method == "PATCH":
        kind = b"application/merge-patch+json"
    if not isinstance(body, bytes) or accept:
        sent.append((b"content-type", kind))
    sent += [(b"accept", accept.encode())] if accept else []
    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": quote(path, safe="/:@!$&'()*+,;=~{}").encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": sent,
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "state": state or {},
    }
    given, begun = False, asyncio.Event()
    start: dict[str, Any] = {}
    found = b""

    async def receive() -> dict[str, Any]:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": data, "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        nonlocal found
        if message["type"] == "http.response.start":
            start.update(message)
            if any(value.startswith(b"text/event-stream") for _, value in message["headers"]) or "watch=" in query:
                begun.set()
        elif message["type"] == "http.response.body":
            found += message.get("body", b"")
            if not message.get("more_body"):
                begun.set()

    task = asyncio.ensure_future(app(scope, receive, send))
    waiting = asyncio.ensure_future(begun.wait())
    async with asyncio.timeout(60):
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
    else:
        # What the application still does after its answer is over is awaited, what goes on for ever is ended.
        if (
            not begun.is_set()
            or any(v.startswith(b"text/event-stream") for _, v in start["headers"])
            or "watch=" in query
        ):
            task.cancel()
        await asyncio.wait({task})
    assert start, f"{method} {path} was not answered"
    set_cookies = [SimpleCookie(v.decode()) for n, v in start["headers"] if n == b"set-cookie"]
    cookies = "; ".join(f"{c.key}={c.value}" for each in set_cookies for c in each.values())
    return Answer(start["status"], {n.decode(): v.decode("latin-1") for n, v in start["headers"]}, found, cookies)


def _binding(kind: str, name: str, role: str, user: str, namespace: str = "") -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "annotations": {"user": user, "role": "view"},
            **({"namespace": namespace} if namespace else {}),
        },
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": RBAC}],
    }


@pytest.fixture
async def world(tmp_path: Path, signing_key: Path) -> AsyncIterator[World]:
    async with platform(tmp_path, signing_key) as found:
        yield found


@contextlib.asynccontextmanager
async def platform(home: Path, signing_key: Path) -> AsyncIterator[World]:
    """Every component that the platform lists."""
    settings = Settings(home=home, ports=Ports(api=0, gateway=0, objectstore=0))
    settings.state.mkdir()
    clock = SystemClock()
    components = load_components()
    kinds = [kind for part in components for kind in part.kinds]
    async with embedded_cluster(kinds, settings=settings, clock=clock) as cluster, contextlib.AsyncExitStack() as stack:
        issuer = TokenIssuer(signing_key, cluster.registry, clock)
        client = EmbeddedClient(cluster.registry, ADMIN, issuer)
        cluster.tokens = issuer
        await client.apply(Namespace(metadata=ObjectMeta(name=OTHER)))
        await bootstrap.ensure(cluster.registry, ADMIN, bootstrap.cluster_objects(settings, components))
        for part in components:
            await bootstrap.ensure(cluster.registry, ADMIN, part.objects(settings))
        for name, owner in ((HOME, PEOPLE["owner"]), (OTHER, "other@example.com")):
            owned = profiles.profile_objects(name, Subject(kind="User", name=owner))
            await bootstrap.ensure(cluster.registry, ADMIN, owned)
            account = ServiceAccount(metadata=ObjectMeta(name="nobody", namespace=name))
            await client.create(account)
        for namespace, role in ((HOME, "editor"), (OTHER, "foreign")):
            await client.create(_wire.convert(Secret, profiles.keys_secret(namespace, *KEYS[role])))
        await client.create(profiles.default_profile(HOME, PEOPLE["owner"]))
        given = [
            _binding("RoleBinding", "viewer", "kubeflow-view", PEOPLE["viewer"], HOME),
            _binding("ClusterRoleBinding", "matrix-admin", "cluster-admin", PEOPLE["admin"]),
        ]
        await bootstrap.ensure(cluster.registry, ADMIN, given)
        # Neither the default user (hashing a password takes long) nor the default profile is made.
        await client.patch(Namespace, "kubeflow", {"metadata": {"annotations": {FIRST_PROFILE_MADE: "by the test"}}})
        await client.patch(Namespace, "auth", {"metadata": {"annotations": {FIRST_USER_MADE: "by the test"}}})
        site, mounts, people, store = Site(cluster.manager, cluster.registry), [], None, None
        logs = NodeLogs(settings, clock, lambda _key: None, lambda _uid, _name: None)
        auditor = AuditLog(settings.logs, clock)
        shelf = DiskShelf(settings, Images(settings, clock), lambda: False)
        for part in components:
            own = cluster.client_for(component(part.name))
            context = Context(part.name, settings, own, clock, NoDialer(), logs, site, auditor, images=shelf)
            parts = part.build(context)
            site.components.append(ComponentFacts(part.name, part.title, parts.health))
            site.pages += parts.pages
            site.panels += parts.panels
            mounts += parts.mounts
            people = parts.people or people
            store = parts.listeners[0].app if part.name == "objectstore" else store
            if parts.start is not None:
                await parts.start()
            if parts.stop is not None:
                stack.push_async_callback(parts.stop)
        gateway = Gateway(
            settings,
            cluster.client_for(component("gateway")),
            NoDialer(),
            mounts,
            manager=cluster.manager,
            clock=clock,
            people=people,
            auditor=auditor,
        )
        await gateway.start()
        stack.push_async_callback(gateway.stop)
        await cluster.manager.start()
        api = ApiApp(cluster.registry, issuer, clock, address="https://localhost:6443", logs=logs, dialer=NoDialer())
        stack.push_async_callback(api.close)
        made = World(cluster, client, settings, gateway, api, store, mounts, site)
        for role, (namespace, name) in ACCOUNTS.items():
            token = await client.request_token(namespace, name, expiration_seconds=3600)
            made.credentials[role] = [(b"authorization", f"Bearer {token}".encode())]
        for role, email in PEOPLE.items():
            name = object_name(email)
            person = Password(metadata=ObjectMeta(name=name, namespace="auth"), email=email, user_id=email)
            await client.apply(person)
            code = logins.offer(settings, email)
            answer = await made.ask(role, "GET", "/login", f"code={code}", accept="text/html")
            made.credentials[role] = [(b"cookie", answer.cookies.encode())]
        yield made

"""What the gateway asks of whoever knows people: whose session or token a request carries, and what it may be used for.

The gateway itself knows service accounts (by the API server's TokenReview); people, their sessions, personal access
tokens and ID tokens are the identity component's, which brings a `People` among its parts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from headrace.api.identity import User
    from headrace.machinery.settings import Settings

SESSION_COOKIE = "oauth2_proxy_kubeflow"
"""As in Kubeflow's distribution: scripts that log in look for it."""
XSRF_COOKIE, XSRF_HEADER = "XSRF-TOKEN", b"x-xsrf-token"
"""The pair that Kubeflow's web apps use: a page reads the cookie and sends it back as a header."""
DEFAULT_GATEWAY_PORT = 8080

KUBECTL_CLIENT = "kubernetes"
"""The client, and so the audience, of tokens with which people speak to the API server (--oidc-client-id upstream)."""

READ, WRITE, PREDICT = "read", "write", "predict"
SCOPES = {
    READ: "look at everything that its owner sees",
    WRITE: "change what its owner may change, and look",
    PREDICT: "ask models, and nothing else",
}
"""What a personal access token may be used for, in words."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends a request, by which credential. Without scopes the credential may do what its owner may."""

    user: User
    credential: str
    """`session`, `token` or `id-token`, with its name; never the secret."""
    scopes: frozenset[str] = frozenset()

    def may(self, *, reads: bool, predicts: bool) -> bool:
        """Whether the credential's scopes cover such a request."""
        if not self.scopes:
            return True
        if predicts:
            return bool(self.scopes & {PREDICT, WRITE})
        return bool(self.scopes & ({READ, WRITE} if reads else {WRITE}))


class People(Protocol):
    """Knows people by what they send."""

    async def by_session(self, cookie: str) -> Sender | None:
        """Whose session; None when it has ended."""
        ...

    async def by_token(self, token: str) -> Sender | None:
        """Whose personal access token or ID token; None when it is none, or not valid any more."""
        ...

    async def by_id_token(self, token: str, audience: str) -> User | None:
        """Whose ID token it is, made for this client; None when it is none, or not valid any more."""
        ...

    async def exposed(self) -> str:
        """Why the gateway must not be reached by others yet, and what to do; nothing when it may."""
        ...


def xsrf_of(session: str) -> str:
    """The XSRF pair's value for a session: bound to it, and worthless without it."""
    return hashlib.sha256(f"xsrf {session}".encode()).hexdigest()[:40]


def cookie_names(settings: Settings) -> tuple[str, str]:
    """The names of the session's cookie and of the XSRF cookie.

    Cookies know no ports, so platforms side by side carry theirs in the name; the XSRF pair's name is what web apps
    expect everywhere, and need not differ: its value is compared with what the same page sends.
    """
    port = settings.ports.gateway
    return (SESSION_COOKIE if port == DEFAULT_GATEWAY_PORT else f"{SESSION_COOKIE}_{port}"), XSRF_COOKIE


def cookie_value(cookies: bytes, name: str) -> str:
    """The value of one cookie in a Cookie header, or nothing."""
    wanted = name.encode() + b"="
    for part in cookies.split(b";"):
        if part.strip().startswith(wanted):
            return part.strip()[len(wanted) :].decode("latin-1")
    return ""


def without_session(cookies: bytes) -> bytes:
    """A Cookie header without any platform's session: what a pod may see."""
    mine = SESSION_COOKIE.encode()
    if mine not in cookies:
        return cookies
    return b"; ".join(part for raw in cookies.split(b";") if not (part := raw.strip()).startswith(mine))

"""Who sends a request: the bearer token's owner, or the person of the browser's session; and who is sent to log in.

Invariants: a credential that is sent and not valid is refused, never ignored in favour of another; a session makes no
change that another site's page asked for; a token does what its scopes say and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace.gateway import pages
from headrace.machinery.people import XSRF_HEADER, Sender, cookie_names, cookie_value, xsrf_of
from headrace.machinery.sameorigin import SAFE_METHODS, foreign_site

if TYPE_CHECKING:
    from headrace.gateway.access import Access
    from headrace.machinery.people import People
    from headrace.machinery.settings import Settings

SESSION = "session"
_API_PARTS = ("/api/", "/apis/", "/ml_metadata", "/kfam/", "/serving/")
LOGIN = "/oauth2/start"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request goes no further: an answer's status and words, or where to log in."""

    status: int
    words: str = ""
    location: str = ""

    async def answer(self, send: Any) -> None:
        """Say it."""
        if self.location:
            headers = ((b"location", self.location.encode()), (b"cache-control", b"no-store"))
            await pages.answer(send, self.status, b"", b"text/plain", headers)
        elif self.status == 401:
            await pages.unauthorized(send, self.words)
        else:
            await pages.error(send, self.status, self.words)


class Senders:
    """Identifies requests."""

    def __init__(self, access: Access, people: People | None, settings: Settings) -> None:
        self._access, self._people = access, people
        self._cookie, _ = cookie_names(settings)

    async def identify(self, scope: dict[str, Any], *, predicts: bool) -> Sender | Refusal:
        """Who sends it, if they may send such a request. Raises StatusError when that cannot be known."""
        authorization = cookies = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"cookie":
                cookies = cookies + b"; " + value if cookies else value
        reads = scope["method"] in SAFE_METHODS
        if authorization:
            found = await self._bearer(authorization)
        else:
            session = cookie_value(cookies, self._cookie) if self._people is not None else ""
            found = await self._session(scope, session, reads=reads) if session else self._nobody(scope)
        if isinstance(found, Sender) and not found.may(reads=reads, predicts=predicts):
            words = f"This token's scopes are {', '.join(sorted(found.scopes))}: it may not be used for this."
            return Refusal(403, words)
        return found

    async def _bearer(self, authorization: bytes) -> Sender | Refusal:
        kind, _, token = authorization.partition(b" ")
        token = token.strip()
        if kind.lower() != b"bearer" or not token:
            return Refusal(401, "This address needs a bearer token.")
        user = self._access.known(token) or await self._access.review(token)
        if user is not None:
            return Sender(user, "service account")
        if self._people is not None and token.isascii():
            sender = await self._people.by_token(token.decode("ascii"))
            if sender is not None:
                return sender
        return Refusal(401, "The bearer token is not valid: it may have expired.")

    async def _session(self, scope: dict[str, Any], session: str, *, reads: bool) -> Sender | Refusal:
        assert self._people is not None  # noqa: S101 - there are sessions only where there are people
        sender = await self._people.by_session(session)
        if sender is None:
            ended = self._nobody(scope)
            return ended if ended.location else Refusal(401, "The session has ended.")
        if not reads:
            if foreign_site(scope):
                return Refusal(403, "Another site's page asked for this change, so it is not made.")
            sent = next((value for name, value in scope["headers"] if name == XSRF_HEADER), b"")
            if sent and sent != xsrf_of(session).encode():
                return Refusal(403, "The X-XSRF-TOKEN header is not this session's: reload the page.")
        return sender

    def _nobody(self, scope: dict[str, Any]) -> Refusal:
        """Nobody has logged in: a page leads to the login, as oauth2-proxy does; an API says 401."""
        path: str = scope["path"]
        accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
        api = any(part in f"{path}/" for part in _API_PARTS) or b"application/json" in accept
        if self._people is None or api or scope["method"] not in {"GET", "HEAD"}:
            return Refusal(401, "This address needs a bearer token.")
        query = scope["query_string"].decode("latin-1")
        target = f"{path}?{query}" if query else path
        return Refusal(302, location=f"{LOGIN}?rd={quote(target, safe='/')}")

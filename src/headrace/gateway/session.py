"""A browser's session: a cookie that holds a bearer token, and the two addresses that set and clear it.

Invariants: the cookie is HttpOnly and SameSite=Strict and ends no later than its token; it authenticates GET and HEAD
of the platform's own pages and APIs, never a change (so that no other site can make one) and never a request to a
model (whose answers come from somebody else's program); it is not passed on to pods.
"""

from __future__ import annotations

import base64
import hashlib
import html
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote

from headrace.gateway import pages
from headrace.gateway.access import expiry
from headrace.machinery import logins

if TYPE_CHECKING:
    from headrace.gateway.access import Access
    from headrace.gateway.upstream import Header
    from headrace.machinery.clock import Clock
    from headrace.machinery.settings import Settings

PREFIX = "headrace-session-"
READS = frozenset({"GET", "HEAD"})
LOGIN, LOGOUT = "/login", "/logout"
NO_STORE: tuple[Header, ...] = ((b"cache-control", b"no-store"), (b"referrer-policy", b"no-referrer"))

_STYLE = (
    ":root{color-scheme:light dark;--bg:#f6f8f9;--panel:#fff;--line:#dde4e8;--text:#14232b;--dim:#4b606b;"
    "--accent:#0b7285}@media(prefers-color-scheme:dark){:root{--bg:#0f171b;--panel:#162126;--line:#26353c;"
    "--text:#e6eef1;--dim:#a9bbc3;--accent:#3bc0d4}}*{box-sizing:border-box}body{margin:0;min-height:100vh;"
    'display:grid;place-items:center;font:15px/1.5 ui-sans-serif,system-ui,"Segoe UI",Roboto,sans-serif;'
    "background:var(--bg);color:var(--text)}main{width:min(30rem,92vw);background:var(--panel);border:1px solid "
    "var(--line);border-radius:10px;padding:28px 32px}b{display:block;color:var(--accent);font-weight:700;"
    "letter-spacing:-.02em}h1{font-size:1.25rem;margin:.6em 0 .3em;letter-spacing:-.01em}p{margin:.5em 0;"
    "color:var(--dim)}code{font:14px/1.4 ui-monospace,monospace;background:var(--bg);border:1px solid var(--line);"
    "border-radius:5px;padding:.45em .7em;display:block;color:var(--text);margin:.8em 0}"
)
_POLICY = (
    "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)


class Sessions:
    """Sessions of one gateway. Cookies know no ports, so the name carries it: platforms side by side do not clash."""

    def __init__(self, access: Access, clock: Clock, settings: Settings) -> None:
        self._access, self._clock, self._settings = access, clock, settings
        self.cookie = PREFIX.rstrip("-")

    def listen_on(self, port: int) -> None:
        """The port has been chosen."""
        self.cookie = f"{PREFIX}{port}"

    def token(self, headers: list[Header]) -> bytes:
        """The token in the cookie, or nothing."""
        wanted = self.cookie.encode() + b"="
        for name, value in headers:
            if name == b"cookie":
                for part in value.split(b";"):
                    if part.strip().startswith(wanted):
                        return part.strip()[len(wanted) :]
        return b""

    async def login(self, scope: dict[str, Any], send: Any) -> None:
        """GET /login?code=…&next=/path (or token=…): set the cookie and go there. A code works once."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        code = query.get("code", [""])[0]
        # Only GET uses a code up: a program that looks at a link with HEAD must not make it worthless.
        token = logins.take(self._settings, code) if code and scope["method"] == "GET" else query.get("token", [""])[0]
        if code and not token:
            await self.page(send, 401, "This link is not valid any more", "It works once, and within an hour.")
            return
        if not token or scope["method"] not in READS:
            await self.page(send, 401 if not token else 405, "Log in")
            return
        user = await self._access.review(token.encode("ascii", "replace"))
        left = int(expiry(token) - self._clock.precise().timestamp()) if user is not None else 0
        if user is None or left <= 0:
            await self.page(
                send, 401, "This link is not valid any more", "Its token has ended or is not of this platform."
            )
            return
        target = _local(query.get("next", ["/"])[0])
        headers = [(b"location", quote(target, safe="/?&=#%:+,;@~!$'()*[]").encode()), self._cookie(token, left)]
        await pages.answer(send, 303, b"", b"text/plain", [*headers, *NO_STORE])

    async def logout(self, send: Any) -> None:
        """GET /logout: take the cookie away."""
        await self.page(send, 200, "You are logged out", headers=[self._cookie("", 0)])

    async def page(
        self, send: Any, status: int, title: str, words: str = "", *, headers: list[Header] | None = None
    ) -> None:
        """The page that says which command prints the link."""
        command = f"headrace dashboard{self._settings.home_option}"
        text = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width"><title>{html.escape(title)} · Headrace</title>'
            '<link rel="icon" href="data:,">'
            f"<style>{_STYLE}</style></head><body><main><b>Headrace</b><h1>{html.escape(title)}</h1>"
            f"{f'<p>{html.escape(words)}</p>' if words else ''}"
            "<p>This command, on the machine where the platform runs, prints a link that opens the dashboard:</p>"
            f"<code>{html.escape(command)}</code>"
            "<p>With --open it opens the browser by itself.</p></main></body></html>"
        )
        more = [(b"content-security-policy", _POLICY.encode()), (b"x-content-type-options", b"nosniff"), *NO_STORE]
        await pages.answer(send, status, text.encode(), b"text/html; charset=utf-8", [*more, *(headers or [])])

    def _cookie(self, token: str, seconds: int) -> Header:
        return b"set-cookie", f"{self.cookie}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict".encode()


def without_session(cookie: bytes) -> bytes:
    """A Cookie header without this platform's own."""
    mine = PREFIX.encode()
    if mine not in cookie:
        return cookie
    return b"; ".join(part for raw in cookie.split(b";") if not (part := raw.strip()).startswith(mine))


def wants_page(headers: list[Header]) -> bool:
    """Whether a person with a browser asks, not a program."""
    return any(name == b"accept" and b"text/html" in value for name, value in headers)


def _local(target: str) -> str:
    """A path of this platform; anything else becomes the first page."""
    plain = unquote(target)
    if not plain.startswith("/") or plain.startswith(("//", "/\\")) or any(ord(c) < 32 for c in plain):
        return "/"
    return target

"""Where a browser logs in: `/oauth2/…` (the gateway's side, after oauth2-proxy) and `/dex/auth/…` (the issuer's side).

    a page without a session -> /oauth2/start?rd=… -> /dex/auth?… -> /dex/auth/local/login -> /oauth2/callback -> rd

Nothing of a login is kept between its steps: the authorization request travels in the addresses and is checked at
every step; what ties the last step to the browser that began is a cookie. Invariants: a login form works only from
its own site; the address to go back to is one of this platform.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from headrace.components.identity import policy, render
from headrace.components.identity.api import issuer as protocol
from headrace.components.identity.api.sessions import SESSION_SECONDS, user_of
from headrace.components.identity.ui import pages
from headrace.machinery import logins
from headrace.machinery.people import cookie_names, cookie_value, xsrf_of
from headrace.machinery.sameorigin import foreign_site
from headrace.machinery.words import _

if TYPE_CHECKING:
    from starlette.requests import Request

    from headrace.components.identity.api.connectors import Connectors
    from headrace.components.identity.api.credentials import Credentials
    from headrace.components.identity.api.directory import Directory
    from headrace.components.identity.api.grants import Exchange
    from headrace.components.identity.api.issuer import Issuer
    from headrace.components.identity.policy import Tries
    from headrace.components.identity.types import Person
    from headrace.machinery.audit import Auditor
    from headrace.machinery.clock import Clock
    from headrace.machinery.settings import Settings

LOCAL = "local"
BEGUN_SECONDS = 900
MAX_WATCHED = 10_000
ADDRESS_FACTOR = 10
"""From one machine come many people's mistakes: it gets this many times the attempts of one address."""


class Attempts:
    """Counts wrong passwords, by person and machine, and by machine."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tries: dict[tuple[str, str], Tries] = {}

    def wait(self, email: str, address: str) -> float:
        """Seconds until the next attempt is looked at."""
        now = self._clock.monotonic()
        tries = self._tries.get((email, address), policy.Tries())
        machine = self._tries.get(("", address), policy.Tries())
        scaled = policy.Tries(machine.count // ADDRESS_FACTOR, machine.last)
        return max(tries.wait(now), scaled.wait(now))

    def failed(self, email: str, address: str) -> None:
        """A wrong password."""
        now = self._clock.monotonic()
        if len(self._tries) > MAX_WATCHED:
            self._tries = {k: t for k, t in self._tries.items() if now - t.last < policy.FORGET_SECONDS / 4}
        for key in ((email, address), ("", address)):
            self._tries[key] = self._tries.get(key, policy.Tries()).after_failure(now)

    def succeeded(self, email: str, address: str) -> None:
        """The right one: the person's own count begins again."""
        self._tries.pop((email, address), None)


class Login:
    """Handlers of the login's addresses."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        issuer: Issuer,
        directory: Directory,
        *,
        credentials: Credentials,
        connectors: Connectors,
        auditor: Auditor,
    ) -> None:
        self._settings, self._issuer, self._directory = settings, issuer, directory
        self._credentials, self._connectors, self._auditor = credentials, connectors, auditor
        self._attempts = Attempts(clock)
        self.cookie, self.xsrf = cookie_names(settings)
        self._begun = f"{self.cookie}_csrf"

    # the gateway's side

    async def start(self, request: Request) -> Response:
        """GET /oauth2/start?rd=/path: begin."""
        target = policy.local_path(request.query_params.get("rd", "/"))
        secret = protocol.verifier()
        challenge = urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()).decode().rstrip("=")
        query = {
            "client_id": protocol.OWN_CLIENT,
            "redirect_uri": protocol.CALLBACK,
            "response_type": "code",
            "scope": "openid profile email groups",
            "state": f"{_state(secret)}:{target}",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        answer = _go(f"/dex/auth?{urlencode(query)}", 302)
        self._set(answer, self._begun, secret, BEGUN_SECONDS)
        return answer

    async def callback(self, request: Request) -> Response:
        """GET /oauth2/callback?code=…&state=…: the session begins."""
        secret = self._cookie(request, self._begun)
        given, _colon, target = request.query_params.get("state", "").partition(":")
        if request.query_params.get("error"):
            words = request.query_params.get("error_description") or _("The login was not finished.")
            return pages.message(_("Not logged in"), words, status=403, link=_to_login())
        begun = bool(secret) and hmac.compare_digest(_state(secret).encode(), given.encode())
        person = await self._issuer.redeem(request.query_params.get("code", ""), secret) if begun else None
        if person is None:
            words = _("This login was begun in another window, or too long ago.")
            return pages.message(_("Please try again"), words, status=403, link=_to_login())
        answer = await self._enter(request, person, policy.local_path(target or "/"))
        self._set(answer, self._begun, "", 0)
        return answer

    async def sign_out(self, request: Request) -> Response:
        """GET or POST /oauth2/sign_out and /logout: the session ends, here and everywhere."""
        session = self._cookie(request, self.cookie)
        found = await self._credentials.find(render.SESSION, session)
        if found is not None:
            await self._credentials.end(render.SESSION, session)
            self._auditor.record(found.person.email, "logout", "session", address=_address(request))
        target = request.query_params.get("rd", "")
        answer: Response = (
            _go(policy.local_path(target), 302)
            if target
            else pages.message(
                _("You are logged out"), _("Your session has ended."), link=(_("Log in again"), "/oauth2/start")
            )
        )
        self._set(answer, self.cookie, "", 0)
        self._set(answer, self.xsrf, "", 0, readable=True)
        return answer

    async def link(self, request: Request) -> Response:
        """GET /login?code=…&next=/path: a link of `headrace dashboard`, which works once. Without a code, the login."""
        code = request.query_params.get("code", "")
        target = policy.local_path(request.query_params.get("next", "/"))
        if not code:
            return _go(f"/oauth2/start?rd={quote(target)}", 302)
        # Only GET uses a code up: a program that looks at a link with HEAD must not make it worthless.
        email = logins.take(self._settings, code) if request.method == "GET" else ""
        person = await self._directory.find(email) if email else None
        if person is None:
            words = _("It works once, and within an hour. This command, on the platform's machine, prints another one:")
            command = f"headrace dashboard{self._settings.home_option}"
            title = _("This link is not valid any more")
            return pages.message(title, words, status=401, command=command, link=_to_login())
        return await self._enter(request, person, target)

    async def userinfo(self, request: Request) -> Response:
        """GET /oauth2/userinfo, after oauth2-proxy."""
        found = await self._credentials.find(render.SESSION, self._cookie(request, self.cookie))
        if found is None:
            return PlainTextResponse("Unauthorized", 401)
        person = await self._issuer.known(found.person)
        if person is None:
            return PlainTextResponse("Unauthorized", 401)
        body = {"user": person.user_id, "email": person.email, "groups": list(person.groups)}
        return JSONResponse({**body, "preferredUsername": person.username})

    async def auth(self, request: Request) -> Response:
        """GET /oauth2/auth: 202 with a session, else 401; for a reverse proxy that asks."""
        found = await self._credentials.find(render.SESSION, self._cookie(request, self.cookie))
        return PlainTextResponse("", 202) if found is not None else PlainTextResponse("Unauthorized", 401)

    async def _enter(self, request: Request, person: Person, target: str) -> Response:
        """The session's cookies, and the way on. A session that was there before ends: none is ever taken over."""
        await self._credentials.end(render.SESSION, self._cookie(request, self.cookie))
        detail = f"{_agent(request)} · {_address(request)}"
        session = await self._credentials.make(render.SESSION, person, SESSION_SECONDS, detail=detail)
        answer = _go(target, 302)
        self._set(answer, self.cookie, session, SESSION_SECONDS)
        self._set(answer, self.xsrf, xsrf_of(session), SESSION_SECONDS, readable=True)
        self._auditor.record(
            user_of(person).name, "login", "session", address=_address(request), detail=person.connector
        )
        return answer

    # the issuer's side

    async def authorize(self, request: Request) -> Response:
        """GET /dex/auth?…: on to the only way to log in, or a choice."""
        refused = await self._refused(request)
        if refused is not None:
            return refused
        query = request.url.query
        config = await self._directory.config()
        ways = [(_("e-mail"), f"/dex/auth/{LOCAL}?{query}")] if config.enable_password_db else []
        ways += [(c.name or c.id, f"/dex/auth/{quote(c.id)}?{query}") for c in config.connectors]
        if len(ways) == 1:
            return _go(ways[0][1], 302)
        return pages.choose(ways)

    async def connector(self, request: Request) -> Response:
        """GET /dex/auth/ID?…: to the form, or to an outside issuer."""
        refused = await self._refused(request)
        if refused is not None:
            return refused
        query = request.url.query
        name = request.path_params["connector"]
        if name == LOCAL and (await self._directory.config()).enable_password_db:
            return _go(f"/dex/auth/{LOCAL}/login?{query}", 302)
        target = await self._connectors.begin(name, query)
        if target is None:
            words = _("There is no way to log in called {name}.", name=name)
            return pages.message(_("Not found"), words, status=404, link=_to_login())
        return _go(target, 302)

    async def form(self, request: Request) -> Response:
        """GET and POST /dex/auth/local/login?…: address and password."""
        exchange, grant, refused = await self._consent(request)
        if refused is not None:
            return refused
        action = f"/dex/auth/{LOCAL}/login?{request.url.query}"
        client = grant.client.static
        shown = "" if client.id == protocol.OWN_CLIENT else client.name or client.id
        parts = urlsplit(grant.request.payload.redirect_uri or "")
        form_to = f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
        if request.method != "POST":
            return pages.login(action, shown, form_to=form_to)
        if foreign_site(request.scope):
            words = _("This form was sent from another site.")
            return pages.login(action, shown, wrong=words, status=403, form_to=form_to)
        fields = await _fields(request)
        email, address = fields.get("login", "").strip().lower(), _address(request)
        wait = self._attempts.wait(email, address)
        if wait > 0:
            words = _("Too many wrong passwords. Try again in {time}.", time=_words(wait))
            answer = pages.login(action, shown, email=email, wrong=words, status=429, form_to=form_to)
            answer.headers["retry-after"] = str(int(wait) + 1)
            return answer
        person = await self._directory.verify(email, fields.get("password", ""))
        if person is None:
            self._attempts.failed(email, address)
            self._auditor.record(email, "login failed", "password", address=address)
            words = _("The address or the password is wrong.")
            return pages.login(action, shown, email=email, wrong=words, status=401, form_to=form_to)
        self._attempts.succeeded(email, address)
        return _grant(exchange, grant, person)

    async def outside(self, request: Request) -> Response:
        """GET /dex/callback?code=…&state=…: back from an outside issuer."""
        try:
            person, query = await self._connectors.finish(dict(request.query_params))
        except policy.Refused as error:
            self._auditor.record("", "login failed", "outside issuer", address=_address(request), detail=str(error))
            return pages.message(_("Not logged in"), str(error), status=403, link=_to_login())
        exchange, grant, refused = await self._consent(request, query)
        return refused if refused is not None else _grant(exchange, grant, person)

    async def device(self, request: Request) -> Response:
        """GET and POST /dex/device: a person with a session lets a device in."""
        session = self._cookie(request, self.cookie)
        found = await self._credentials.find(render.SESSION, session)
        person = await self._issuer.known(found.person) if found is not None else None
        code = request.query_params.get("user_code", "")
        if person is None:
            back = f"/dex/device?user_code={quote(code)}" if code else "/dex/device"
            return _go(f"/oauth2/start?rd={quote(back)}", 302)
        if request.method != "POST":
            return pages.device("/dex/device", code, who=person.email)
        if foreign_site(request.scope):
            words = _("This form was sent from another site.")
            return pages.device("/dex/device", "", wrong=words, status=403)
        fields = await _fields(request)
        device = self._issuer.pending.device_of(fields.get("user_code", ""))
        if device is None:
            words = _("No device waits with this code. It may have waited too long: start again there.")
            return pages.device("/dex/device", "", wrong=words, who=person.email, status=400)
        said_yes = fields.get("answer") == "yes"
        device.person, device.refused = (person, False) if said_yes else (None, True)
        action = "device login" if said_yes else "device login refused"
        self._auditor.record(person.email, action, device.client_id, address=_address(request))
        if not said_yes:
            return pages.message(_("Refused"), _("The device gets nothing."))
        return pages.message(_("Done"), _("The device goes on by itself. You may close this page."))

    async def _consent(self, request: Request, query: str | None = None) -> tuple[Exchange, Any, Response | None]:
        """The authorization request that the address carries, checked; or the answer that refuses it."""
        exchange = await self._issuer.exchange()
        items = parse_qsl(request.url.query if query is None else query, keep_blank_values=True)
        asked = protocol.Request("GET", items, [], [])
        try:
            return exchange, exchange.get_consent_grant(asked, None), None
        except protocol.OAuth2Error as error:
            if getattr(error, "redirect_uri", None):
                return exchange, None, exchange.handle_error_response(asked, error)
            why = f"{error.error} ({error.description})" if error.description else error.error
            words = _("The program that sent you here asks in a way that cannot be answered: {why}.", why=why)
            return exchange, None, pages.message(_("This login cannot begin"), words, status=400)

    async def _refused(self, request: Request) -> Response | None:
        return (await self._consent(request))[2]

    def _cookie(self, request: Request, name: str) -> str:
        return cookie_value(b"; ".join(v for n, v in request.scope["headers"] if n == b"cookie"), name)

    def _set(self, answer: Response, name: str, value: str, seconds: int, *, readable: bool = False) -> None:
        secure = self._settings.gateway_url.startswith("https:")
        answer.set_cookie(name, value, max_age=seconds, path="/", secure=secure, httponly=not readable, samesite="lax")


def _grant(exchange: Exchange, grant: Any, person: Person) -> Response:
    """Back to the client with a code: 303, so that a form's POST becomes a GET."""
    answer: Response = exchange.create_authorization_response(grant.request, grant_user=person, grant=grant)
    if answer.status_code == 302:
        answer.status_code = 303
    return answer


def _go(target: str, status: int) -> Response:
    return RedirectResponse(target, status, {"cache-control": "no-store", "referrer-policy": "no-referrer"})


def _state(secret: str) -> str:
    """What the address shows of the cookie's secret."""
    return hashlib.sha256(f"state {secret}".encode()).hexdigest()[:32]


async def _fields(request: Request) -> dict[str, str]:
    """A form's fields; files and endless bodies are nothing that a login needs."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > 16384:
            return {}
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _agent(request: Request) -> str:
    return request.headers.get("user-agent", "unknown program")[:120]


def _words(seconds: float) -> str:
    if seconds < 90:
        return _("{n} seconds", n=int(seconds) + 1)
    return _("{n} minutes", n=int(seconds / 60) + 1)


def _to_login() -> tuple[str, str]:
    return _("Log in"), "/oauth2/start"

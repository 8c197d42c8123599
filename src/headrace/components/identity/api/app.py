"""The routes of identity: `/dex`, `/oauth2`, `/login`, `/logout` (open, they authenticate by themselves) and
`/api/identity` (behind the gateway's door: one's own account, and for administrators everybody's).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, request_response

from headrace.api import _wire
from headrace.api.errors import StatusError
from headrace.components.identity.api import issuer as protocol
from headrace.components.identity.policy import Refused
from headrace.components.identity.ui import pages
from headrace.machinery.words import _, of_request, speaking

if TYPE_CHECKING:
    from starlette.requests import Request

    from headrace.components.identity.api.account import Account
    from headrace.components.identity.api.issuer import Issuer
    from headrace.components.identity.api.keys import Keys
    from headrace.components.identity.api.login import Login
    from headrace.machinery.component import ASGIApp

log = logging.getLogger(__name__)
MAX_BODY = 65536


class Dex:
    """Endpoints of the protocol, for programs."""

    def __init__(self, issuer: Issuer, keys: Keys) -> None:
        self._issuer, self._keys = issuer, keys

    async def discovery(self, _request: Request) -> Response:
        """GET /dex/.well-known/openid-configuration."""
        return JSONResponse(self._issuer.discovery())

    async def keys(self, _request: Request) -> Response:
        """GET /dex/keys."""
        return JSONResponse(await self._keys.published(), headers={"cache-control": "max-age=600, must-revalidate"})

    async def token(self, request: Request) -> Response:
        """POST /dex/token."""
        return await self._issuer.token(await _asked(request))

    async def introspect(self, request: Request) -> Response:
        """POST /dex/token/introspect."""
        return await self._issuer.introspect(await _asked(request))

    async def revoke(self, request: Request) -> Response:
        """POST /dex/token/revoke."""
        return await self._issuer.revoke(await _asked(request))

    async def device_code(self, request: Request) -> Response:
        """POST /dex/device/code."""
        return await self._issuer.device(await _asked(request))

    async def userinfo(self, request: Request) -> Response:
        """GET /dex/userinfo."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        person = await self._issuer.person_of(token.strip()) if kind.lower() == "bearer" else None
        if person is None:
            challenge = {"www-authenticate": 'Bearer error="invalid_token"'}
            return JSONResponse({"error": "invalid_token"}, 401, challenge)
        return JSONResponse(
            {
                "sub": person.user_id,
                "email": person.email,
                "email_verified": True,
                "name": person.username,
                "groups": list(person.groups),
            }
        )

    async def health(self, _request: Request) -> Response:
        """GET /dex/healthz."""
        return Response("Health check passed", media_type="text/plain")


async def _asked(request: Request) -> protocol.Request:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            body = b""
            break
    form = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    query = parse_qsl(request.url.query, keep_blank_values=True)
    return protocol.Request(request.method, query, form, list(request.headers.items()))


def build_apps(login: Login, issuer: Issuer, keys: Keys, account: Account) -> dict[str, ASGIApp]:
    """An application for each mount."""
    dex = Dex(issuer, keys)
    both = ["GET", "POST"]
    return {
        "/dex": _app(
            [
                Route("/.well-known/openid-configuration", dex.discovery),
                Route("/keys", dex.keys),
                Route("/token", dex.token, methods=["POST"]),
                Route("/token/introspect", dex.introspect, methods=["POST"]),
                Route("/token/revoke", dex.revoke, methods=["POST"]),
                Route("/userinfo", dex.userinfo, methods=both),
                Route("/healthz", dex.health),
                Route("/device/code", dex.device_code, methods=["POST"]),
                Route("/device", login.device, methods=both),
                Route("/auth", login.authorize),
                Route("/auth/local/login", login.form, methods=both),
                Route("/auth/{connector}", login.connector),
                Route("/callback", login.outside),
            ]
        ),
        "/oauth2": _app(
            [
                Route("/start", login.start),
                Route("/sign_in", login.start),
                Route("/callback", login.callback),
                Route("/sign_out", login.sign_out, methods=both),
                Route("/userinfo", login.userinfo),
                Route("/auth", login.auth),
            ]
        ),
        "/login": Speaking(request_response(login.link)),
        "/logout": Speaking(request_response(login.sign_out)),
        "/api/identity": _app(account.routes()),
    }


class Speaking:
    """Answers in the reader's language."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI 3, http."""
        with speaking(of_request(scope)):
            await self._app(scope, receive, send)


def _app(routes: list[Route]) -> Starlette:
    handlers: dict[Any, Any] = {404: _missing, 405: _missing, Refused: _refused, StatusError: _status}
    return Starlette(routes=routes, exception_handlers=handlers, middleware=[Middleware(Speaking)])


async def _missing(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return JSONResponse({"error": f"{request.method} {request.url.path} is not served."}, status)


async def _refused(request: Request, error: Exception) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        return pages.message(_("That did not work"), str(error), status=400, link=(_("Log in"), "/oauth2/start"))
    return JSONResponse({"error": str(error)}, 400)


async def _status(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StatusError)  # noqa: S101 - that is what the handler is registered for
    return Response(_wire.encode({"error": error.message}), error.code, media_type="application/json")

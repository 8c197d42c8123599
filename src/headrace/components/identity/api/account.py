"""`/api/identity`: one's own sessions and tokens, and the people of this platform; see `accounts` for who may what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.api import _wire
from headrace.api.errors import BadRequest
from headrace.components.identity import render
from headrace.components.identity.api.accounts import MAX_DAYS
from headrace.machinery.requests import json_object, read_body, sender

if TYPE_CHECKING:
    from starlette.requests import Request

    from headrace.components.identity.api.accounts import Accounts
    from headrace.components.identity.render import Facts
    from headrace.components.identity.types import Person

AUDIT_ROWS = 500


class Account:
    """Handlers; the gateway has authenticated, and says who asks."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def routes(self) -> list[Route]:
        """The table."""
        return [
            Route("/me", self.me),
            Route("/kubeconfig", self.kubeconfig),
            Route("/me/password", self.own_password, methods=["PUT"]),
            Route("/sessions", self.sessions),
            Route("/tokens", self.tokens),
            Route("/tokens", self.make_token, methods=["POST"]),
            Route("/credentials/{name}", self.end, methods=["DELETE"]),
            Route("/audit", self.audit),
            Route("/users", self.users),
            Route("/users", self.add_user, methods=["POST"]),
            Route("/users/{email}", self.change_user, methods=["PATCH"]),
            Route("/users/{email}", self.remove_user, methods=["DELETE"]),
        ]

    async def me(self, request: Request) -> Response:
        """Who asks."""
        user = sender(request)
        local = await self._accounts.local(user) is not None
        body = {"user": user.name, "groups": list(user.groups), "local": local}
        return JSONResponse({**body, "admin": await self._accounts.may(user, "create")})

    async def kubeconfig(self, request: Request) -> Response:
        """What `headrace login` needs to write a kubeconfig: `{"name", "server", "ca", "user", "namespace"}`."""
        return JSONResponse(await self._accounts.cluster(sender(request)))

    async def own_password(self, request: Request) -> Response:
        """`{"old": …, "new": …}`: a new password ends every session."""
        body = json_object(await read_body(request))
        await self._accounts.own_password(sender(request), _text(body, "old"), _text(body, "new"))
        return Response(status_code=204)

    async def sessions(self, request: Request) -> Response:
        """One's own sessions."""
        return await self._listed(request, render.SESSION)

    async def tokens(self, request: Request) -> Response:
        """One's own personal access tokens; the secrets are not kept."""
        return await self._listed(request, render.TOKEN)

    async def make_token(self, request: Request) -> Response:
        """`{"name": …, "scopes": […], "days": …}`; the answer holds the secret, once."""
        body = json_object(await read_body(request))
        name, days, scopes = _text(body, "name").strip(), body.get("days", 90), body.get("scopes", [])
        if not isinstance(days, int) or isinstance(days, bool):
            raise BadRequest(f"days: a whole number from 1 to {MAX_DAYS}")
        if not isinstance(scopes, list):
            raise BadRequest("scopes: a list of strings")
        secret, checked = await self._accounts.make_token(sender(request), name, [str(s) for s in scopes], days)
        return JSONResponse({"token": secret, "name": name, "scopes": checked, "days": days}, 201)

    async def end(self, request: Request) -> Response:
        """End one of one's own sessions or tokens."""
        await self._accounts.end(sender(request), request.path_params["name"])
        return Response(status_code=204)

    async def audit(self, request: Request) -> Response:
        """The newest entries: one's own, or everybody's for administrators."""
        return _json({"entries": await self._accounts.audit(sender(request), AUDIT_ROWS)})

    async def users(self, request: Request) -> Response:
        """Everybody with a password."""
        found = await self._accounts.people(sender(request))
        return JSONResponse({"users": [_shown(person, editable=editable) for person, editable in found]})

    async def add_user(self, request: Request) -> Response:
        """`{"email": …, "password": …, "username": …, "groups": […]}`."""
        user, body = sender(request), json_object(await read_body(request))
        await self._accounts.require(user, "create")
        person = await self._accounts.add(
            user,
            _text(body, "email"),
            _text(body, "password"),
            username=_text(body, "username"),
            groups=_groups(body),
        )
        return JSONResponse(_shown(person, editable=True), 201)

    async def change_user(self, request: Request) -> Response:
        """Another password, name or other groups; a new password ends the person's sessions."""
        user, body, email = sender(request), json_object(await read_body(request)), request.path_params["email"].lower()
        await self._accounts.require(user, "patch")
        await self._accounts.change(
            user,
            email,
            password=_text(body, "password") if "password" in body else None,
            groups=_groups(body) if "groups" in body else None,
            username=_text(body, "username") if "username" in body else None,
        )
        return Response(status_code=204)

    async def remove_user(self, request: Request) -> Response:
        """A person, with every session and token."""
        await self._accounts.remove(sender(request), request.path_params["email"].lower())
        return Response(status_code=204)

    async def _listed(self, request: Request, kind: str) -> Response:
        found = await self._accounts.own(sender(request), kind)
        return _json({"items": [_facts(name, facts) for name, facts in found]})


def _text(body: dict[str, Any], key: str) -> str:
    value = body.get(key, "")
    if not isinstance(value, str):
        raise BadRequest(f"{key}: a string is wanted")
    return value


def _groups(body: dict[str, Any]) -> list[str]:
    value = body.get("groups", [])
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise BadRequest("groups: a list of strings is wanted")
    return value


def _shown(person: Person, *, editable: bool) -> dict[str, Any]:
    groups = list(person.groups)
    return {"email": person.email, "username": person.username, "groups": groups, "editable": editable}


def _facts(name: str, facts: Facts) -> dict[str, Any]:
    return {
        "name": name,
        "detail": facts.detail,
        "created": facts.created,
        "expires": facts.expires,
        "scopes": facts.scopes,
    }


def _json(body: dict[str, Any]) -> Response:
    return Response(_wire.encode(body), media_type="application/json")

"""`/api/identity`: one's own sessions and tokens, and the people of this platform.

Everybody manages what is theirs. People and the whole audit log are for who may manage the objects in which people are
kept (`passwords.dex.coreos.com` in namespace `auth`): the API server's RBAC decides, as for everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.api import _wire
from headrace.api.errors import BadRequest, Forbidden, NotFound
from headrace.components.identity import policy, render
from headrace.components.identity.types import GROUP, NAMESPACE, Password

if TYPE_CHECKING:
    from starlette.requests import Request

    from headrace.api.identity import User
    from headrace.client.base import Client
    from headrace.components.identity.api.credentials import Credentials
    from headrace.components.identity.api.directory import Directory
    from headrace.components.identity.render import Facts
    from headrace.components.identity.types import Person
    from headrace.machinery.audit import Auditor

MAX_DAYS = 366
MAX_BODY = 65536
AUDIT_ROWS = 500


class Account:
    """Handlers; the gateway has authenticated, and says who asks."""

    def __init__(self, client: Client, directory: Directory, credentials: Credentials, auditor: Auditor) -> None:
        self._client, self._directory, self._credentials, self._auditor = client, directory, credentials, auditor

    def routes(self) -> list[Route]:
        """The table."""
        return [
            Route("/me", self.me),
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
        user = _user(request)
        person = await self._directory.find(user.name)
        body = {"user": user.name, "groups": list(user.groups), "local": person is not None}
        return JSONResponse({**body, "admin": await self._may(user, "create")})

    async def own_password(self, request: Request) -> Response:
        """`{"old": …, "new": …}`: a new password ends every other session."""
        user, body = _user(request), await _body(request)
        if await self._directory.verify(user.name, _text(body, "old")) is None:
            self._auditor.record(user.name, "password not changed", "wrong old password")
            raise Forbidden("the old password is wrong")
        await self._directory.change(user.name, password=_text(body, "new"))
        await self._credentials.end_all(user.name, tokens=False)
        self._auditor.record(user.name, "password changed", user.name)
        return Response(status_code=204)

    async def sessions(self, request: Request) -> Response:
        """One's own sessions."""
        return await self._listed(request, render.SESSION)

    async def tokens(self, request: Request) -> Response:
        """One's own personal access tokens; the secrets are not kept."""
        return await self._listed(request, render.TOKEN)

    async def make_token(self, request: Request) -> Response:
        """`{"name": …, "scopes": […], "days": …}`; the answer holds the secret, once."""
        user, body = _user(request), await _body(request)
        person = await self._person(user)
        name, days = _text(body, "name").strip(), body.get("days", 90)
        if not name or len(name) > 60:
            raise BadRequest("name: a token needs a name of up to 60 letters, by which you will know it")
        if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= MAX_DAYS:
            raise BadRequest(f"days: a whole number from 1 to {MAX_DAYS}")
        scopes = body.get("scopes", [])
        if not isinstance(scopes, list):
            raise BadRequest("scopes: a list of strings")
        checked = policy.checked_scopes([str(s) for s in scopes])
        secret = await self._credentials.make(render.TOKEN, person, days * 86400, detail=name, scopes=checked)
        self._auditor.record(user.name, "token created", name, detail=" ".join(sorted(checked)))
        return JSONResponse({"token": secret, "name": name, "scopes": sorted(checked), "days": days}, 201)

    async def end(self, request: Request) -> Response:
        """End one of one's own sessions or tokens."""
        user, name = _user(request), request.path_params["name"]
        if not await self._credentials.end_named(user.name, name):
            raise NotFound(f"you have no session or token {name!r}")
        self._auditor.record(user.name, "credential ended", name)
        return Response(status_code=204)

    async def audit(self, request: Request) -> Response:
        """The newest entries: one's own, or everybody's for administrators."""
        user = _user(request)
        everybody = await self._may(user, "list")
        entries = self._auditor.recent(AUDIT_ROWS, user="" if everybody else user.name)
        return _json({"entries": entries})

    async def users(self, request: Request) -> Response:
        """Everybody with a password."""
        await self._require(_user(request), "list")
        found = await self._directory.people()
        return JSONResponse({"users": [_shown(person, editable=editable) for person, editable in found]})

    async def add_user(self, request: Request) -> Response:
        """`{"email": …, "password": …, "username": …, "groups": […]}`."""
        user, body = _user(request), await _body(request)
        await self._require(user, "create")
        person = await self._directory.add(
            _text(body, "email"), _text(body, "password"), username=_text(body, "username"), groups=_groups(body)
        )
        self._auditor.record(user.name, "user created", person.email)
        return JSONResponse(_shown(person, editable=True), 201)

    async def change_user(self, request: Request) -> Response:
        """Another password, name or other groups; a new password ends the person's sessions."""
        user, body, email = _user(request), await _body(request), request.path_params["email"].lower()
        await self._require(user, "patch")
        await self._directory.change(
            email,
            password=_text(body, "password") if "password" in body else None,
            groups=_groups(body) if "groups" in body else None,
            username=_text(body, "username") if "username" in body else None,
        )
        if "password" in body:
            await self._credentials.end_all(email, tokens=False)
        self._auditor.record(user.name, "user changed", email, detail=" ".join(sorted(body)))
        return Response(status_code=204)

    async def remove_user(self, request: Request) -> Response:
        """A person, with every session and token."""
        user, email = _user(request), request.path_params["email"].lower()
        await self._require(user, "delete")
        await self._directory.remove(email)
        await self._credentials.end_all(email, tokens=True)
        self._auditor.record(user.name, "user deleted", email)
        return Response(status_code=204)

    async def _listed(self, request: Request, kind: str) -> Response:
        found = await self._credentials.of(_user(request).name, kind)
        return _json({"items": [_facts(name, facts) for name, facts in found]})

    async def _person(self, user: User) -> Person:
        found = await self._directory.find(user.name)
        if found is None:
            sessions = await self._credentials.of(user.name, render.SESSION)
            if sessions:
                return sessions[0][1].person
            raise Forbidden(f"{user.name} is not a person who logs in: service accounts have tokens of their own")
        return found

    async def _may(self, user: User, verb: str) -> bool:
        plural = Password.INFO.plural
        return await self._client.review_access(user, verb, group=GROUP, resource=plural, namespace=NAMESPACE)

    async def _require(self, user: User, verb: str) -> None:
        if not await self._may(user, verb):
            raise Forbidden(
                f"{user.name} may not {verb} passwords.{GROUP} in namespace {NAMESPACE}: managing people is for "
                "administrators"
            )


def _user(request: Request) -> User:
    user: User = request.scope["state"]["user"]
    return user


async def _body(request: Request) -> dict[str, Any]:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY:
            raise BadRequest(f"the body is larger than {MAX_BODY} bytes")
    try:
        found = _wire.decode_any(raw)
    except _wire.DecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadRequest("the body must be a JSON object")
    return found


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

"""The OIDC issuer: answers the protocol's requests (`grants`) over people, clients and keys.

Invariant: nobody gets a token who is not known at that moment.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import msgspec
from authlib.oauth2.rfc6749 import OAuth2Error
from authlib.oauth2.rfc8628 import DEVICE_CODE_GRANT_TYPE

from headrace.components.identity import render
from headrace.components.identity.api.grants import SCOPES, Client, Exchange, Request, Token
from headrace.components.identity.api.keys import ALGORITHM
from headrace.components.identity.api.waiting import Pending
from headrace.components.identity.types import Person, StaticClient
from headrace.machinery.people import KUBECTL_CLIENT

if TYPE_CHECKING:
    from starlette.responses import Response

    from headrace.components.identity.api.credentials import Credentials
    from headrace.components.identity.api.directory import Directory
    from headrace.components.identity.api.keys import Keys
    from headrace.machinery.clock import Clock

OWN_CLIENT = "kubeflow-oidc-authservice"
"""The gateway's own, by the name that Kubeflow's distribution gives it."""
CLI_CLIENT = "headrace-cli"
CALLBACK = "/oauth2/callback"
REFRESH_SECONDS = 90 * 24 * 3600


class Issuer:
    """Answers the protocol's requests. `url` is the issuer's name, as tokens carry it."""

    def __init__(self, url: str, directory: Directory, credentials: Credentials, keys: Keys, clock: Clock) -> None:
        self.url = url
        self.pending = Pending(clock)
        self._directory, self._credentials, self._keys, self._clock = directory, credentials, keys, clock
        self._own = (
            StaticClient(id=OWN_CLIENT, name="Headrace", redirect_uris=[CALLBACK], public=True),
            StaticClient(id=CLI_CLIENT, name="the command line", public=True),
        )
        self._kubectl = StaticClient(id=KUBECTL_CLIENT, name="kubectl", public=True)

    async def exchange(self, refresh_token: str = "", *, asked: Token | None = None) -> Exchange:
        """For one request."""
        facts = await self._credentials.find(render.REFRESH, refresh_token) if refresh_token else None
        if facts is not None:
            person = await self.known(facts.person)
            facts = None if person is None else msgspec.structs.replace(facts, person=person)
        now = int(self._clock.now().timestamp())
        key = await self._keys.current()
        refresh = refresh_token, facts
        return Exchange(self.pending, await self.clients(), key, self.url, now=now, refresh=refresh, asked=asked)

    async def clients(self) -> dict[str, Client]:
        """By id: our own, then those of Dex's configuration, which may have a `kubernetes` of its own."""
        found: dict[str, Client] = {KUBECTL_CLIENT: Client(self._kubectl, "")}
        for static in (await self._directory.config()).static_clients:
            name = static.id or await self._directory.environment(static.id_env)
            secret = static.secret or (
                await self._directory.environment(static.secret_env) if static.secret_env else ""
            )
            if name and (secret or static.public):
                found[name] = Client(static, secret)
        return {**found, **{static.id: Client(static, "") for static in self._own}}

    async def token(self, request: Request) -> Response:
        """POST /dex/token."""
        exchange = await self.exchange(request.form.get("refresh_token", ""))
        answer: Response = exchange.create_token_response(request)
        for secret, person, client, scope in exchange.kept:
            facts = self._credentials.facts(person, REFRESH_SECONDS, client=client, scope=scope)
            await self._credentials.keep(render.REFRESH, secret, facts)
        if exchange.used_refresh:
            await self._credentials.end(render.REFRESH, exchange.refresh[0])
        return answer

    async def device(self, request: Request) -> Response:
        """POST /dex/device/code."""
        answer: Response = (await self.exchange()).create_endpoint_response("device_authorization", request)
        return answer

    async def introspect(self, request: Request) -> Response:
        """POST /dex/token/introspect."""
        exchange = await self.exchange(asked=await self._token(request.form.get("token", "")))
        answer: Response = exchange.create_endpoint_response("introspection", request)
        return answer

    async def revoke(self, request: Request) -> Response:
        """POST /dex/token/revoke."""
        secret = request.form.get("token", "")
        exchange = await self.exchange(asked=await self._token(secret))
        answer: Response = exchange.create_endpoint_response("revocation", request)
        if exchange.revoked:
            await self._credentials.end(render.REFRESH, secret)
        return answer

    async def _token(self, text: str) -> Token | None:
        """What a token of this issuer says; None for what is none, or not good any more."""
        facts = await self._credentials.find(render.REFRESH, text)
        if facts is not None:
            person = await self.known(facts.person)
            claims = {"exp": int(facts.expires.timestamp()), "iat": int(facts.created.timestamp())}
            about = {"iss": self.url, "sub": facts.person.user_id, "email": facts.person.email, "scope": facts.scope}
            return Token(facts.client, {**about, **claims}, refresh=True) if person is not None else None
        signed = await self._keys.verify(text, self.url) if text.count(".") == 2 else None
        if signed is None or await self.person_of(text) is None:
            return None
        return Token(str(signed["aud"]), {**signed, "username": signed.get("name", "")})

    async def redeem(self, code: str, verifier: str) -> Person | None:
        """The gateway's own exchange of a code, without a connection to itself."""
        form = [
            ("grant_type", "authorization_code"),
            ("client_id", OWN_CLIENT),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", verifier),
        ]
        waiting = self.pending.codes.get(code)
        answer: Response = (await self.exchange()).create_token_response(Request("POST", [], form, []))
        return waiting.person if waiting is not None and answer.status_code == 200 else None

    async def known(self, person: Person) -> Person | None:
        """The person as known now: who has a password here may have been changed or deleted."""
        return await self._directory.find(person.email) if person.connector == "local" else person

    async def person_of(self, token: str, audience: str = "") -> Person | None:
        """The person of an ID or access token of this issuer, made for this client or for any that there is."""
        claims = await self._keys.verify(token, self.url)
        if claims is None or claims["aud"] not in ({audience} if audience else await self.clients()):
            return None
        connector = claims.get("federated_claims", {}).get("connector_id", "")
        groups = tuple(claims.get("groups", ()))
        return await self.known(Person(claims["email"], claims["sub"], claims.get("name", ""), groups, connector))

    def discovery(self) -> dict[str, Any]:
        """`/.well-known/openid-configuration`."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/auth",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "device_authorization_endpoint": f"{self.url}/device/code",
            "introspection_endpoint": f"{self.url}/token/introspect",
            "revocation_endpoint": f"{self.url}/token/revoke",
            "grant_types_supported": ["authorization_code", "refresh_token", DEVICE_CODE_GRANT_TYPE],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "code_challenge_methods_supported": ["S256", "plain"],
            "scopes_supported": list(SCOPES[:5]),
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "claims_supported": ["iss", "sub", "aud", "iat", "exp", "email", "email_verified", "name", "groups"],
        }


def verifier() -> str:
    """A PKCE verifier."""
    return secrets.token_urlsafe(48)


__all__ = ["Issuer", "OAuth2Error", "Request"]

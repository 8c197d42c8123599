"""The protocol in Authlib's words: clients, requests and grants over people and codes of this platform.

Authlib is synchronous and everything else here is not, so a request's `Exchange` is given what it may need before
Authlib begins, and what Authlib wants kept is written after it has ended (`issuer`).

Invariants: a code works once, for its client and address only; public clients prove possession by PKCE; a refresh
token is replaced when it is used; who asks about tokens has shown a secret.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jwt as pyjwt
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    ClientMixin,
    OAuth2Payload,
    OAuth2Request,
    UnsupportedTokenTypeError,
)
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc8628 import DEVICE_CODE_GRANT_TYPE, DeviceAuthorizationEndpoint, DeviceCodeGrant
from authlib.oidc.core.grants import OpenIDCode
from joserfc.jwk import RSAKey
from starlette.responses import JSONResponse, Response

from headrace.components.identity import render
from headrace.components.identity.api.credentials import fresh
from headrace.components.identity.api.keys import ALGORITHM
from headrace.components.identity.api.waiting import CODE_SECONDS, DEVICE_INTERVAL, DEVICE_SECONDS, Code, Device

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.components.identity.api.keys import SigningKey
    from headrace.components.identity.api.waiting import Pending
    from headrace.components.identity.render import Facts
    from headrace.components.identity.types import Person, StaticClient

SCOPES = ("openid", "profile", "email", "groups", "offline_access", "federated:id")
TOKEN_SECONDS = 24 * 3600

Items = list[tuple[str, str]]


class Client(ClientMixin):
    """A client in Authlib's words."""

    def __init__(self, static: StaticClient, secret: str) -> None:
        self.static, self._secret = static, secret

    def get_client_id(self) -> str:
        """Its id."""
        return self.static.id

    def get_default_redirect_uri(self) -> str | None:
        """The only address, when there is one."""
        return self.static.redirect_uris[0] if len(self.static.redirect_uris) == 1 else None

    def get_allowed_scope(self, scope: str) -> str:
        """Of what it asks for, what there is."""
        return " ".join(s for s in (scope or "").split() if s in SCOPES or s.startswith("audience:"))

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Registered addresses, letter by letter; for public clients also loopback and out of band, as Dex."""
        if redirect_uri in self.static.redirect_uris:
            return True
        return self.static.public and not self.static.redirect_uris and _is_loopback(redirect_uri)

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether this is its secret."""
        return bool(self._secret) and hmac.compare_digest(self._secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Public clients have nothing to show; the others must."""
        del endpoint
        return (method == "none") == self.static.public

    def check_response_type(self, response_type: str) -> bool:
        """The code flow only."""
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        """Each client may use each grant that there is."""
        return grant_type in {"authorization_code", "refresh_token", DEVICE_CODE_GRANT_TYPE}


def _is_loopback(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return parts.scheme == "http" and parts.hostname in {"localhost", "127.0.0.1", "::1"} and not parts.fragment
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Token:
    """A token that somebody asks about, or wants to end."""

    client: str
    claims: dict[str, Any]
    refresh: bool = False

    def check_client(self, client: Client) -> bool:
        """Whether it was made for this client."""
        return self.client == client.get_client_id()

    def is_expired(self) -> bool:
        """Those that have ended are not found."""
        return False

    def is_revoked(self) -> bool:
        """Those that have ended are not found."""
        return False


class _Payload(OAuth2Payload):
    def __init__(self, items: Items) -> None:
        self._items = items

    @property
    def data(self) -> dict[str, str]:
        return dict(self._items)

    @property
    def datalist(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for key, value in self._items:
            found.setdefault(key, []).append(value)
        return found


class Request(OAuth2Request):
    """A request in Authlib's words. The address is never looked at: whether to use TLS is the gateway's business."""

    def __init__(self, method: str, query: Items, form: Items, headers: Iterable[tuple[str, str]]) -> None:
        super().__init__(method, "https://issuer.invalid/", headers={k.title(): v for k, v in headers})
        self._query, self._fields = dict(query), dict(form)
        self.payload = _Payload([*query, *form])

    @property
    def args(self) -> dict[str, str]:
        """The query."""
        return self._query

    @property
    def form(self) -> dict[str, str]:
        """The body."""
        return self._fields


class Exchange(AuthorizationServer):
    """One request to the issuer, with what it may need; `kept` is what must be written afterwards."""

    def __init__(
        self,
        pending: Pending,
        clients: dict[str, Client],
        key: SigningKey,
        issuer: str,
        *,
        now: int,
        refresh: tuple[str, Facts | None] = ("", None),
        asked: Token | None = None,
    ) -> None:
        super().__init__(scopes_supported=None)
        self.pending, self._clients, self.key, self.issuer, self.now = pending, clients, key, issuer, now
        self.refresh, self.asked = refresh, asked
        self.kept: list[tuple[str, Person, str, str]] = []
        self.used_refresh = self.revoked = False
        self.register_token_generator("default", self._generate)
        openid = _IdToken(self)
        self.register_grant(_CodeGrant, [openid, CodeChallenge(required=True)])
        self.register_grant(_RefreshGrant, [openid.process])
        self.register_grant(_DeviceGrant, [openid.process])
        for endpoint in (_DeviceEndpoint, _Introspection, _Revocation):
            self.register_endpoint(endpoint)

    def query_client(self, client_id: str) -> Client | None:
        """See Authlib."""
        return self._clients.get(client_id)

    def save_token(self, token: dict[str, Any], request: Request) -> None:
        """See Authlib; access tokens are signed and need no keeping."""
        if "refresh_token" in token:
            self.kept.append((token["refresh_token"], request.user, request.client.get_client_id(), token["scope"]))

    def create_oauth2_request(self, request: Request) -> Request:
        """See Authlib."""
        return request

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def handle_response(self, status: int, body: Any, headers: Iterable[tuple[str, str]]) -> Response:
        """See Authlib."""
        fields = {**dict(headers), "cache-control": "no-store", "pragma": "no-cache"}
        fields.pop("Content-Type", None)
        if isinstance(body, dict):
            return JSONResponse(body, status, fields)
        return Response(body or b"", status, fields)

    def sign(self, claims: dict[str, Any]) -> str:
        """A JWT of this issuer."""
        return pyjwt.encode(claims, self.key.pem, ALGORITHM, headers={"kid": self.key.id})

    def claims(self, person: Person, client_id: str) -> dict[str, Any]:
        """What tokens of this issuer say of a person."""
        return {
            "iss": self.issuer,
            "sub": person.user_id,
            "aud": client_id,
            "iat": self.now,
            "exp": self.now + TOKEN_SECONDS,
            "email": person.email,
            "email_verified": True,
            "name": person.username,
            "groups": list(person.groups),
            "federated_claims": {"connector_id": person.connector, "user_id": person.user_id},
        }

    def _generate(  # noqa: PLR0917 - as Authlib calls it
        self,
        grant_type: str,
        client: Client,
        user: Person,
        scope: str = "",
        expires_in: int | None = None,
        include_refresh_token: bool = True,
    ) -> dict[str, Any]:
        del grant_type, expires_in
        token = {
            "token_type": "bearer",
            "access_token": self.sign(self.claims(user, client.get_client_id())),
            "expires_in": TOKEN_SECONDS,
            "scope": scope,
        }
        if include_refresh_token and "offline_access" in (scope or "").split():
            token["refresh_token"] = fresh(render.REFRESH)
        return token


class _IdToken(OpenIDCode):
    """Puts an ID token beside the access token."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(require_nonce=False)
        self._exchange = exchange

    def process(self, grant: Any) -> None:
        """As an extension of grants without an authorization request."""
        grant.register_hook("after_create_token_response", self.process_token)

    def exists_nonce(self, nonce: str, request: Request) -> bool:
        """Codes work once, so a nonce need not be remembered."""
        del nonce, request
        return False

    def resolve_client_private_key(self, client: Client) -> RSAKey:
        """See Authlib."""
        del client
        return RSAKey.import_key(self._exchange.key.pem)

    def get_client_algorithm(self, client: Client) -> str:
        """See Authlib."""
        del client
        return ALGORITHM

    def get_encode_header(self, client: Client) -> dict[str, Any]:
        """See Authlib."""
        del client
        return {"alg": ALGORITHM, "kid": self._exchange.key.id}

    def get_client_claims(self, client: Client) -> dict[str, Any]:
        """See Authlib."""
        now = self._exchange.now
        return {"iss": self._exchange.issuer, "aud": client.get_client_id(), "iat": now, "exp": now + TOKEN_SECONDS}

    def generate_user_info(self, user: Person, scope: str) -> dict[str, Any]:
        """See Authlib."""
        del scope
        claims = self._exchange.claims(user, "")
        return {key: claims[key] for key in claims if key not in {"iss", "aud", "iat", "exp"}}


class _CodeGrant(AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post", "none")

    def save_authorization_code(self, code: str, request: Request) -> None:
        pending, data = self.server.pending, request.payload.data
        pending.tidy()
        pending.codes[code] = Code(
            request.client.get_client_id(),
            request.user,
            data.get("redirect_uri", ""),
            request.scope or "",
            pending.clock.monotonic() + CODE_SECONDS,
            data.get("nonce", ""),
            data.get("code_challenge", ""),
            data.get("code_challenge_method", ""),
            self.server.now,
        )

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        # It is gone with the first look: a wrong verifier does not get a second try.
        found: Code | None = self.server.pending.codes.pop(code, None)
        if found is None or found.ends <= self.server.pending.clock.monotonic():
            return None
        return found if found.client_id == client.get_client_id() else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """It is gone already."""

    def authenticate_user(self, authorization_code: Code) -> Person:
        return authorization_code.person


@dataclass(frozen=True, slots=True)
class _Refresh:
    facts: Facts

    def check_client(self, client: Client) -> bool:
        return self.facts.client == client.get_client_id()

    def get_scope(self) -> str:
        return self.facts.scope


class _RefreshGrant(RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post", "none")
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> _Refresh | None:
        secret, facts = self.server.refresh
        return _Refresh(facts) if facts is not None and secret == refresh_token else None

    def authenticate_user(self, refresh_token: _Refresh) -> Person:
        return refresh_token.facts.person

    def revoke_old_credential(self, refresh_token: _Refresh) -> None:
        del refresh_token
        self.server.used_refresh = True


class _DeviceGrant(DeviceCodeGrant):
    def query_device_credential(self, device_code: str) -> Device | None:
        found: Device | None = self.server.pending.devices.get(device_code)
        return found

    def query_user_grant(self, user_code: str) -> tuple[Person | None, bool] | None:
        devices = self.server.pending.devices
        key = next((k for k, d in devices.items() if d.user_code == user_code), "")
        device = devices.get(key)
        if device is None or (device.person is None and not device.refused):
            return None
        del devices[key]
        return device.person, not device.refused

    def should_slow_down(self, credential: Device) -> bool:
        now = credential.clock.monotonic()
        early = bool(credential.asked) and now - credential.asked < DEVICE_INTERVAL - 1
        credential.asked = now
        return early


class _DeviceEndpoint(DeviceAuthorizationEndpoint):
    EXPIRES_IN = DEVICE_SECONDS
    INTERVAL = DEVICE_INTERVAL

    def get_verification_uri(self) -> str:
        return f"{self.server.issuer}/device"

    def save_device_credential(self, client_id: str, scope: str, data: dict[str, Any]) -> None:
        pending = self.server.pending
        pending.tidy()
        ends = pending.clock.monotonic() + DEVICE_SECONDS
        pending.devices[data["device_code"]] = Device(client_id, data["user_code"], scope or "", ends, pending.clock)


class _Introspection(IntrospectionEndpoint):
    """RFC 7662, for clients with a secret: what a token says, as long as it is good."""

    CLIENT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")

    def check_permission(self, token: Token, client: Client, request: Request) -> bool:
        """Programs behind other clients may ask as well, as Dex has it: whoever asks holds the token."""
        del token, client, request
        return True

    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        del token_string, token_type_hint
        found: Token | None = self.server.asked
        return found

    def introspect_token(self, token: Token) -> dict[str, Any]:
        use = "refresh_token" if token.refresh else "access_token"
        return {"active": True, "client_id": token.client, "token_type": "Bearer", "token_use": use, **token.claims}


class _Revocation(RevocationEndpoint):
    """RFC 7009, for refresh tokens. The others are signed and end by themselves, or with the person."""

    CLIENT_AUTH_METHODS = ("client_secret_basic", "client_secret_post", "none")

    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        del token_string, token_type_hint
        found: Token | None = self.server.asked
        if found is not None and not found.refresh:
            raise UnsupportedTokenTypeError
        return found

    def revoke_token(self, token: Token, request: Request) -> None:
        del token, request
        self.server.revoked = True

"""Outside issuers (Google, Keycloak, another Dex) as ways to log in: Dex's connectors of type `oidc`.

Code flow with PKCE and a nonce; what a token says is believed after its signature, issuer, audience, nonce and times
were checked against the issuer's published keys. Begun logins wait in memory for a quarter of an hour.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from headrace.components.identity.policy import EMAIL, MAX_EMAIL, Refused, safe_groups
from headrace.components.identity.types import Person
from headrace.machinery.words import _

if TYPE_CHECKING:
    from headrace.components.identity.api.directory import Directory
    from headrace.components.identity.types import Connector
    from headrace.machinery.clock import Clock

log = logging.getLogger(__name__)

ISSUERS = {"google": "https://accounts.google.com"}
"""Types that are OIDC with a known issuer."""
TYPES = frozenset({"oidc", "keycloak", *ISSUERS})
ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "EdDSA"]
WAIT_SECONDS = 900.0
MAX_WAITING = 1000
TIMEOUT = aiohttp.ClientTimeout(total=15)
MAX_ANSWER = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Begun:
    connector: str
    query: str
    verifier: str
    nonce: str
    ends: float


class Connectors:
    """Sends people to outside issuers and takes them back."""

    def __init__(self, directory: Directory, clock: Clock, callback: str) -> None:
        self._directory, self._clock, self._callback = directory, clock, callback
        self._begun: dict[str, _Begun] = {}

    async def begin(self, name: str, query: str) -> str | None:
        """Where the browser goes; None when there is no such connector. Raises Refused."""
        connector = await self._find(name)
        if connector is None:
            return None
        facts = await self._discover(connector)
        begun = _Begun(
            name, query, secrets.token_urlsafe(48), secrets.token_urlsafe(24), self._clock.monotonic() + WAIT_SECONDS
        )
        state = secrets.token_urlsafe(24)
        self._tidy()
        self._begun[state] = begun
        scopes = connector.config.scopes or ["openid", "profile", "email"]
        asked = {
            "client_id": await self._expand(connector.config.client_id),
            "redirect_uri": self._callback,
            "response_type": "code",
            "scope": " ".join(dict.fromkeys(["openid", *scopes])),
            "state": state,
            "nonce": begun.nonce,
            "code_challenge": urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest()).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in facts["authorization_endpoint"] else "?"
        return f"{facts['authorization_endpoint']}{joint}{urlencode(asked)}"

    async def finish(self, given: dict[str, str]) -> tuple[Person, str]:
        """The person who came back, and the authorization request that it was about. Raises Refused."""
        self._tidy()
        begun = self._begun.pop(given.get("state", ""), None)
        if begun is None:
            raise Refused(_("This login was begun too long ago, or by somebody else. Begin again."))
        if "error" in given:
            raise Refused(_("The other side refused: {why}", why=given.get("error_description") or given["error"]))
        connector = await self._find(begun.connector)
        if connector is None:
            raise Refused(_("There is no way to log in called {name}.", name=begun.connector))
        facts = await self._discover(connector)
        client_id = await self._expand(connector.config.client_id)
        token = await self._ask(
            facts["token_endpoint"],
            {
                "grant_type": "authorization_code",
                "code": given.get("code", ""),
                "redirect_uri": self._callback,
                "client_id": client_id,
                "client_secret": await self._expand(connector.config.client_secret),
                "code_verifier": begun.verifier,
            },
        )
        keys = await self._ask(facts["jwks_uri"])
        claims = _checked(str(token.get("id_token", "")), keys, facts["issuer"], client_id, begun.nonce, self._now())
        return person_from(connector, claims), begun.query

    def _now(self) -> int:
        return int(self._clock.precise().timestamp())

    async def _find(self, name: str) -> Connector | None:
        found = next((c for c in (await self._directory.config()).connectors if c.id == name), None)
        if found is not None and found.type not in TYPES:
            raise Refused(f"Connectors of type {found.type!r} are not supported: there are {', '.join(sorted(TYPES))}.")
        return found

    async def _expand(self, value: str) -> str:
        """A value, or what it names: `$NAME` is looked up where Dex's environment would be."""
        return await self._directory.environment(value[1:]) if value.startswith("$") else value

    async def _discover(self, connector: Connector) -> dict[str, Any]:
        issuer = (connector.config.issuer or ISSUERS.get(connector.type, "")).rstrip("/")
        facts = await self._ask(f"{issuer}/.well-known/openid-configuration")
        wanted = ("authorization_endpoint", "token_endpoint", "jwks_uri", "issuer")
        if str(facts.get("issuer", "")).rstrip("/") != issuer or not all(isinstance(facts.get(w), str) for w in wanted):
            raise Refused(f"{issuer} does not describe itself as the issuer {issuer}.")
        return facts

    async def _ask(self, url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        """JSON from an outside issuer."""
        try:
            async with (
                aiohttp.ClientSession(timeout=TIMEOUT) as session,
                session.request("GET" if form is None else "POST", url, data=form, allow_redirects=False) as answer,
            ):
                body = await answer.content.read(MAX_ANSWER)
                found = json.loads(body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.warning("the outside issuer does not answer at %s: %s", url, error)
            raise Refused(_("The outside issuer does not answer: {why}.", why=str(error) or "timeout")) from error
        if answer.status != 200 or not isinstance(found, dict):
            why = found.get("error_description") or found.get("error") if isinstance(found, dict) else ""
            raise Refused(f"The outside issuer answers {answer.status}{f': {why}' if why else ''}.")
        return found

    def _tidy(self) -> None:
        now = self._clock.monotonic()
        self._begun = {k: b for k, b in self._begun.items() if b.ends > now}
        while len(self._begun) >= MAX_WAITING:
            del self._begun[next(iter(self._begun))]


def _checked(token: str, keys: dict[str, Any], issuer: str, client_id: str, nonce: str, now: int) -> dict[str, Any]:  # noqa: PLR0917
    """The claims of an ID token. Raises Refused."""
    try:
        found = jwt.decode(token, KeySet.import_key_set(keys), algorithms=ALGORITHMS)  # type: ignore[arg-type]
        jwt.JWTClaimsRegistry(
            now=now,
            leeway=60,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": client_id},
            exp={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        ).validate(found.claims)
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"The outside issuer's token cannot be believed: {error}.") from error
    return dict(found.claims)


def person_from(connector: Connector, claims: dict[str, Any]) -> Person:
    """The person that checked claims are about. Raises Refused."""
    config = connector.config
    email_key = config.claim_mapping.get("email", "email")
    email = str(claims.get(email_key, "")).strip().lower()
    if len(email) > MAX_EMAIL or not EMAIL.fullmatch(email):
        raise Refused(f"The outside issuer says no e-mail address (claim {email_key!r}).")
    if claims.get("email_verified") is not True and not config.insecure_skip_email_verified:
        raise Refused(_("The outside issuer has not verified the address {email}.", email=email))
    if config.hosted_domains and str(claims.get("hd", email.rpartition("@")[2])) not in config.hosted_domains:
        raise Refused(f"{email} is not of {' or '.join(config.hosted_domains)}.")
    groups = claims.get(config.claim_mapping.get("groups", "groups"), []) if config.insecure_enable_groups else []
    name = str(claims.get(config.user_name_key or "name", "") or email)
    kept = safe_groups([str(g) for g in groups]) if isinstance(groups, list) else ()
    return Person(email, str(claims["sub"]), name, kept, connector.id)

"""Service-account tokens: issued on request, bound to objects, checked against what exists now.

A token is a JWT (RS256; ES256 where only the platform's gateway is meant) with the claims of Kubernetes' bound tokens.
Its signature is checked once and remembered; whether its service account (and pod, when it is bound to one) still
exists is asked on every use, so that deletion revokes at once. Signing keys change once a year (`pki.signing`); the
token names the one that signed it.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.utils import base64url_encode

from headrace.api import _wire
from headrace.api.core import Pod, ServiceAccount
from headrace.api.errors import Conflict
from headrace.api.identity import AUTHENTICATED, MASTERS, User, service_account
from headrace.api.meta import ObjectMeta, Struct
from headrace.apiserver.authz.rbac import Attributes
from headrace.apiserver.pki import signing
from headrace.apiserver.registry.core import forbidden
from headrace.machinery.settings import CLUSTER_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headrace.api.meta import KindInfo
    from headrace.apiserver.registry import Registry
    from headrace.machinery.clock import Clock
    from headrace.store.base import Record

ISSUER = f"https://kubernetes.default.svc.{CLUSTER_DOMAIN}"
"""Also the audience of tokens that name none: the API server itself."""
ALGORITHM, OWN_ALGORITHM = "RS256", "ES256"
LEEWAY = dt.timedelta(seconds=60)
"""How long a token of a pod that is being deleted still counts, so that its last words are heard."""
REMEMBERED = 1024
"""Tokens that need not be verified again, which takes a tenth of a millisecond. A step of a pipeline has two."""
MAX_TOKEN_BYTES = 8192
SYSTEM = User("system:apiserver", groups=(MASTERS, AUTHENTICATED))
"""The server itself, when it reads what a token is bound to."""

GATEWAY_AUDIENCE = "pipelines.kubeflow.org"
"""What the platform's gateway accepts besides the API server's own audience."""
DELEGATED = "headrace.dev/user"
DELEGATED_SECONDS = 60

Claims = dict[str, Any]


class TokenIssuer:
    """Signs and checks tokens; the only holder of the signing key."""

    def __init__(self, key: Path, registry: Registry, clock: Clock) -> None:
        self._path = key
        self._registry, self._clock = registry, clock
        self._publics: dict[str, signing.PublicKey] = {}
        self.reload()
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()
        """By the token's hash, as `_users`."""
        self._users: dict[bytes, _Seen] = {}

    def reload(self) -> None:
        """Read the keys again: a new one signs, those that signed before verify."""
        self._key, self._own_key = signing.load(self._path), signing.load_own(self._path)
        keys = [self._key.public_key(), self._own_key.public_key(), *signing.retired(self._path)]
        self._publics = {signing.key_id(key): key for key in keys}
        self.key_id, own_id, *_ = self._publics
        self._signer = _Signer(self._key, ALGORITHM, self.key_id)
        self._own_signer = _Signer(self._own_key, OWN_ALGORITHM, own_id)

    def _sign(self, claims: Claims) -> str:
        return (self._own_signer if claims["aud"] == [GATEWAY_AUDIENCE] else self._signer).sign(claims)

    async def issue(
        self,
        user: User,
        namespace: str,
        service_account: str,
        *,
        audiences: Sequence[str] = (),
        expiration_seconds: int = 3600,
        pod_name: str = "",
        pod_uid: str = "",
    ) -> str:
        """See client.base.TokenIssuer."""
        allowed = await self._registry.authorize(
            user,
            "create",
            resource=ServiceAccount.INFO.plural,
            subresource="token",
            namespace=namespace,
            name=service_account,
        )
        if not allowed:
            raise forbidden(
                user, Attributes("create", "", ServiceAccount.INFO.plural, "token", namespace, service_account)
            )
        account = _wire.decode(
            ServiceAccount, await self._registry.get(SYSTEM, ServiceAccount.INFO, service_account, namespace)
        )
        about: Claims = {
            "namespace": namespace,
            "serviceaccount": {"name": service_account, "uid": account.metadata.uid},
        }
        if pod_name:
            pod = _wire.decode(_BoundPod, await self._registry.get(SYSTEM, Pod.INFO, pod_name, namespace))
            if pod_uid and pod.metadata.uid != pod_uid:
                raise Conflict(
                    f"the UID in the bound object reference ({pod_uid}) does not match the UID in record. The object "
                    "might have been deleted and then recreated"
                )
            about["pod"] = {"name": pod_name, "uid": pod.metadata.uid}
            if pod.spec.node_name:
                about["node"] = {"name": pod.spec.node_name}
        now = self._clock.now()
        expires = now + dt.timedelta(seconds=expiration_seconds)
        claims: Claims = {
            "aud": list(audiences) or [ISSUER],
            "exp": int(expires.timestamp()),
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": about,
            "sub": f"system:serviceaccount:{namespace}:{service_account}",
        }
        token = self._sign(claims)
        self._remember(token, claims)  # it need not be verified when it comes back
        return token

    def delegate(self, user: User) -> str:
        """A token that tells the gateway, and nobody else, on whose behalf the API server's proxy speaks.

        Made for users of every kind, not only service accounts; good for a minute.
        """
        now = int(self._clock.now().timestamp())
        claims: Claims = {
            "aud": [GATEWAY_AUDIENCE],
            "exp": now + DELEGATED_SECONDS,
            "iat": now,
            "nbf": now,
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "sub": user.name,
            DELEGATED: {"name": user.name, "uid": user.uid, "groups": list(user.groups)},
        }
        return self._sign(claims)

    async def review(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """See client.base.TokenIssuer. Without audiences, the API server's own is asked for."""
        return self.check(token, audiences)

    def check(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """As `review`, at once."""
        claims = self.claims(token)
        if claims is None:
            return None
        now = self._clock.now()
        if not claims["nbf"] - LEEWAY.total_seconds() <= now.timestamp() < claims["exp"]:
            return None
        if ISSUER not in claims["aud"] if not audiences else set(audiences).isdisjoint(claims["aud"]):
            return None
        delegated = claims.get(DELEGATED)
        if delegated is not None:
            return User(delegated["name"], delegated["uid"], tuple(delegated["groups"]))
        digest = _digest(token)
        known = self._users.get(digest)
        revision = self._registry.store.revision
        if known is not None:
            if known.revision == revision:
                return known.user
            if all(_revision(self._registry.record(*key)) == at for key, at in known.seen):
                known.revision = revision
                return known.user
        found = self._user(claims, now)
        if found is None or found.ending:
            self._users.pop(digest, None)
        else:
            self._users[digest] = found
        return found.user if found is not None else None

    async def authenticate(self, token: str, audiences: tuple[str, ...] = ()) -> User | None:
        """See machinery.component.Authenticator."""
        return await self.review(token, audiences)

    def audiences(self, token: str) -> tuple[str, ...]:
        """For whom the token is meant; () when it is none of ours."""
        claims = self.claims(token)
        return tuple(claims["aud"]) if claims else ()

    def claims(self, token: str) -> Claims | None:
        """The claims of a token that we signed, in the form that we give them; None for anything else."""
        digest = _digest(token)
        known = self._verified.get(digest)
        if known is not None:
            self._verified.move_to_end(digest)
            return known
        if len(token) > MAX_TOKEN_BYTES:
            return None
        try:
            key = self._publics[str(jwt.get_unverified_header(token).get("kid"))]
            claims: Claims = jwt.decode(
                token,
                key,
                algorithms=[_algorithm(key)],
                issuer=ISSUER,
                # times are checked with the injected clock, audiences against those of each request
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False},
            )
        except (jwt.InvalidTokenError, KeyError):
            return None
        if not _well_formed(claims):
            return None
        self._remember(token, claims)
        return claims

    def _remember(self, token: str, claims: Claims) -> None:
        self._verified[_digest(token)] = claims
        if len(self._verified) > REMEMBERED:
            forgotten, _ = self._verified.popitem(last=False)
            self._users.pop(forgotten, None)

    def _user(self, claims: Claims, now: dt.datetime) -> _Seen | None:
        about = claims["kubernetes.io"]
        namespace, account = about["namespace"], about["serviceaccount"]
        if not self._exists(ServiceAccount, account, namespace, now):
            return None
        extra: dict[str, tuple[str, ...]] = {"authentication.kubernetes.io/credential-id": (f"JTI={claims['jti']}",)}
        pod = about.get("pod")
        if pod is not None:
            if not self._exists(Pod, pod, namespace, now):
                return None
            extra["authentication.kubernetes.io/pod-name"] = (pod["name"],)
            extra["authentication.kubernetes.io/pod-uid"] = (pod["uid"],)
        if "node" in about:
            extra["authentication.kubernetes.io/node-name"] = (about["node"]["name"],)
        base = service_account(namespace, account["name"], account["uid"])
        keys = [(ServiceAccount.INFO, account["name"], namespace)]
        if pod is not None:
            keys.append((Pod.INFO, pod["name"], namespace))
        records = [(key, record) for key in keys if (record := self._registry.record(*key)) is not None]
        return _Seen(
            User(base.name, base.uid, base.groups, extra),
            [(key, record.revision) for key, record in records],
            self._registry.store.revision,
            ending=any(b'"deletionTimestamp"' in record.value for _, record in records),
        )

    def _exists(self, kind: type[Pod | ServiceAccount], reference: Claims, namespace: str, now: dt.datetime) -> bool:
        raw = self._registry.stored(kind.INFO, reference["name"], namespace)
        if raw is None:
            return False
        meta = _wire.decode(_Bound, raw).metadata
        deleted = meta.deletion_timestamp
        return meta.uid == reference["uid"] and (deleted is None or deleted + LEEWAY > now)

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JSON Web Key Set."""
        return {"keys": [_web_key(known, public) for known, public in self._publics.items()]}

    def discovery(self, server: str) -> dict[str, Any]:
        """The OpenID configuration; `server` is where clients reach the key set."""
        return {
            "issuer": ISSUER,
            "jwks_uri": f"{server}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM, OWN_ALGORITHM],
        }


@dataclass(slots=True)
class _Seen:
    """The user of a token, and the objects that it is bound to: as long as they are the same, so is the user."""

    user: User
    seen: list[tuple[tuple[KindInfo, str, str], int]]
    """With the revisions that wrote them; they themselves would outlive their deletion here."""
    revision: int
    """The newest at which they were."""
    ending: bool
    """Whether one of them is being deleted."""


def _revision(record: Record | None) -> int:
    return record.revision if record is not None else 0


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


class _Signer:
    """Signs with one key; what is the same for all of its tokens is made once, for each pod gets two of them."""

    def __init__(self, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, algorithm: str, key_id: str) -> None:
        self._key, self._algorithm = key, jwt.get_algorithm_by_name(algorithm)
        self._head = base64url_encode(_wire.encode({"alg": algorithm, "kid": key_id, "typ": "JWT"}))

    def sign(self, claims: Claims) -> str:
        """The token."""
        signed = self._head + b"." + base64url_encode(_wire.encode(claims))
        return (signed + b"." + base64url_encode(self._algorithm.sign(signed, self._key))).decode()


class _Bound(Struct):
    """Any object, of which only metadata is wanted."""

    metadata: ObjectMeta


class _Place(Struct):
    node_name: str = ""


class _BoundPod(Struct):
    """A pod, of which only its identity and its place are wanted."""

    metadata: ObjectMeta
    spec: _Place


def _algorithm(public: signing.PublicKey) -> str:
    return ALGORITHM if isinstance(public, rsa.RSAPublicKey) else OWN_ALGORITHM


def _web_key(known: str, public: signing.PublicKey) -> dict[str, Any]:
    common = {"use": "sig", "kid": known, "alg": _algorithm(public)}
    if isinstance(public, ec.EllipticCurvePublicKey):
        point, size = public.public_numbers(), (public.curve.key_size + 7) // 8
        place = {"x": _base64_number(point.x, size), "y": _base64_number(point.y, size)}
        return {**common, "kty": "EC", "crv": "P-256", **place}
    numbers = public.public_numbers()
    return {**common, "kty": "RSA", "n": _base64_number(numbers.n), "e": _base64_number(numbers.e)}


def _base64_number(number: int, size: int = 0) -> str:
    raw = number.to_bytes(size or (number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _well_formed(claims: Claims) -> bool:
    """Whether these are claims as this class makes them. The signature is ours; older versions may have differed."""
    try:
        _wire.convert(_Claims, claims)
    except _wire.ValidationError:
        return False
    return ("kubernetes.io" in claims) != (DELEGATED in claims)


class _Reference(msgspec.Struct):
    name: str
    uid: str


class _About(msgspec.Struct):
    namespace: str
    serviceaccount: _Reference
    pod: _Reference | None = None


class _Delegated(msgspec.Struct):
    name: str
    uid: str
    groups: list[str]


class _Claims(msgspec.Struct):
    aud: list[str]
    exp: int
    nbf: int
    jti: str
    about: _About | None = msgspec.field(name="kubernetes.io", default=None)
    user: _Delegated | None = msgspec.field(name=DELEGATED, default=None)

"""Who sends an HTTP request: bearer token, else client certificate, else nobody; and whom they act for.

A bearer token is a service account's, or an ID token of the platform's issuer for client `kubernetes`: the semantics of
upstream's --oidc-* flags with the e-mail address as the user and the claim `groups`. Unlike there, who was deleted is
nobody at once.

Invariants: a token that is sent and is not valid is an error, never anonymity and never a fall-back to the
certificate; impersonation needs the verb `impersonate` on every identity that is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from headrace.api.errors import BadRequest, Forbidden, Unauthorized
from headrace.api.identity import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User, service_account
from headrace.machinery.people import KUBECTL_CLIENT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.apiserver.authn.tokens import TokenIssuer
    from headrace.client.base import Registry
    from headrace.machinery.people import People

SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
AUTHENTICATION_GROUP = "authentication.k8s.io"


def certificate_user(certificate: dict[str, Any] | None) -> User | None:
    """The user that a verified certificate names (`SSLObject.getpeercert()`): CN is the name, each O a group."""
    if not certificate:
        return None
    fields = [pair for part in certificate.get("subject", ()) for pair in part]
    name = next((value for key, value in fields if key == "commonName"), "")
    if not name:
        return None
    groups = tuple(value for key, value in fields if key == "organizationName")
    return User(name, groups=(*groups, AUTHENTICATED))


class Requests:
    """Authenticates requests. `certificate` users are computed once a connection by the caller."""

    def __init__(self, tokens: TokenIssuer, registry: Registry) -> None:
        self._tokens, self._registry = tokens, registry
        self.people: People | None = None
        """Who knows ID tokens, once the platform's components have begun."""

    async def identify(self, authorization: str, certificate: User | None) -> User:
        """The sender. Raises Unauthorized for a credential that is not valid."""
        try:
            return self.known(authorization, certificate)
        except Unauthorized:
            user = await self.person(authorization.partition(" ")[2].strip())
            if user is None:
                raise
            return user

    async def person(self, token: str) -> User | None:
        """Whose ID token it is."""
        return await self.people.by_id_token(token, KUBECTL_CLIENT) if self.people is not None else None

    def known(self, authorization: str, certificate: User | None) -> User:
        """As `identify`, at once and without ID tokens. Raises Unauthorized."""
        if authorization:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() == "bearer":
                user = self._tokens.check(token.strip())
                if user is None:
                    raise Unauthorized("Unauthorized")
                return user
        return certificate or ANONYMOUS

    async def impersonate(self, user: User, headers: Iterable[tuple[bytes, bytes]]) -> User:
        """Whom the Impersonate-* headers name, when `user` may act for them. Raises Forbidden."""
        name, uid = "", ""
        groups: list[str] = []
        extra: dict[str, list[str]] = {}
        for raw, value in headers:
            if not raw.startswith(b"impersonate-"):
                continue
            key, text = raw[len(b"impersonate-") :].decode("latin-1"), value.decode("latin-1")
            if key == "user":
                name = text
            elif key == "uid":
                uid = text
            elif key == "group":
                groups.append(text)
            elif key.startswith("extra-"):
                extra.setdefault(unquote(key.removeprefix("extra-")).lower(), []).append(text)
        if not name:
            if uid or groups or extra:
                raise BadRequest("requested impersonation without impersonating a user: send Impersonate-User too")
            return user
        taken = await self._checked_user(user, name, groups)
        for group in groups:
            await self._check(user, "groups", group)
        if uid:
            await self._check(user, "uids", uid, group=AUTHENTICATION_GROUP)
        for key, values in extra.items():
            for one in values:
                await self._check(user, "userextras", one, group=AUTHENTICATION_GROUP, subresource=key)
        return User(name, uid, taken, {key: tuple(values) for key, values in extra.items()})

    async def _checked_user(self, user: User, name: str, groups: list[str]) -> tuple[str, ...]:
        """Check the name; the groups that the impersonated user has."""
        have: tuple[str, ...] = tuple(groups)
        if name.startswith(SERVICE_ACCOUNT_PREFIX) and name.count(":") == 3:
            _, _, namespace, account = name.split(":")
            await self._check(user, "serviceaccounts", account, namespace=namespace)
            if not have:
                have = service_account(namespace, account).groups
        else:
            await self._check(user, "users", name)
        if name == ANONYMOUS.name:
            return have if UNAUTHENTICATED in have else (*have, UNAUTHENTICATED)
        return have if AUTHENTICATED in have or UNAUTHENTICATED in have else (*have, AUTHENTICATED)

    async def _check(
        self, user: User, resource: str, name: str, *, group: str = "", namespace: str = "", subresource: str = ""
    ) -> None:
        allowed = await self._registry.authorize(
            user,
            "impersonate",
            group=group,
            resource=resource,
            subresource=subresource,
            namespace=namespace,
            name=name,
        )
        if not allowed:
            where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
            raise Forbidden(
                f'{resource} "{name}" is forbidden: User "{user.name}" cannot impersonate resource "{resource}" in '
                f'API group "{group}" {where}',
                kind=resource,
                group=group,
                name=name,
            )

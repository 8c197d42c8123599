"""The objects in which people and their credentials are kept; pure.

A credential (session, personal access token, refresh token) is a Secret that is named by the hash of what the holder
sends, so that finding one is one read, and reading all of them gives nobody a way in.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.core import Secret
from headrace.api.meta import ObjectMeta, Struct, Time
from headrace.components.identity.types import NAMESPACE, Person
from headrace.machinery.settings import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    import datetime as dt

LABEL = "headrace.dev/credential"
OWNER = "headrace.dev/owner"
FACTS = "facts"
SESSION, TOKEN, REFRESH = "session", "token", "refresh"
KINDS = (SESSION, TOKEN, REFRESH)

Body = dict[str, Any]


class Facts(Struct):
    """What is known of a credential. `detail` is the browser and address of a session, a token's name."""

    person: Person
    created: Time
    expires: Time
    detail: str = ""
    scopes: list[str] = []
    client: str = ""
    """For refresh tokens: whose."""
    scope: str = ""
    """For refresh tokens: OAuth's."""


def credential_name(kind: str, secret: str) -> str:
    """Where a credential is kept."""
    return f"{kind}-{hashlib.sha256(secret.encode()).hexdigest()[:48]}"


def owner_label(email: str) -> str:
    """An e-mail address as a label's value, which has room for 63 plain characters."""
    return hashlib.sha256(email.encode()).hexdigest()[:40]


def credential(kind: str, secret: str, facts: Facts) -> Secret:
    """The Secret of a credential."""
    return Secret(
        metadata=ObjectMeta(
            name=credential_name(kind, secret),
            namespace=NAMESPACE,
            labels={LABEL: kind, OWNER: owner_label(facts.person.email)},
        ),
        type=f"{LABEL}",
        data={FACTS: base64.b64encode(_wire.encode(facts)).decode()},
    )


def facts_of(secret: Secret) -> Facts | None:
    """What a Secret says of its credential; None for one that is none."""
    try:
        return _wire.decode(Facts, base64.b64decode(secret.data[FACTS], validate=True))
    except (KeyError, ValueError, _wire.DecodeError, _wire.ValidationError):
        return None


def namespace() -> Body:
    """Where people are kept."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}


def roles() -> list[Body]:
    """What the component itself may do: people are kept in its own namespace."""
    rule = {"apiGroups": ["dex.coreos.com"], "resources": ["passwords"], "verbs": ["*"]}
    subject = {"kind": "ServiceAccount", "name": "identity", "namespace": SYSTEM_NAMESPACE}
    group = "rbac.authorization.k8s.io"
    metadata = {"name": "headrace:identity", "namespace": NAMESPACE}
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "headrace:identity"},
            "subjects": [subject],
        },
    ]


def expired(facts: Facts, now: dt.datetime) -> bool:
    """Whether the credential has ended."""
    return facts.expires <= now

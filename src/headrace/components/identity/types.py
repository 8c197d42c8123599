"""`dex.coreos.com/v1` Password, after dexidp/dex's storage/kubernetes/types.go, and the part of Dex's `config.yaml`
that is honoured here (ConfigMap `dex` in namespace `auth`, as in Kubeflow's distribution).
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from headrace.api.apiextensions import PrinterColumn
from headrace.api.meta import KindInfo, Object, Struct

GROUP = "dex.coreos.com"
NAMESPACE = "auth"
"""Where people, their credentials and Dex's configuration are."""


class Password(Object):
    """A person who logs in with an e-mail address and a password.

    Its name is Dex's own encoding of the address (`policy.object_name`), so that there is one object an address.
    """

    INFO: ClassVar[KindInfo] = KindInfo(GROUP, "v1", "Password", "passwords", subresources=frozenset())
    COLUMNS: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(name="Email", type="string", json_path=".email"),
        PrinterColumn(name="Groups", type="string", json_path=".groups"),
        PrinterColumn(name="Age", type="date", json_path=".metadata.creationTimestamp"),
    )
    email: str = ""
    hash: str = ""
    """base64 of an argon2 hash, or of a bcrypt hash as Dex writes it."""
    username: str = ""
    user_id: str = msgspec.field(name="userID", default="")
    groups: list[str] = []


class StaticPassword(Struct):
    """A person in Dex's configuration file; the hash is not base64 there."""

    email: str
    hash: str = ""
    username: str = ""
    user_id: str = msgspec.field(name="userID", default="")
    groups: list[str] = []
    hash_from_env: str = ""


class StaticClient(Struct):
    """A program that lets people log in through this issuer."""

    id: str = ""
    secret: str = ""
    name: str = ""
    redirect_uris: list[str] = msgspec.field(name="redirectURIs", default_factory=list)
    public: bool = False
    trusted_peers: list[str] = []
    id_env: str = msgspec.field(name="idEnv", default="")
    secret_env: str = msgspec.field(name="secretEnv", default="")


class ConnectorConfig(Struct):
    """Settings of a connector of type `oidc`, `google` or `keycloak`."""

    issuer: str = ""
    client_id: str = msgspec.field(name="clientID", default="")
    client_secret: str = ""
    redirect_uri: str = msgspec.field(name="redirectURI", default="")
    scopes: list[str] = []
    insecure_skip_email_verified: bool = False
    insecure_enable_groups: bool = False
    user_name_key: str = ""
    hosted_domains: list[str] = []
    claim_mapping: dict[str, str] = {}
    root_ca: str = msgspec.field(name="rootCA", default="")


class Connector(Struct):
    """An outside issuer through which people may log in."""

    type: str
    id: str
    name: str = ""
    config: ConnectorConfig = msgspec.field(default_factory=ConnectorConfig)


class DexConfig(Struct):
    """`config.yaml`. What is not declared here (storage, web, telemetry …) is this platform's own business."""

    static_clients: list[StaticClient] = []
    static_passwords: list[StaticPassword] = []
    connectors: list[Connector] = []
    enable_password_db: bool = msgspec.field(name="enablePasswordDB", default=True)
    oauth2: dict[str, Any] = {}


class Person(msgspec.Struct, frozen=True, rename="camel"):
    """Somebody who has logged in, or who could: by password here, or as an outside issuer says."""

    email: str
    user_id: str
    username: str
    groups: tuple[str, ...] = ()
    connector: str = "local"

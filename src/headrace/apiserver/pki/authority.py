"""The certificate authority of one home, and everything that it signs.

Made once and kept below `settings.pki`; leaves are renewed when they near expiry or no longer name an address that
the server has now. Nothing here is ever sent anywhere: the CA's key serves this machine only.

Invariants: keys are EC P-256 (RSA 2048 for service-account tokens that others may verify, since every OIDC verifier
knows RS256), files are 0600; a leaf never outlives its authority; a CA that is about to end is replaced together with
its leaves.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headrace.api.identity import ADMIN, MASTERS
from headrace.apiserver.pki.files import write_secret
from headrace.apiserver.pki.signing import ensure_signing_key
from headrace.machinery.settings import CLUSTER_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headrace.machinery.settings import Settings

CA_LIFETIME = dt.timedelta(days=3650)
LEAF_LIFETIME = dt.timedelta(days=365)
RENEW_BEFORE = dt.timedelta(days=30)
BACKDATE = dt.timedelta(minutes=5)
"""Clients whose clock is a little behind must not refuse a fresh certificate."""

FRONT_PROXY = "front-proxy-client"
"""The name in the certificate that is shown to extension servers."""

_KEY_USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


@dataclass(frozen=True, slots=True)
class Pki:
    """Where the certificates and keys of one home lie."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The authority's certificate: what clients trust, and what client certificates are checked against."""
        return self.folder / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """The authority's key."""
        return self.folder / "ca.key"

    @property
    def server(self) -> Path:
        """The API server's certificate."""
        return self.folder / "apiserver.crt"

    @property
    def server_key(self) -> Path:
        """Its key."""
        return self.folder / "apiserver.key"

    @property
    def admin(self) -> Path:
        """The administrator's client certificate."""
        return self.folder / "admin.crt"

    @property
    def admin_key(self) -> Path:
        """Its key."""
        return self.folder / "admin.key"

    @property
    def front_proxy_ca(self) -> Path:
        """The certificate of the authority by which extension servers know this server."""
        return self.folder / "front-proxy-ca.crt"

    @property
    def front_proxy_ca_key(self) -> Path:
        """That authority's key."""
        return self.folder / "front-proxy-ca.key"

    @property
    def front_proxy_client(self) -> Path:
        """What is shown to extension servers."""
        return self.folder / "front-proxy-client.crt"

    @property
    def front_proxy_client_key(self) -> Path:
        """Its key."""
        return self.folder / "front-proxy-client.key"

    @property
    def service_account_key(self) -> Path:
        """The key that signs service-account tokens."""
        return self.folder / "sa.key"


def kubernetes_service_ip(settings: Settings) -> str:
    """The address of the service `kubernetes` in namespace `default`: the first of the service range."""
    return str(ipaddress.ip_network(settings.service_cidr)[1])


def server_names(settings: Settings) -> tuple[str, ...]:
    """The names that the server's certificate must carry."""
    return (
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{CLUSTER_DOMAIN}",
        settings.node_name,
    )


def server_addresses(settings: Settings) -> tuple[str, ...]:
    """The addresses that the server's certificate must carry."""
    wanted = ["127.0.0.1", "::1", settings.node_ip, kubernetes_service_ip(settings)]
    with contextlib.suppress(ValueError):  # a host may be a name
        wanted.append(str(ipaddress.ip_address(settings.host)))
    return tuple(dict.fromkeys(wanted))


def ensure(settings: Settings, now: dt.datetime | None = None) -> Pki:
    """Everything in place: made when absent, renewed when it would soon end. Cheap when nothing is to be done."""
    moment = now or dt.datetime.now(dt.UTC)
    pki = Pki(settings.pki)
    pki.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _leaves(settings, pki, _authority((pki.ca, pki.ca_key), "headrace-ca", moment), moment)
    front = _authority((pki.front_proxy_ca, pki.front_proxy_ca_key), "headrace-front-proxy-ca", moment)
    _front_proxy(pki, front, moment)
    ensure_signing_key(pki.service_account_key, moment)
    return pki


def renew(settings: Settings, pki: Pki, now: dt.datetime) -> bool:
    """What a server that runs does from time to time: certificates near their end and an old signing key are replaced;
    whether anything was. The authority stays: pods and people trust it, and a new one waits for the next start.
    """
    authority = _load(pki.ca)
    renewed = authority is not None and _leaves(settings, pki, authority, now)
    front = _load(pki.front_proxy_ca)
    renewed = (front is not None and _front_proxy(pki, front, now)) or renewed
    return ensure_signing_key(pki.service_account_key, now) or renewed


def _front_proxy(pki: Pki, authority: x509.Certificate, moment: dt.datetime) -> bool:
    """The certificate for extension servers in place; whether it is new."""
    paths = (pki.front_proxy_client, pki.front_proxy_client_key)
    if _usable(*paths, authority, moment):
        return False
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, FRONT_PROXY)])
    _leaf(pki.front_proxy_ca_key, authority, paths, subject, moment)
    return True


def _leaves(settings: Settings, pki: Pki, authority: x509.Certificate, moment: dt.datetime) -> bool:
    """The server's and the administrator's certificates in place; whether one of them is new."""
    signed = False
    names, addresses = server_names(settings), server_addresses(settings)
    if not _usable(pki.server, pki.server_key, authority, moment, names=names, addresses=addresses):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
        _leaf(pki.ca_key, authority, (pki.server, pki.server_key), subject, moment, names=names, addresses=addresses)
        signed = True
    if not _usable(pki.admin, pki.admin_key, authority, moment):
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, MASTERS),
                x509.NameAttribute(NameOID.COMMON_NAME, ADMIN.name),
            ]
        )
        _leaf(pki.ca_key, authority, (pki.admin, pki.admin_key), subject, moment)
        signed = True
    return signed


def ensure_gateway(settings: Settings, hosts: Sequence[str], now: dt.datetime | None = None) -> tuple[Path, Path]:
    """A certificate of this authority for the gateway's HTTPS, and its key; `hosts` are names and addresses."""
    moment, pki = now or dt.datetime.now(dt.UTC), Pki(settings.pki)
    authority = _authority((pki.ca, pki.ca_key), "headrace-ca", moment)
    paths = (pki.folder / "gateway.crt", pki.folder / "gateway.key")
    addresses = ["127.0.0.1", "::1"]
    names = ["localhost"]
    for host in hosts:
        try:
            addresses.append(str(ipaddress.ip_address(host)))
        except ValueError:
            names.append(host)
    names, addresses = list(dict.fromkeys(names)), list(dict.fromkeys(addresses))
    if not _usable(*paths, authority, moment, names=names, addresses=addresses):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "headrace-gateway")])
        _leaf(pki.ca_key, authority, paths, subject, moment, names=names, addresses=addresses)
    return paths


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None


def _authority(paths: tuple[Path, Path], name: str, now: dt.datetime) -> x509.Certificate:
    path, key_path = paths
    found = _load(path)
    if found is not None and key_path.exists() and found.not_valid_after_utc - now > LEAF_LIFETIME:
        return found
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}-{x509.random_serial_number() & 0xFFFFFF:x}")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(**{**_KEY_USAGE, "digital_signature": True, "key_cert_sign": True, "crl_sign": True}),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_secret(key_path, _pem(key))
    write_secret(path, certificate.public_bytes(serialization.Encoding.PEM))
    return certificate


def _leaf(
    signing_key: Path,
    authority: x509.Certificate,
    paths: tuple[Path, Path],
    subject: x509.Name,
    now: dt.datetime,
    *,
    names: Sequence[str] = (),
    addresses: Sequence[str] = (),
) -> None:
    """Sign a certificate: for a server when it has names, otherwise for a client."""
    ca_key = serialization.load_pem_private_key(signing_key.read_bytes(), password=None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise TypeError(
            f"{signing_key} is not an elliptic-curve key: remove {signing_key.parent} to have a new authority"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(min(now + LEAF_LIFETIME, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{**_KEY_USAGE, "digital_signature": True}), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
    )
    if names:
        alternatives = [x509.DNSName(n) for n in names] + [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    certificate, key_path = paths
    write_secret(key_path, _pem(key))
    write_secret(certificate, builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def _usable(
    path: Path,
    key: Path,
    authority: x509.Certificate,
    now: dt.datetime,
    *,
    names: Sequence[str] = (),
    addresses: Sequence[str] = (),
) -> bool:
    """Whether the certificate is there, of this authority, lasts a while, fits its key and names what is asked."""
    certificate = _load(path)
    if certificate is None or not key.exists() or certificate.not_valid_after_utc - now < RENEW_BEFORE:
        return False
    try:
        certificate.verify_directly_issued_by(authority)
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (ValueError, TypeError, InvalidSignature):
        return False
    if private.public_key() != certificate.public_key():
        return False
    if not names:
        return True
    have = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    known = {*have.get_values_for_type(x509.DNSName), *(str(a) for a in have.get_values_for_type(x509.IPAddress))}
    return known.issuperset(names) and known.issuperset(addresses)

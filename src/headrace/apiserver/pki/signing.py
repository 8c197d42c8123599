"""The keys that sign service-account tokens: one of a kind signs, those before it still verify.

An RSA key signs what others may want to verify: every OIDC verifier knows RS256. What only the platform's own gateway
asks for is signed by an elliptic-curve key, at a sixth of the cost: every step of a pipeline gets such a token. Both
are published.

A key signs for a year; then a new one takes its place, and the public half of the old one stays beside it as
`sa-<id>.pub`, so that tokens that it signed verify until they expire. Who wants to revoke them at once removes that
file and starts the platform again. Invariant: a public half is on disk before its key stops signing.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from headrace.apiserver.pki.files import write_secret

if TYPE_CHECKING:
    from pathlib import Path

LIFETIME = dt.timedelta(days=365)
_SHOWN = 16
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def key_id(public: PublicKey) -> str:
    """The `kid` of tokens that this key has signed: a digest, as in Kubernetes."""
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")


def load(path: Path) -> rsa.RSAPrivateKey:
    """The key that signs for everybody. Raises TypeError, OSError, ValueError."""
    found = _read(path)
    if not isinstance(found, rsa.RSAPrivateKey):
        raise TypeError(f"{path} is not an RSA key: remove it and start again to have a new one")
    return found


def load_own(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key beside it that signs for the platform itself, made if there is none. Raises as `load`."""
    own = _own(path)
    if not own.exists():
        _write(own, ec.generate_private_key(ec.SECP256R1()))
    found = _read(own)
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{own} is not an elliptic-curve key: remove it and start again to have a new one")
    return found


def _own(path: Path) -> Path:
    return path.with_name(f"{path.stem}-own{path.suffix}")


def _read(path: Path) -> object:
    return serialization.load_pem_private_key(
        path.read_bytes(),
        password=None,
        unsafe_skip_rsa_key_validation=True,  # it is our own; checking takes 50 ms
    )


def _write(path: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_secret(path, pem)


def retired(path: Path) -> list[PublicKey]:
    """The public halves of the keys that signed before."""
    found: list[PublicKey] = []
    for one in sorted(path.parent.glob(f"{path.stem}-*.pub")):
        loaded = serialization.load_pem_public_key(one.read_bytes())
        if isinstance(loaded, PublicKey):
            found.append(loaded)
    return found


def ensure_signing_key(path: Path, now: dt.datetime) -> bool:
    """Keys that may sign; whether one of them is new."""
    own = _own(path)
    old = [_retire(known, now) for known in (path, own)]
    if old[0]:
        _write(path, rsa.generate_private_key(public_exponent=65537, key_size=2048))
    if old[1]:
        _write(own, ec.generate_private_key(ec.SECP256R1()))
    return any(old)


def _retire(path: Path, now: dt.datetime) -> bool:
    """Whether there has to be a new key; what the old one has signed can be verified for ever."""
    if not path.exists():
        return True
    if now - dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC) < LIFETIME:
        return False
    key = _read(path)
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        public = key.public_key()
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        write_secret(path.with_name(f"{path.stem}-{key_id(public)[:_SHOWN]}.pub"), pem)
    return True

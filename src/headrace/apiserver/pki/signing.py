"""The keys that sign service-account tokens: one signs, those before it still verify.

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
from cryptography.hazmat.primitives.asymmetric import rsa

from headrace.apiserver.pki.files import write_secret

if TYPE_CHECKING:
    from pathlib import Path

LIFETIME = dt.timedelta(days=365)
_SHOWN = 16


def key_id(public: rsa.RSAPublicKey) -> str:
    """The `kid` of tokens that this key has signed: a digest, as in Kubernetes."""
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")


def load(path: Path) -> rsa.RSAPrivateKey:
    """The key that signs. Raises TypeError, OSError, ValueError."""
    found = serialization.load_pem_private_key(
        path.read_bytes(),
        password=None,
        unsafe_skip_rsa_key_validation=True,  # it is our own; checking takes 50 ms
    )
    if not isinstance(found, rsa.RSAPrivateKey):
        raise TypeError(f"{path} is not an RSA key: remove it and start again to have a new one")
    return found


def retired(path: Path) -> list[rsa.RSAPublicKey]:
    """The public halves of the keys that signed before."""
    found = []
    for one in sorted(path.parent.glob(f"{path.stem}-*.pub")):
        loaded = serialization.load_pem_public_key(one.read_bytes())
        if isinstance(loaded, rsa.RSAPublicKey):
            found.append(loaded)
    return found


def ensure_signing_key(path: Path, now: dt.datetime) -> bool:
    """A key that may sign; whether it is a new one."""
    if path.exists():
        if now - dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC) < LIFETIME:
            return False
        public = load(path).public_key()
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        write_secret(path.with_name(f"{path.stem}-{key_id(public)[:_SHOWN]}.pub"), pem)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_secret(path, pem)
    return True

"""A pod's imagePullSecrets as the file of logins that podman reads.

Of several secrets that name the same registry the first one counts. A secret that is missing or cannot be read is told,
and the image is asked for all the same, as the kubelet does.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from headrace.api import _wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.core import Pod, Secret

CONFIG, OLD_CONFIG = ".dockerconfigjson", ".dockercfg"
"""Keys of secrets of type kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg."""


def logins(pod: Pod, secret: Callable[[str], Secret | None]) -> tuple[bytes, list[str]]:
    """The file, empty where no secret has a login; and the names of the secrets that cannot be used."""
    found: dict[str, Any] = {}
    useless = []
    for reference in pod.spec.image_pull_secrets:
        name = str(reference.get("name") or "")
        held = secret(name) if name else None
        auths = None if held is None else _auths(held)
        if auths is None:
            useless.append(name)
        for registry, login in (auths or {}).items():
            found.setdefault(registry, login)
    return (_wire.encode({"auths": found}) if found else b""), useless


def _auths(secret: Secret) -> dict[str, Any] | None:
    """Logins by registry; None for a secret that holds none."""
    for key in (CONFIG, OLD_CONFIG):
        if key in secret.data:
            try:
                document = _wire.decode_any(base64.b64decode(secret.data[key], validate=True))
            except (binascii.Error, ValueError):
                return None
            auths = document.get("auths") if key == CONFIG and isinstance(document, dict) else document
            if not isinstance(auths, dict):
                return None
            return {registry: _login(given) for registry, given in auths.items() if isinstance(given, dict)}
    return None


def _login(given: dict[str, Any]) -> dict[str, str]:
    """As podman reads it: user and password in one word."""
    if given.get("auth"):
        return {"auth": str(given["auth"])}
    pair = f"{given.get('username', '')}:{given.get('password', '')}"
    return {"auth": base64.b64encode(pair.encode()).decode()}

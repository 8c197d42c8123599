"""pip's configuration in uv's words: uv ignores pip.conf and PIP_*, people expect them to count.

Read as pip does: global, user and site files, then PIP_CONFIG_FILE, then variables; sections `global` and the
command's own. What uv's own variables already say is left alone.
"""

from __future__ import annotations

import configparser
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_TO_PODS = ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert")


def read(environ: Mapping[str, str], *, home: Path | None = None) -> dict[str, str]:
    """Options of pip by their long names; values of several lines are joined by spaces."""
    found: dict[str, str] = {}
    for file in _files(environ, home or Path.home()):
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update({_option(k): " ".join(v.split()) for k, v in parser.items(section)})
    for name, value in environ.items():
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE" and value:
            found[_option(name.removeprefix("PIP_").lower())] = " ".join(value.split())
    return found


def for_uv(options: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Variables for uv that mean the same; those that `environ` sets already are not in it."""
    result: dict[str, str] = {}

    def put(name: str, value: str | None) -> None:
        if value and name not in environ:
            result[name] = value

    if "UV_INDEX_URL" not in environ:
        put("UV_DEFAULT_INDEX", options.get("index-url"))
    if "UV_EXTRA_INDEX_URL" not in environ:
        put("UV_INDEX", options.get("extra-index-url"))
    put("UV_FIND_LINKS", ",".join(options.get("find-links", "").split()))
    put("UV_INSECURE_HOST", options.get("trusted-host"))
    put("UV_CONSTRAINT", options.get("constraint"))
    put("UV_HTTP_TIMEOUT", options.get("timeout") or options.get("default-timeout"))
    put("UV_KEYRING_PROVIDER", options.get("keyring-provider") if options.get("keyring-provider") != "auto" else None)
    put("UV_PRERELEASE", "allow" if truth(options.get("pre", "")) else None)
    put("SSL_CERT_FILE", options.get("cert"))
    put("SSL_CLIENT_CERT", options.get("client-cert"))
    put("ALL_PROXY", options.get("proxy"))
    if "SSL_CERT_FILE" not in environ and "cert" not in options and any(Path(b).exists() for b in _BUNDLES):
        put("UV_SYSTEM_CERTS", "true")
    # pip takes the best version of all indexes; uv's default is the first index that knows the name.
    put("UV_INDEX_STRATEGY", "unsafe-best-match")
    return result


def for_pods(options: Mapping[str, str]) -> dict[str, str]:
    """PIP_* variables that give a pod's own pip the same indexes as the node."""
    return {f"PIP_{name.upper().replace('-', '_')}": options[name] for name in _TO_PODS if options.get(name)}


def _files(environ: Mapping[str, str], home: Path) -> list[Path]:
    own = environ.get("PIP_CONFIG_FILE", "")
    if own == os.devnull:
        return []
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    shared = [Path(d) / "pip" / "pip.conf" for d in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if d]
    files = [*shared, Path("/etc/pip.conf"), home / ".pip" / "pip.conf", config / "pip" / "pip.conf"]
    return [*files, Path(own)] if own else files


def _option(name: str) -> str:
    return name.replace("_", "-").removeprefix("--")


def truth(value: str) -> bool:
    """What pip takes for yes."""
    return value.lower() in {"1", "true", "yes", "on"}

"""How to reach a cluster: from a kubeconfig, or from inside a pod.

Kubeconfigs are read as kubectl reads them: `$KUBECONFIG` may name several files, the first that has an entry wins;
paths in a file are relative to it. Credentials: client certificates, tokens, token files, exec plugins, basic auth.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import os
import ssl
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS = 60.0
"""How long a token that was read from a file is used before it is read again."""
EXPIRY_MARGIN = dt.timedelta(seconds=30)


class NoCluster(Exception):
    """There is no usable way to a cluster; the message says what is missing."""


class Credentials:
    """What goes into the Authorization header, renewed when it must be."""

    async def header(self) -> str:
        """The header's value, "" for none."""
        return ""


class StaticHeader(Credentials):
    """A token or a password that stays."""

    def __init__(self, value: str) -> None:
        self._value = value

    async def header(self) -> str:
        """See Credentials."""
        return self._value


class TokenFile(Credentials):
    """A token that somebody renews on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token, self._read_at = "", -TOKEN_SECONDS

    async def header(self) -> str:
        """See Credentials."""
        now = time.monotonic()
        if now - self._read_at >= TOKEN_SECONDS:
            self._token, self._read_at = self._path.read_text().strip(), now
        return f"Bearer {self._token}"


class ExecPlugin(Credentials):
    """A program that prints an ExecCredential (client.authentication.k8s.io)."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._header, self._expires = "", dt.datetime.min.replace(tzinfo=dt.UTC)
        self._lock = asyncio.Lock()

    async def header(self) -> str:
        """See Credentials. Raises NoCluster when the program fails."""
        async with self._lock:
            if dt.datetime.now(dt.UTC) + EXPIRY_MARGIN >= self._expires:
                await self._renew()
        return self._header

    async def _renew(self) -> None:
        spec = self._spec
        info = {"apiVersion": spec.get("apiVersion", ""), "kind": "ExecCredential", "spec": {"interactive": False}}
        extra = {e["name"]: e["value"] for e in spec.get("env") or ()}
        process = await asyncio.create_subprocess_exec(
            spec["command"],
            *(spec.get("args") or ()),
            env={**os.environ, **extra, "KUBERNETES_EXEC_INFO": json.dumps(info)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        if process.returncode:
            raise NoCluster(
                f"{spec['command']} failed with {process.returncode}: {err.decode(errors='replace')[-500:]}"
            )
        try:
            status = json.loads(out)["status"]
        except (ValueError, TypeError, KeyError) as error:
            raise NoCluster(f"{spec['command']} printed no ExecCredential") from error
        if not status.get("token"):
            raise NoCluster(
                f"{spec['command']} gave no token: credentials by certificate from plugins are not supported"
            )
        self._header = f"Bearer {status['token']}"
        expires = status.get("expirationTimestamp")
        self._expires = (
            dt.datetime.fromisoformat(expires) if expires else dt.datetime.max.replace(tzinfo=dt.UTC) - EXPIRY_MARGIN
        )


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where an API server is and how to be somebody there."""

    server: str
    tls: ssl.SSLContext | None = None
    credentials: Credentials = field(default_factory=Credentials)
    namespace: str = "default"
    server_name: str = ""
    """The name to expect in the server's certificate, when it is not the host of `server`."""
    proxy: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    """Impersonation."""


def in_cluster(folder: Path = IN_CLUSTER) -> Cluster:
    """The cluster that this pod runs in. Raises NoCluster outside of a pod."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    token = folder / "token"
    if not host or not token.exists():
        raise NoCluster("this does not run in a pod: KUBERNETES_SERVICE_HOST or the service account's token is missing")
    namespace = folder / "namespace"
    shown = f"[{host}]" if ":" in host else host
    return Cluster(
        f"https://{shown}:{port}",
        ssl.create_default_context(cafile=folder / "ca.crt"),
        TokenFile(token),
        namespace.read_text().strip() if namespace.exists() else "default",
    )


def from_kubeconfig(path: Path | None = None, context: str = "") -> Cluster:
    """The cluster of a context, the current one by default. Raises NoCluster."""
    paths = [path] if path else _default_paths()
    entries: dict[str, dict[str, tuple[dict[str, Any], Path]]] = {"clusters": {}, "users": {}, "contexts": {}}
    current = context
    for one in paths:
        if not one.exists():
            continue
        loaded = yaml.safe_load(one.read_text()) or {}
        current = current or loaded.get("current-context", "")
        for section, known in entries.items():
            for entry in loaded.get(section) or ():
                known.setdefault(entry["name"], (entry.get(section[:-1]) or {}, one.parent))
    if not current:
        raise NoCluster(f"no current context in {', '.join(map(str, paths))}: choose one by name")
    chosen, _ = _entry(entries, "contexts", current)
    cluster, cluster_folder = _entry(entries, "clusters", chosen.get("cluster", ""))
    user, user_folder = _entry(entries, "users", chosen["user"]) if chosen.get("user") else ({}, Path())
    headers = [("Impersonate-User", user["as"])] if user.get("as") else []
    headers += [("Impersonate-Group", g) for g in user.get("as-groups") or ()]
    server = str(cluster["server"]).rstrip("/")
    return Cluster(
        server,
        _tls(cluster, cluster_folder, user, user_folder) if server.startswith("https") else None,
        _credentials(user, user_folder),
        chosen.get("namespace") or "default",
        cluster.get("tls-server-name", ""),
        cluster.get("proxy-url", ""),
        tuple(headers),
    )


def _default_paths() -> list[Path]:
    listed = os.environ.get("KUBECONFIG", "")
    return [Path(p) for p in listed.split(os.pathsep) if p] or [Path.home() / ".kube" / "config"]


def _entry(
    entries: dict[str, dict[str, tuple[dict[str, Any], Path]]], section: str, name: str
) -> tuple[dict[str, Any], Path]:
    found = entries[section].get(name)
    if found is None:
        known = ", ".join(entries[section]) or "none"
        raise NoCluster(f'the kubeconfig has no {section[:-1]} "{name}" (it has {known})')
    return found


def _content(entry: dict[str, Any], key: str, folder: Path) -> bytes | None:
    """Inline data, else what the named file holds."""
    inline = entry.get(f"{key}-data")
    if inline:
        return base64.b64decode(inline)
    named = entry.get(key)
    return (folder / named).read_bytes() if named else None


def _tls(cluster: dict[str, Any], cluster_folder: Path, user: dict[str, Any], user_folder: Path) -> ssl.SSLContext:
    authority = _content(cluster, "certificate-authority", cluster_folder)
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _content(user, "client-certificate", user_folder), _content(user, "client-key", user_folder)
    if certificate and key:
        # OpenSSL reads chains from files only; this one is private and gone at once
        with tempfile.TemporaryDirectory() as folder:
            chain = Path(folder, "client.pem")
            chain.touch(mode=0o600)
            chain.write_bytes(certificate + b"\n" + key)
            context.load_cert_chain(chain)
    return context


def _credentials(user: dict[str, Any], folder: Path) -> Credentials:
    if user.get("token"):
        return StaticHeader(f"Bearer {user['token']}")
    if user.get("tokenFile"):
        return TokenFile(folder / user["tokenFile"])
    if user.get("exec"):
        return ExecPlugin(user["exec"])
    if user.get("username"):
        pair = f"{user['username']}:{user.get('password', '')}".encode()
        return StaticHeader("Basic " + base64.b64encode(pair).decode())
    if user.get("auth-provider"):
        raise NoCluster("auth-provider users are obsolete: use an exec plugin, a token or a client certificate")
    return Credentials()

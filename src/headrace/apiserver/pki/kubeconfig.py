"""Kubeconfigs: the administrator's own file in the home, and merging it into a person's, only when asked.

Invariants: files are 0600 and replaced atomically; a merge keeps every entry that is not ours and leaves a backup
of what was there.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from headrace.api.identity import ADMIN
from headrace.apiserver.pki.authority import Pki, ensure
from headrace.apiserver.pki.files import write_secret

if TYPE_CHECKING:
    from headrace.machinery.settings import Settings

DEFAULT_HOME = ".headrace"
BACKUP_SUFFIX = ".before-headrace"


class KubeconfigUnreadable(Exception):
    """The file that should be merged into is not a kubeconfig; it was left as it is."""


def context_name(settings: Settings) -> str:
    """`headrace`, or `headrace-<folder>` for a home that is not the usual one, so that several can be merged."""
    folder = settings.home.resolve().name
    return "headrace" if folder == DEFAULT_HOME else f"headrace-{folder.lstrip('.')}"


def kubeconfig(settings: Settings, pki: Pki | None = None) -> dict[str, Any]:
    """The administrator's kubeconfig with certificates inside."""
    files = pki or ensure(settings)
    name = context_name(settings)
    user = f"{ADMIN.name}@{name}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": f"https://{settings.host}:{settings.ports.api}",
                    "certificate-authority-data": _inline(files.ca),
                },
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _inline(files.admin),
                    "client-key-data": _inline(files.admin_key),
                },
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    }


def write_kubeconfig(settings: Settings, pki: Pki | None = None) -> Path:
    """Write `settings.kubeconfig`, 0600; only touched when its content changes."""
    content = yaml.safe_dump(kubeconfig(settings, pki), sort_keys=False).encode()
    path = settings.kubeconfig
    if not path.exists() or path.read_bytes() != content:
        write_secret(path, content)
    return path


def merge_kubeconfig(
    settings: Settings, target: Path | None = None, *, switch: bool = True, pki: Pki | None = None
) -> Path | None:
    """Put our cluster, user and context into `target` (`~/.kube/config`), keeping everything else of it.

    With `switch` our context becomes the current one. Returns the backup's path, None when there was no file before.
    Raises KubeconfigUnreadable and changes nothing when the file is not a kubeconfig.
    """
    path = (target or Path.home() / ".kube" / "config").expanduser().resolve()  # a link stays a link
    ours = kubeconfig(settings, pki)
    if not path.exists() or not path.read_bytes().strip():
        write_secret(path, yaml.safe_dump(ours, sort_keys=False).encode())
        return None
    before = path.read_bytes()
    merged = _parse(path, before)
    for section in ("clusters", "users", "contexts"):
        names = {entry["name"] for entry in ours[section]}
        kept = [e for e in merged.get(section) or [] if not (isinstance(e, dict) and e.get("name") in names)]
        merged[section] = kept + ours[section]
    if switch or not merged.get("current-context"):
        merged["current-context"] = ours["current-context"]
    backup = path.with_name(path.name + BACKUP_SUFFIX)
    write_secret(backup, before)
    write_secret(path, yaml.safe_dump(merged, sort_keys=False).encode())
    return backup


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    try:
        parsed = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise KubeconfigUnreadable(f"{path} is not YAML ({error}): mend it or choose another file") from error
    if not isinstance(parsed, dict):
        raise KubeconfigUnreadable(f"{path} is not a kubeconfig: mend it or choose another file")
    for section in ("clusters", "users", "contexts"):
        if not isinstance(parsed.get(section) or [], list):
            raise KubeconfigUnreadable(f"{section} in {path} is not a list: mend it or choose another file")
    return parsed


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()

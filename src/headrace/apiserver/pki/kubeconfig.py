"""Kubeconfigs: the administrator's own file in the home, and merging it into a person's, only when asked.

Invariants: files are 0600 and replaced atomically; a merge keeps every entry that is not ours and leaves a backup
of what was there.
"""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from headrace.api.identity import ADMIN
from headrace.apiserver.pki.authority import Pki, ensure
from headrace.apiserver.pki.files import write_secret

if TYPE_CHECKING:
    from headrace.machinery.settings import Settings

BACKUP_SUFFIX = ".before-headrace"


class KubeconfigUnreadable(Exception):
    """The file that should be merged into is not a kubeconfig; it was left as it is."""


def kubeconfig(settings: Settings, pki: Pki | None = None) -> dict[str, Any]:
    """The administrator's kubeconfig with certificates inside."""
    files = pki or ensure(settings)
    name = settings.context
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
    """Write `settings.kubeconfig`, 0600; only touched when its content changes, and what people added to it stays,
    such as the namespace of `kubectl config set-context --current --namespace`.
    """
    path, wanted = settings.kubeconfig, kubeconfig(settings, pki)
    before = path.read_bytes() if path.exists() else b""
    if before.strip():
        with contextlib.suppress(KubeconfigUnreadable):  # it is our own file: a damaged one is replaced
            wanted = _merged(_parse(path, before), wanted, switch=True)
    content = yaml.safe_dump(wanted, sort_keys=False).encode()
    if before != content:
        write_secret(path, content)
    return path


def merge_kubeconfig(
    settings: Settings, target: Path | None = None, *, switch: bool = True, pki: Pki | None = None
) -> Path | None:
    """Put our cluster, user and context into `target` (`~/.kube/config`), keeping everything else of it.

    With `switch` our context becomes the current one. Returns the backup's path, None when there was no file before.
    Raises KubeconfigUnreadable and changes nothing when the file is not a kubeconfig.
    """
    return merge(target or Path.home() / ".kube" / "config", kubeconfig(settings, pki), switch=switch)


def merge(target: Path, ours: dict[str, Any], *, switch: bool) -> Path | None:
    """As `merge_kubeconfig`, for any entries."""
    path = target.expanduser().resolve()  # a link stays a link
    if not path.exists() or not path.read_bytes().strip():
        write_secret(path, yaml.safe_dump(ours, sort_keys=False).encode())
        return None
    before = path.read_bytes()
    merged = _merged(_parse(path, before), ours, switch=switch)
    backup = path.with_name(path.name + BACKUP_SUFFIX)
    write_secret(backup, before)
    write_secret(path, yaml.safe_dump(merged, sort_keys=False).encode())
    return backup


def remove(target: Path, context: str, user: str) -> bool:
    """Take a context and a user out, and the cluster when nothing else uses it; whether there was anything.

    Raises KubeconfigUnreadable.
    """
    path = target.expanduser().resolve()
    if not path.exists():
        return False
    before = path.read_bytes()
    found = _parse(path, before)
    contexts = [each for each in found.get("contexts") or [] if isinstance(each, dict)]
    ours = next((each for each in contexts if each.get("name") == context), {})
    left = [each for each in contexts if each is not ours]
    used = {(each.get("context") or {}).get("cluster") for each in left}
    cluster = (ours.get("context") or {}).get("cluster")
    found["contexts"] = left
    found["users"] = [each for each in found.get("users") or [] if each.get("name") != user]
    found["clusters"] = [each for each in found.get("clusters") or [] if each.get("name") != cluster or cluster in used]
    if found.get("current-context") == context:
        found["current-context"] = ""
    after = yaml.safe_dump(found, sort_keys=False).encode()
    if not ours:
        return False
    write_secret(path, after)
    return True


def _merged(theirs: dict[str, Any], ours: dict[str, Any], *, switch: bool) -> dict[str, Any]:
    """Theirs, with our entries in place of those of the same names."""
    merged = dict(theirs)
    for section in ("clusters", "users", "contexts"):
        mine = {entry["name"]: entry for entry in ours[section]}
        kept = []
        for entry in theirs.get(section) or []:
            name = entry.get("name") if isinstance(entry, dict) else None
            if name not in mine:
                kept.append(entry)
            elif section == "contexts" and isinstance(entry.get("context"), dict):
                # What we do not say of our context, such as its namespace, is theirs to say.
                mine[name] = {**mine[name], "context": {**entry["context"], **mine[name]["context"]}}
        merged[section] = kept + list(mine.values())
    if switch or not merged.get("current-context"):
        merged["current-context"] = ours["current-context"]
    return merged


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

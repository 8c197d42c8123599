"""What each kind of URI means, after kserve's Python storage library.

`s3://bucket/path` is the object of that name, or else every object below `path/` with its relative name;
`file://path` and an absolute path are a file or a folder's content. A single archive is unpacked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ..s3client import S3, S3Error  # noqa: TID252 (the top package has another name inside a pod)
from ..tarball import extract  # noqa: TID252

if TYPE_CHECKING:
    from collections.abc import Mapping

TERMINATION_LOG = Path("/dev/termination-log")
PARALLEL = 4
PATIENCE_SECONDS = 30.0
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")


class FetchFailed(Exception):
    """The model cannot be brought; the message is one line that says why."""


def main(argv: list[str], env: Mapping[str, str] = os.environ) -> int:
    """Fetch each SRC_URI into its DEST; the exit code."""
    if not argv or len(argv) % 2:
        return _fail("usage: storage_initializer SRC_URI DEST [SRC_URI DEST …]")
    try:
        for uri, dest in zip(argv[::2], argv[1::2], strict=True):
            files = fetch(uri, Path(dest), env)
            print(f"Copied {len(files)} {'file' if len(files) == 1 else 'files'} from {uri} to {dest}.", flush=True)
    except FetchFailed as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"The model cannot be written: {error}")
    return 0


def fetch(uri: str, dest: Path, env: Mapping[str, str] = os.environ) -> list[Path]:
    """Bring what `uri` names into the folder `dest`; the files as they arrived. Raises FetchFailed, OSError."""
    dest.mkdir(parents=True, exist_ok=True)
    if uri.startswith("s3://"):
        files = _from_s3(uri, dest, env)
    elif uri.startswith(("file://", "/")):
        files = _from_disk(uri, dest)
    else:
        scheme = uri.split("://", 1)[0] if "://" in uri else uri
        raise FetchFailed(f"Cannot recognize storage type for {uri}: s3:// and file:// are read here, not {scheme}.")
    if len(files) == 1:
        _unpack(files[0], dest)
    return files


def _from_s3(uri: str, dest: Path, env: Mapping[str, str]) -> list[Path]:
    bucket, _, path = uri.removeprefix("s3://").partition("/")
    path = path.rstrip("/")
    if not bucket:
        raise FetchFailed(f"{uri} names no bucket: write s3://BUCKET/PATH.")
    try:
        store = S3.from_env(env, patience=PATIENCE_SECONDS)
        with contextlib.closing(store):
            names = {key: size for key, size in store.list(bucket, path) if size and not key.endswith("/")}
        wanted = {path: Path(path).name} if path in names else _below(names, path)
        if not wanted:
            raise FetchFailed(f"Failed to fetch model. No model found in {uri}: {_nearby(names, path)}.")
        targets = {key: _target(dest, name) for key, name in wanted.items()}

        def bring(key: str) -> None:
            with contextlib.closing(store):  # this thread's connection
                store.download(bucket, key, targets[key])

        with ThreadPoolExecutor(min(PARALLEL, len(targets))) as pool:
            for _ in pool.map(bring, targets):
                pass
    except S3Error as error:
        raise FetchFailed(f"Failed to fetch model from {uri}: {error}") from error
    return list(targets.values())


def _below(names: Mapping[str, int], path: str) -> dict[str, str]:
    prefix = f"{path}/" if path else ""
    return {key: key[len(prefix) :] for key in names if key.startswith(prefix)}


def _nearby(names: Mapping[str, int], path: str) -> str:
    if names:
        return f"there is {', '.join(sorted(names)[:3])}, but nothing named {path} or below {path}/"
    return f"the bucket holds no object named {path} or below {path}/" if path else "the bucket is empty"


def _target(dest: Path, name: str) -> Path:
    target = dest / name
    if ".." in Path(name).parts or not target.resolve().is_relative_to(dest.resolve()):
        raise FetchFailed(f"The object name {name!r} leads out of the model folder.")
    return target


def _from_disk(uri: str, dest: Path) -> list[Path]:
    source = Path(uri.removeprefix("file://"))
    if not source.exists():
        raise FetchFailed(f"Local path {uri} does not exist in this pod.")
    files = []
    for item in sorted(source.iterdir()) if source.is_dir() else [source]:
        target = dest / item.name
        if item.is_dir():
            shutil.copytree(item, target, dirs_exist_ok=True)
        else:
            shutil.copy(item, target)
        files.append(target)
    if not files:
        raise FetchFailed(f"Failed to fetch model. No model found in {uri}: the folder is empty.")
    return files


def _unpack(archive: Path, dest: Path) -> None:
    """Replace a single archive by its content, as upstream does."""
    try:
        if archive.name.endswith(TAR_SUFFIXES):
            with tarfile.open(archive) as tar:
                extract(tar, dest)
        elif archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as packed:
                for name in packed.namelist():
                    _target(dest, name)
                packed.extractall(dest)  # noqa: S202 (every name was checked above)
        else:
            return
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise FetchFailed(f"The archive {archive.name} cannot be unpacked: {error}") from error
    archive.unlink()


def _fail(message: str) -> int:
    print(message, file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        # the kubelet makes this file; where it is missing, stderr has to do
        if TERMINATION_LOG.exists():
            TERMINATION_LOG.write_text(message, encoding="utf-8")
    return 1

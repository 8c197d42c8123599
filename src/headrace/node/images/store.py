"""Images of one's own: records and files below the state folder. A backup of the state holds them.

    images/format.json      {"version": 1}
    images/names/<name>     which image a name stands for now
    images/<id>/image.json  what it is made of and how a container of it starts (`Record`)
    images/<id>/tree/       its files
    images/wheels/          projects that were built for an image's environment

An image never changes; building it again moves its name. The environment is not kept here: it is made again from the
exact versions in the record, wherever the cache has lost it.
"""

from __future__ import annotations

import os
import shutil
import urllib.parse
from typing import TYPE_CHECKING

import msgspec

from headrace.api import _wire
from headrace.node.images import reference

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = 1


class UnreadableStore(Exception):
    """The images were written by another version; the message says what to do."""


class Record(msgspec.Struct, kw_only=True, rename="camel"):
    """An image. `entrypoint` and `command` are words; `requirements` are exact versions."""

    version: int = VERSION
    id: str = ""
    created: str = ""
    base: str
    """The catalogue's image that it begins with."""
    requirements: list[str] = []
    options: list[str] = []
    env: dict[str, str] = {}
    workdir: str = ""
    user: str = ""
    entrypoint: list[str] = []
    command: list[str] = []
    shell: list[str] = msgspec.field(default_factory=lambda: ["/bin/sh", "-c"])
    exposed: list[str] = []
    labels: dict[str, str] = {}
    history: list[str] = []
    size: int = 0
    """Bytes of its own files."""


class Named(msgspec.Struct, kw_only=True, rename="camel"):
    """What a name stands for."""

    name: str
    id: str


def canonical_name(image: str) -> str:
    """`repository:tag` without registry host; empty when it is no image name."""
    found = reference.parse(image)
    return f"{found.repository}:{found.tag}" if found is not None else ""


class ImageStore:
    """The images of one home. Every answer is read from disk: builds run in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folders. Raises UnreadableStore."""
        self._check()
        (self.folder / "names").mkdir(parents=True, exist_ok=True)
        _write(self.folder / "format.json", {"version": VERSION})

    def _check(self) -> None:
        try:
            held = _wire.decode_any((self.folder / "format.json").read_bytes())
        except FileNotFoundError:
            return
        if not isinstance(held, dict) or held.get("version") != VERSION:
            raise UnreadableStore(
                f"{self.folder} was written by another version of Headrace: use that one, or move the folder away and "
                "build the images again"
            )

    def find(self, image: str) -> Record | None:
        """The image that a name, or an id, stands for."""
        name = canonical_name(image)
        try:
            if name:
                held = _wire.decode(Named, (self.folder / "names" / _quoted(name)).read_bytes())
                return self.by_id(held.id)
        except FileNotFoundError:
            pass
        return self._by_prefix(image.removeprefix("sha256:"))

    def _by_prefix(self, text: str) -> Record | None:
        if len(text) < 12 or not set(text) <= set("0123456789abcdef"):
            return None
        found = [r for r in self.all() if r.id.startswith(text)]
        return found[0] if len(found) == 1 else None

    def by_id(self, identity: str) -> Record | None:
        """The image of this id."""
        try:
            self._check()
            return _wire.decode(Record, (self.folder / identity / "image.json").read_bytes())
        except FileNotFoundError:
            return None

    def tree(self, record: Record) -> Path:
        """Where its files are."""
        return self.folder / record.id / "tree"

    def names(self) -> dict[str, str]:
        """Which id each name stands for."""
        try:
            files = sorted((self.folder / "names").iterdir())
        except FileNotFoundError:
            return {}
        found = [_wire.decode(Named, file.read_bytes()) for file in files if not file.name.startswith(".")]
        return {named.name: named.id for named in found}

    def all(self) -> Iterator[Record]:
        """Every image, named or not."""
        if not self.folder.is_dir():
            return
        for folder in sorted(self.folder.iterdir()):
            record = self.by_id(folder.name) if (folder / "image.json").is_file() else None
            if record is not None:
                yield record

    def keep(self, record: Record, tree: Path, name: str) -> None:
        """Keep an image whose files are in `tree`, which is moved away, and give it the name."""
        target = self.folder / record.id
        if not (target / "image.json").exists():
            shutil.rmtree(target, ignore_errors=True)
            part = self.folder / f".{record.id}.{os.getpid()}"
            part.mkdir()
            tree.rename(part / "tree")
            _write(part / "image.json", record)
            part.rename(target)
        _write(self.folder / "names" / _quoted(name), Named(name=name, id=record.id))

    def forget_name(self, name: str) -> None:
        """The name stands for nothing any more."""
        (self.folder / "names" / _quoted(name)).unlink(missing_ok=True)

    def remove(self, record: Record) -> None:
        """Delete the image and all of its names."""
        for name, identity in self.names().items():
            if identity == record.id:
                self.forget_name(name)
        shutil.rmtree(self.folder / record.id, ignore_errors=True)

    def wheels(self) -> list[Path]:
        """Folders of the projects that were built."""
        folder = self.folder / "wheels"
        return sorted(folder.iterdir()) if folder.is_dir() else []


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _write(file: Path, value: object) -> None:
    temporary = file.with_name(f".{os.getpid()}.new")
    temporary.write_bytes(_wire.encode(value))
    temporary.replace(file)

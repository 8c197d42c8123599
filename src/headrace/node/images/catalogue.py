"""The catalogue: which image names stand for which local environment.

A table, first match wins. An entry says what the environment holds (packages for an interpreter, or only the
host's userland) and how a container of it starts (entrypoint, command, variables). A name that no entry
matches is refused: it is never replaced by something similar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from headrace.node.images import reference

PROGRAMS = "/opt/headrace"
"""Where the programs that ship with the platform are mounted in every pod."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the catalogue."""

    repository: str
    """A regular expression for the whole repository name; group `python` may hold digits such as 311."""
    kind: Literal["python", "userland"]
    packages: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    python_from_tag: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """The entry that an image name stands for, and the Python that the name asks for."""

    entry: Entry
    python: tuple[int, int] | None = None


_PYTHON_ENV = {"LANG": "C.UTF-8"}
_SHELL_NAMES = "(?:containerd/)?busybox|alpine|debian|ubuntu|bash|curlimages/curl"

CATALOGUE: tuple[Entry, ...] = (
    Entry("python", "python", command=("python3",), env=_PYTHON_ENV, python_from_tag=True),
    # Red Hat's bases, the second choice of the KFP SDK's documentation.
    Entry(r"ubi(?:8|9|10)(?:-minimal)?/python-(?P<python>3\d+)(?:-minimal)?", "python", command=("python3",)),
    Entry(
        "kserve/sklearnserver",
        "python",
        packages=(
            "scikit-learn==1.7.2",
            "joblib",
            "pandas",
            "uvicorn",
            "uvloop",
            "httptools",
            "msgspec",
        ),
        entrypoint=("python3", f"{PROGRAMS}/sklearnserver"),
        env=_PYTHON_ENV,
    ),
    Entry(
        "kserve/storage-initializer",
        "python",
        entrypoint=("python3", f"{PROGRAMS}/storage_initializer"),
        env=_PYTHON_ENV,
    ),
    Entry("curlimages/curl", "userland", entrypoint=("curl",)),
    Entry(_SHELL_NAMES, "userland", command=("sh",)),
)

_TAG_VERSION = re.compile(r"(\d+)(?:\.(\d+))?(?:\.\d+)?(?:(?:a|b|rc)\d+)?(?:-.*)?")


def match(image: str) -> Match | None:
    """What an image name stands for; None when the catalogue does not know it."""
    ref = reference.parse(image)
    if ref is None:
        return None
    for entry in CATALOGUE:
        found = re.fullmatch(entry.repository, ref.repository)
        if found is None:
            continue
        digits = found.groupdict().get("python")
        if digits:
            return Match(entry, (int(digits[0]), int(digits[1:])))
        if not entry.python_from_tag:
            return Match(entry)
        return _by_tag(entry, ref.tag)
    return None


def _by_tag(entry: Entry, tag: str) -> Match | None:
    version = _TAG_VERSION.fullmatch(tag)
    if version is None:
        # `latest`, `slim`, `alpine`, `bookworm`: any Python 3 will do.
        return Match(entry)
    major, minor = int(version[1]), version[2]
    if major != 3:
        return None
    return Match(entry, (3, int(minor)) if minor else None)


def unknown(image: str) -> str:
    """The sentence for an image that nothing matches."""
    return (
        f'no local environment matches image "{image}": use an image of the catalogue (python:3.x, '
        "kserve/sklearnserver, busybox, debian …) and name the packages that it needs in the pod's annotation "
        'headrace.dev/requirements (a JSON list such as ["scikit-learn==1.7.2"]), or build the image from its '
        f"Dockerfile: headrace image build -t {image} DIR"
    )

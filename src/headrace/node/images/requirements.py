"""The pod annotation `headrace.dev/requirements`: packages that the pod needs besides those of its image.

A JSON list of requirement strings as pip takes them. An entry may end with ` --no-deps`: that package is
installed without its dependencies. Index options (`--index-url X` …) are entries of their own. Anything else
that pip accepts on a command line is refused, so that a lock always says all of what is installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from headrace.api import _wire

ANNOTATION = "headrace.dev/requirements"
NO_DEPS = "--no-deps"
_OPTIONS = {
    "--index-url": "--index-url",
    "-i": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "--find-links": "--find-links",
    "-f": "--find-links",
    "--trusted-host": "--allow-insecure-host",
    "--pre": "--prerelease=allow",
}
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


class BadRequirements(ValueError):
    """The annotation cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What to install. Order is kept out: equal sets give equal environments."""

    packages: tuple[str, ...] = ()
    without_deps: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """Arguments of uv."""

    def __bool__(self) -> bool:
        return bool(self.packages or self.without_deps)

    def plus(self, packages: tuple[str, ...]) -> Requirements:
        """These and those of the image; a package that is named here too is left to this side."""
        named = {canonical(r) for r in (*self.packages, *self.without_deps)}
        extra = tuple(p for p in packages if canonical(p) not in named)
        return Requirements(tuple(sorted({*self.packages, *extra})), self.without_deps, self.options)

    def over(self, exact: list[str], options: list[str]) -> Requirements:
        """These over the exact versions of an image, which are installed as they are; what is named here wins."""
        named = {canonical(r) for r in (*self.packages, *self.without_deps)}
        kept = {line for line in exact if canonical(line) not in named}
        return Requirements(self.packages, tuple(sorted({*self.without_deps, *kept})), (*options, *self.options))


def canonical(requirement: str) -> str:
    """The normalised distribution name of a requirement (PEP 503); the text itself when it has none."""
    found = _NAME.match(requirement)
    if found is None:
        return requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def parse(annotation: str) -> Requirements:
    """Reads the annotation's value. Raises BadRequirements."""
    if not annotation.strip():
        return Requirements()
    try:
        entries = _wire.decode_any(annotation)
    except _wire.DecodeError as error:
        raise BadRequirements(f"annotation {ANNOTATION} is not JSON ({error}): write a list of strings") from error
    if not isinstance(entries, list) or not all(isinstance(e, str) for e in entries):
        raise BadRequirements(f"annotation {ANNOTATION} must be a JSON list of strings")
    packages: set[str] = set()
    without_deps: set[str] = set()
    options: list[str] = []
    for entry in entries:
        text = " ".join(entry.split())
        if not text:
            continue
        if text.startswith("-"):
            options += _option(text)
        elif text.endswith(" " + NO_DEPS):
            without_deps.add(_checked(text.removesuffix(NO_DEPS).strip()))
        else:
            packages.add(_checked(text))
    return Requirements(tuple(sorted(packages)), tuple(sorted(without_deps)), tuple(options))


def _option(text: str) -> list[str]:
    name, _, value = text.replace("=", " ", 1).partition(" ")
    flag = _OPTIONS.get(name)
    if flag is None:
        raise BadRequirements(
            f"annotation {ANNOTATION}: {name} is not supported; use requirements and the options {', '.join(_OPTIONS)}"
        )
    return [flag, value] if value else [flag]


def _checked(requirement: str) -> str:
    if " -" in requirement:
        raise BadRequirements(
            f"annotation {ANNOTATION}: {requirement!r} holds an option; only a trailing {NO_DEPS} is supported"
        )
    return requirement

"""Image references as people write them: `[registry/]repository[:tag][@digest]`.

Only the name matters here, because an image stands for a local environment: registry hosts, Docker Hub's
`library/` prefix and digests are taken off, the tag is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_REFERENCE = re.compile(
    r"(?P<name>[a-z0-9]+(?:(?:[._:/-]|__)[a-z0-9]+)*?)(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>\w+:[0-9a-fA-F]+))?"
)
_HUB_PREFIXES = ("docker/library/", "library/")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed image name."""

    repository: str
    """Without registry host and without `library/`."""
    tag: str


def parse(image: str) -> Reference | None:
    """The parts of an image reference, or None when it is not one."""
    match = _REFERENCE.fullmatch(image.strip())
    if match is None:
        return None
    name = match["name"]
    host, slash, rest = name.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        name = rest
    for prefix in _HUB_PREFIXES:
        name = name.removeprefix(prefix)
    return Reference(name, match["tag"] or "latest")

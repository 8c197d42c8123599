"""What a URL names: a kind, perhaps a namespace, a name, a part of the object.

    /api/v1/namespaces/NS/pods/NAME/log          core group
    /apis/apps/v1/namespaces/NS/deployments      named groups
    /api/v1/namespaces/NS[/status|/finalize]     namespaces are objects too
    /api/v1/watch/…                              the old way to ask for changes of what follows

Pure: nothing here knows which kinds are served.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

NAMESPACE_PARTS = frozenset({"status", "finalize"})


@dataclass(frozen=True, slots=True)
class Target:
    """A URL of the resource API, in its parts."""

    group: str
    version: str
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: tuple[str, ...] = ()
    """Segments behind the subresource: the path that a proxy request is for."""
    watch: bool = False
    """Whether the path itself asks for changes."""


@lru_cache(maxsize=1024)
def parse(path: str) -> Target | None:
    """The target of a path below /api or /apis; None for any other."""
    parts = path.split("/")
    if len(parts) < 3 or parts[0]:
        return None
    if parts[1] == "api":
        group, version, rest = "", parts[2], parts[3:]
    elif parts[1] == "apis" and len(parts) >= 4:
        group, version, rest = parts[2], parts[3], parts[4:]
    else:
        return None
    if rest and not rest[-1] and "proxy" not in rest:
        rest = rest[:-1]  # a trailing slash; in a proxied path it means something
    if not group and parts[1] == "apis":
        return None
    if not rest:
        return Target(group, version)
    if rest[0] == "watch" and len(rest) > 1:
        return replace(_resource(group, version, rest[1:]), watch=True)
    return _resource(group, version, rest)


def _resource(group: str, version: str, rest: list[str]) -> Target:
    """What the segments behind the group and version name."""
    if rest[0] == "namespaces" and not group and (len(rest) < 3 or (len(rest) == 3 and rest[2] in NAMESPACE_PARTS)):
        name = rest[1] if len(rest) > 1 else ""
        return Target(group, version, "namespaces", "", name, rest[2] if len(rest) > 2 else "")
    namespace = ""
    if rest[0] == "namespaces" and len(rest) >= len(("namespaces", "NS", "PLURAL")):
        namespace, rest = rest[1], rest[2:]
    name = rest[1] if len(rest) > 1 else ""
    part = rest[2] if len(rest) > 2 else ""
    return Target(group, version, rest[0], namespace, name, part, tuple(rest[3:]))

"""The one place that reads YAML of strangers: as JSON sees it, and never deeper than it can be read safely.

libyaml's composer recurses on the C stack: a body of nothing but `[` would end the whole process, not only the
request. So the events, which are found without recursion, are counted first.
"""

from __future__ import annotations

from typing import Any

import yaml

MAX_DEPTH = 500
"""Far deeper than any manifest, far shallower than Python's and msgspec's own limits."""

YAMLError = yaml.YAMLError


class TooDeep(yaml.YAMLError):
    """Nested deeper than MAX_DEPTH."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Times stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def documents(raw: bytes) -> list[Any]:
    """Every document; an empty one is None. Aliases are the same object: count before expanding them.

    Raises YAMLError, and what Python raises for values that it cannot hold (ValueError, UnicodeDecodeError).
    """
    _measure(raw)
    return list(yaml.load_all(raw, _Loader))


def _measure(raw: bytes) -> None:
    depth = 0
    for event in yaml.parse(raw, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise TooDeep(f"it is nested more than {MAX_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1

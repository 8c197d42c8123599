"""Which representation a client gets: JSON or YAML; the object, its metadata alone, or a table.

Clients that offer protobuf beside JSON get JSON; those that take nothing else are told with 406.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache

from headrace.api.errors import NotAcceptable

META_GROUP = "meta.k8s.io"
ACCEPTED = "application/json, application/yaml"


class Shape(enum.StrEnum):
    """What of an object is sent."""

    OBJECT = ""
    TABLE = "Table"
    METADATA = "PartialObjectMetadata"
    METADATA_LIST = "PartialObjectMetadataList"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The representation that was chosen."""

    shape: Shape = Shape.OBJECT
    yaml: bool = False
    version: str = "v1"
    """Of meta.k8s.io, for tables and metadata: v1 or v1beta1."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One alternative of an Accept header."""

    media: str
    parameters: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """A parameter, "" when absent."""
        return next((value for key, value in self.parameters if key == name), "")


@lru_cache(maxsize=512)
def clauses(accept: str) -> tuple[Clause, ...]:
    """The alternatives, best first: by `q`, then as they stand."""
    parsed: list[tuple[float, Clause]] = []
    for part in accept.split(","):
        media, *parameters = (p.strip() for p in part.split(";"))
        if not media:
            continue
        pairs = tuple((k.strip().lower(), v.strip()) for k, _, v in (p.partition("=") for p in parameters))
        clause = Clause(media.lower(), pairs)
        try:
            quality = float(clause.get("q") or 1)
        except ValueError:
            quality = 1.0
        parsed.append((quality, clause))
    parsed.sort(key=lambda item: -item[0])  # the sort is stable
    return tuple(clause for _, clause in parsed)


@lru_cache(maxsize=512)
def negotiate(accept: str) -> Wanted:
    """Choose. Raises NotAcceptable."""
    if not accept:
        return Wanted()
    for clause in clauses(accept):
        json = clause.media in {"application/json", "application/*", "*/*"}
        yaml = clause.media in {"application/yaml", "text/yaml", "application/x-yaml"}
        if not json and not yaml:
            continue
        shape = clause.get("as")
        if not shape:
            return Wanted(yaml=yaml)
        if clause.get("g") != META_GROUP or clause.get("v") not in {"v1", "v1beta1"} or shape not in set(Shape):
            continue
        return Wanted(Shape(shape), yaml, clause.get("v"))
    raise NotAcceptable(f"only the following media types are accepted: {ACCEPTED}")


@lru_cache(maxsize=128)
def wants_discovery(accept: str) -> str:
    """The version of aggregated discovery that a client asks for first, "" when it wants none.

    Group lists are the alternative; whichever the client names first is sent.
    """
    for clause in clauses(accept):
        if clause.media not in {"application/json", "application/*", "*/*"}:
            continue
        if clause.get("as") == "APIGroupDiscoveryList" and clause.get("g") == "apidiscovery.k8s.io":
            if clause.get("v") in {"v2", "v2beta1"}:
                return clause.get("v")
            continue
        if not clause.get("as"):
            return ""
    if accept:
        raise NotAcceptable(f"only the following media types are accepted: {ACCEPTED}")
    return ""

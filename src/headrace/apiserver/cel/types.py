"""The types that the checker reasons with. A type variable is a type whose name is one capital letter."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

Bound = dict[str, "Type"]


class Fields(Protocol):
    """The fields of an object type."""

    def get(self, name: str, /) -> tuple[str, Type] | None:
        """By the name in expressions: the name in the document, and the type."""
        ...


@dataclass(frozen=True, slots=True)
class Type:
    """A type. Objects (`fields` is there) are told apart by their name."""

    name: str
    params: tuple[Type, ...] = ()
    fields: Fields | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        """As error messages show it."""
        if self.name == "optional":
            return f"optional_type({self.params[0]})"
        if self.params:
            return f"{self.name}({', '.join(map(str, self.params))})"
        return "object" if self.fields is not None else _SHOWN.get(self.name, self.name)


_SHOWN = {
    "null": "null_type",
    "timestamp": "google.protobuf.Timestamp",
    "duration": "google.protobuf.Duration",
    "quantity": "kubernetes.Quantity",
    "url": "kubernetes.URL",
    "ip": "net.IP",
    "cidr": "net.CIDR",
    "format": "kubernetes.NamedFormat",
    "authorizer": "kubernetes.authorization.Authorizer",
}
DYN, NULL, BOOL, INT, UINT, DOUBLE = (Type(n) for n in ("dyn", "null", "bool", "int", "uint", "double"))
STRING, BYTES, TIMESTAMP, DURATION = (Type(n) for n in ("string", "bytes", "timestamp", "duration"))


def list_of(item: Type) -> Type:
    """`list(item)`."""
    return Type("list", (item,))


def map_of(key: Type, value: Type) -> Type:
    """`map(key, value)`."""
    return Type("map", (key, value))


def optional_of(inner: Type) -> Type:
    """`optional_type(inner)`."""
    return Type("optional", (inner,))


@lru_cache(maxsize=512)
def parse(text: str) -> Type:
    """The type that a signature writes as `list<A>`, `map<string,dyn>`, `int`."""
    name, opened, rest = text.partition("<")
    if not opened:
        return Type(name)
    depth, start, params = 0, 0, []
    inner = rest[:-1]
    for i, char in enumerate(inner):
        depth += (char == "<") - (char == ">")
        if char == "," and not depth:
            params.append(parse(inner[start:i]))
            start = i + 1
    return Type(name, (*params, parse(inner[start:])))


def is_variable(t: Type) -> bool:
    """Whether this stands for any type."""
    return len(t.name) == 1


def assignable(wanted: Type, given: Type, bound: Bound) -> bool:
    """Whether a value of one type can stand where the other is wanted; variables are bound on the way."""
    if is_variable(wanted):
        before = bound.get(wanted.name)
        if before is None:
            bound[wanted.name] = given
            return True
        if given.name == "dyn" or (before.name == "null" and given.name != "null"):
            bound[wanted.name] = given
            return True
        return assignable(before, given, bound)
    if "dyn" in {wanted.name, given.name} or given.name == "null" or is_variable(given):
        return True
    if wanted.name == "null":
        return given.name not in {"bool", "int", "uint", "double", "string", "bytes"}
    if wanted.name != given.name or len(wanted.params) != len(given.params):
        return False
    return all(assignable(w, g, bound) for w, g in zip(wanted.params, given.params, strict=True))


def substitute(t: Type, bound: Bound) -> Type:
    """The type with its variables replaced; what is not bound may be anything."""
    if is_variable(t):
        return bound.get(t.name, DYN)
    if not t.params:
        return t
    return Type(t.name, tuple(substitute(p, bound) for p in t.params))

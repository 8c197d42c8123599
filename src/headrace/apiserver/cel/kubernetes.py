"""Kubernetes' own functions: lists, sets, quantities, named formats, the authorizer."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from headrace.api import quantity
from headrace.apiserver.cel import values as v
from headrace.apiserver.cel.functions import Row
from headrace.apiserver.cel.values import NOTHING, Duration, EvalError, Optional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal

    from headrace.apiserver.cel.values import Spend


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount such as 500m or 2Gi."""

    KIND: ClassVar[str] = "quantity"
    amount: Decimal


@dataclass(frozen=True, slots=True)
class NamedFormat:
    """A check by name; it says what is wrong with a text."""

    KIND: ClassVar[str] = "format"
    name: str
    check: Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is asked about: a resource, or a path."""

    verb: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class AuthorizerValue:
    """`authorizer` and what is chained to it. `allows` answers for the user of the request."""

    KIND: ClassVar[str] = "authorizer"
    allows: Callable[[Attributes, str], bool]
    """The second argument is a service account `namespace:name` to ask for instead, or nothing."""
    asked: Attributes = Attributes()
    account: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a check."""

    KIND: ClassVar[str] = "decision"
    allowed: bool


def _is_quantity(text: str) -> bool:
    try:
        quantity.parse(text)
    except ValueError:
        return False
    return True


def _quantity(text: str) -> Quantity:
    try:
        return Quantity(quantity.parse(text))
    except ValueError as error:
        raise EvalError(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        ) from error


def _as_integer(x: Quantity) -> int:
    if x.amount != x.amount.to_integral_value():
        raise EvalError("cannot convert value to integer")
    return v.checked(int(x.amount))


def _added(x: Quantity, y: Any, sign: int) -> Quantity:
    other = y.amount if isinstance(y, Quantity) else y
    return Quantity(x.amount + sign * other)


def _sign(x: Decimal) -> int:
    return (x > 0) - (x < 0)


def _quantities() -> Iterator[Row]:
    yield Row("quantity", "string", "quantity", _quantity)
    yield Row("isQuantity", "string", "bool", _is_quantity)

    def of(name: str, args: str, result: str, code: Any) -> Row:
        return Row(name, args, result, code, method=True)

    yield of("sign", "quantity", "int", lambda x: _sign(x.amount))
    yield of("isInteger", "quantity", "bool", lambda x: x.amount == x.amount.to_integral_value())
    yield of("asInteger", "quantity", "int", _as_integer)
    yield of("asApproximateFloat", "quantity", "double", lambda x: float(x.amount))
    yield of("isGreaterThan", "quantity,quantity", "bool", lambda x, y: x.amount > y.amount)
    yield of("isLessThan", "quantity,quantity", "bool", lambda x, y: x.amount < y.amount)
    yield of("compareTo", "quantity,quantity", "int", lambda x, y: _sign(x.amount - y.amount))
    for other in ("quantity", "int"):
        yield of("add", f"quantity,{other}", "quantity", lambda x, y: _added(x, y, 1))
        yield of("sub", f"quantity,{other}", "quantity", lambda x, y: _added(x, y, -1))


def _sum(items: list[Any]) -> Any:
    if not items:
        return 0
    if isinstance(items[0], Duration):
        return Duration(v.checked(sum(x.ns for x in items)))
    total = sum(items)
    if isinstance(items[0], v.UInt):
        return v.checked_uint(total)
    return total if isinstance(total, float) else v.checked(total)


def _extreme(items: list[Any], pick: Callable[[list[Any]], Any], name: str) -> Any:
    if not items:
        raise EvalError(f"{name} called on empty list")
    return pick(items)


def _position(spend: Spend, items: list[Any], wanted: Any, *, last: bool) -> int:
    indexes = range(len(items))
    for i in reversed(indexes) if last else indexes:
        spend(1)
        if v.equal(items[i], wanted, spend):
            return i
    return -1


def _lists() -> Iterator[Row]:
    def of(name: str, args: str, result: str, code: Any, **more: Any) -> Row:
        return Row(name, args, result, code, method=True, cost=lambda x, *_: len(x), **more)

    yield of("isSorted", "list<A>", "bool", lambda x: all(not b < a for a, b in pairwise(x)))
    yield of("sum", "list<A>", "A", _sum)
    yield of("min", "list<A>", "A", lambda x: _extreme(x, min, "min"))
    yield of("max", "list<A>", "A", lambda x: _extreme(x, max, "max"))
    yield of("indexOf", "list<A>,A", "int", lambda spend, x, y: _position(spend, x, y, last=False), spends=True)
    yield of("lastIndexOf", "list<A>,A", "int", lambda spend, x, y: _position(spend, x, y, last=True), spends=True)


def _within(spend: Spend, outer: list[Any], inner: list[Any]) -> bool:
    return all(v.contains(outer, x, spend) for x in inner)


def _sets() -> Iterator[Row]:
    def of(name: str, code: Any) -> Row:
        return Row(f"sets.{name}", "list<A>,list<A>", "bool", code, spends=True)

    yield of("contains", _within)
    yield of("equivalent", lambda spend, a, b: _within(spend, a, b) and _within(spend, b, a))
    yield of("intersects", lambda spend, a, b: any(v.contains(a, x, spend) for x in b))


_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_SAYS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_SAYS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_1035_SAYS = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_NAME = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_NAME_SAYS = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_SAYS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def _by_pattern(pattern: str, longest: int, says: str, *, prefix: bool = False) -> Callable[[str], list[str]]:
    compiled = re.compile(pattern)

    def check(text: str) -> list[str]:
        checked = text[:-1] if prefix and text.endswith("-") else text
        out = [] if compiled.fullmatch(checked) else [says]
        return [*out, f"must be no more than {longest} bytes"] if len(checked) > longest else out

    return check


def _qualified(text: str) -> list[str]:
    prefix, slash, name = text.rpartition("/")
    out = _FORMATS["dns1123Subdomain"](prefix) if slash else []
    return [f"prefix part {x}" for x in out] + _by_pattern(_NAME, 63, _NAME_SAYS)(name)


def _parsed(what: str, *patterns: str) -> Callable[[str], list[str]]:
    compiled = [re.compile(p) for p in patterns]

    def check(text: str) -> list[str]:
        return [] if any(c.fullmatch(text) for c in compiled) else [f"invalid {what}"]

    return check


def _uri(text: str) -> list[str]:
    from headrace.apiserver.cel.network import is_url  # noqa: PLC0415 - the modules know of each other

    return [] if is_url(text) else ["invalid uri"]


def _timestamp(text: str, *, day: bool) -> list[str]:
    try:
        v.parse_timestamp(f"{text}T00:00:00Z" if day else text)
    except EvalError:
        return ["invalid date" if day else "invalid datetime"]
    return []


_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_FORMATS: dict[str, Callable[[str], list[str]]] = {
    "dns1123Label": _by_pattern(_LABEL, 63, _LABEL_SAYS),
    "dns1123Subdomain": _by_pattern(_SUBDOMAIN, 253, _SUBDOMAIN_SAYS),
    "dns1035Label": _by_pattern(_LABEL_1035, 63, _LABEL_1035_SAYS),
    "qualifiedName": _qualified,
    "dns1123LabelPrefix": _by_pattern(_LABEL, 63, _LABEL_SAYS, prefix=True),
    "dns1123SubdomainPrefix": _by_pattern(_SUBDOMAIN, 253, _SUBDOMAIN_SAYS, prefix=True),
    "dns1035LabelPrefix": _by_pattern(_LABEL_1035, 63, _LABEL_1035_SAYS, prefix=True),
    "labelValue": _by_pattern(rf"({_NAME})?", 63, _VALUE_SAYS),
    "uri": _uri,
    "uuid": _parsed("uuid", r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"),
    "byte": _parsed("byte", r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"),
    "date": lambda text: _timestamp(text, day=True),
    "datetime": lambda text: _timestamp(text, day=False),
}


def _named(name: str) -> Optional:
    return Optional(NamedFormat(name, _FORMATS[name])) if name in _FORMATS else NOTHING


def _validate(named: NamedFormat, text: str) -> Optional:
    problems = named.check(text)
    return Optional(problems) if problems else NOTHING


def _formats() -> Iterator[Row]:
    yield Row("format.named", "string", "optional<format>", _named)
    for name, check in _FORMATS.items():

        def make(name: str = name, check: Callable[[str], list[str]] = check) -> NamedFormat:
            return NamedFormat(name, check)

        yield Row(f"format.{name}", "", "format", make)
    yield Row(
        "validate", "format,string", "optional<list<string>>", _validate, method=True, cost=lambda _, x: len(x) // 5
    )


_CHECK_COST = 350_000
"""As upstream: a question to the authorizer is dear, so that an expression asks few."""


def _with(x: AuthorizerValue, **what: str) -> AuthorizerValue:
    return replace(x, asked=replace(x.asked, **what))


def _check(x: AuthorizerValue, verb: str) -> Decision:
    return Decision(x.allows(replace(x.asked, verb=verb), x.account))


def _path(x: AuthorizerValue, path: str) -> AuthorizerValue:
    if not path:
        raise EvalError("path must not be empty")
    return _with(x, path=path)


def _authorizers() -> Iterator[Row]:
    def of(name: str, args: str, result: str, code: Any, **more: Any) -> Row:
        return Row(name, args, result, code, method=True, **more)

    for name, field in (("group", "group"), ("resource", "resource"), ("subresource", "subresource")):

        def chained(x: AuthorizerValue, value: str, field: str = field) -> AuthorizerValue:
            return _with(x, **{field: value})

        yield of(name, "authorizer,string", "authorizer", chained)
    yield of("namespace", "authorizer,string", "authorizer", lambda x, y: _with(x, namespace=y))
    yield of("name", "authorizer,string", "authorizer", lambda x, y: _with(x, name=y))
    yield of("path", "authorizer,string", "authorizer", _path)
    yield of(
        "serviceAccount",
        "authorizer,string,string",
        "authorizer",
        lambda x, namespace, name: replace(x, account=f"{namespace}:{name}"),
    )
    yield of("check", "authorizer,string", "decision", _check, cost=lambda *_: _CHECK_COST)
    yield of("allowed", "decision", "bool", lambda x: x.allowed)
    yield of("errored", "decision", "bool", lambda _: False)
    yield of("error", "decision", "string", lambda _: "")
    yield of("reason", "decision", "string", lambda _: "")


ROWS = (*_quantities(), *_lists(), *_sets(), *_formats(), *_authorizers())

"""Causes in the words of k8s.io/apimachinery/pkg/util/validation/field, and checks that several kinds share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headrace.api import quantity
from headrace.api.errors import Cause

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Json = dict[str, Any]

LABEL_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
LABEL_1123_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


def required(path: str, why: str = "") -> Cause:
    """The field must be there."""
    return Cause(path, f"Required value: {why}" if why else "Required value", "FieldValueRequired")


def invalid(path: str, value: Any, why: str) -> Cause:
    """The value is wrong."""
    return Cause(path, f"Invalid value: {shown(value)}: {why}", "FieldValueInvalid")


def unsupported(path: str, value: Any, supported: Iterable[str]) -> Cause:
    """The value is not one of those that there are."""
    listed = ", ".join(f'"{s}"' for s in sorted(supported))
    return Cause(path, f"Unsupported value: {shown(value)}: supported values: {listed}", "FieldValueNotSupported")


def duplicate(path: str, value: Any) -> Cause:
    """The value must be unique."""
    return Cause(path, f"Duplicate value: {shown(value)}", "FieldValueDuplicate")


def too_many(path: str, number: int, most: int) -> Cause:
    """The list is too long."""
    return Cause(path, f"Too many: {number}: must have at most {most} items", "FieldValueTooMany")


def not_found(path: str, value: Any) -> Cause:
    """The value names something that is not there."""
    return Cause(path, f"Not found: {shown(value)}", "FieldValueNotFound")


def forbidden(path: str, why: str) -> Cause:
    """The field may not be set or changed."""
    return Cause(path, f"Forbidden: {why}", "FieldValueForbidden")


def immutable(path: str, value: Any) -> Cause:
    """The field may not change."""
    return invalid(path, value, "field is immutable")


def shown(value: Any) -> str:
    """A value as it is quoted in a message."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)


def one_of(path: str, value: Any, supported: Iterable[str]) -> Iterator[Cause]:
    """The value must be there and be one of these."""
    if not value:
        yield required(path)
    elif value not in supported:
        yield unsupported(path, value, supported)


def dns_label(path: str, value: str) -> Iterator[Cause]:
    """A DNS-1123 label."""
    if not LABEL_1123.fullmatch(value):
        yield invalid(path, value, LABEL_1123_RULE)
    elif len(value) > 63:
        yield invalid(path, value, "must be no more than 63 characters")


def non_negative(path: str, value: Any) -> Iterator[Cause]:
    """An integer that is not below zero, when there is one."""
    if isinstance(value, int) and value < 0:
        yield invalid(path, value, "must be greater than or equal to 0")


def port(path: str, value: Any) -> Iterator[Cause]:
    """A port number."""
    if not isinstance(value, int) or not 1 <= value <= 65535:
        yield invalid(path, value, "must be between 1 and 65535, inclusive")


def port_or_name(path: str, value: Any) -> Iterator[Cause]:
    """A port number or the name of a port."""
    if isinstance(value, str):
        if not PORT_NAME.fullmatch(value) or len(value) > 15:
            why = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), at most 15, one a letter"
            yield invalid(path, value, why)
    else:
        yield from port(path, value)


def resource_list(path: str, resources: Any) -> Iterator[Cause]:
    """Quantities that parse and are not negative."""
    for name, value in (resources or {}).items():
        try:
            number = quantity.parse(value)
        except ValueError:
            why = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            yield invalid(f"{path}.{name}", value, why)
            continue
        if number < 0:
            yield invalid(f"{path}.{name}", value, "must be greater than or equal to 0")


def label_selector(path: str, selector: Json) -> Iterator[Cause]:
    """A LabelSelector's expressions."""
    for i, term in enumerate(selector.get("matchExpressions") or ()):
        operator, values = term.get("operator"), term.get("values")
        where = f"{path}.matchExpressions[{i}]"
        if operator in ("In", "NotIn") and not values:
            yield required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and values:
            yield forbidden(f"{where}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
        elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            yield invalid(f"{where}.operator", operator, "not a valid selector operator")

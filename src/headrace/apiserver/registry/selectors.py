"""Label and field selectors: kubectl's syntax, Kubernetes' meaning, the real server's complaints."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.api.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable

_SET = re.compile(r"\s*([^\s!=<>,()]+)\s+(in|notin)\s*\(([^()]*)\)\s*")
_COMPARE = re.compile(r"\s*([^\s!=<>,()]+)\s*(==|!=|=|<|>)\s*([^\s,!=<>()]*)\s*")
_EXISTS = re.compile(r"\s*(!?)\s*([^\s!=<>,()]+)\s*")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_ONE_NAME = re.compile(r"(?:^|,)\s*metadata\.name\s*==?\s*([^\s,=!]+)\s*(?:,|$)")


def selected_name(fields: str) -> str:
    """The one name that a field selector takes: who may see only that object may list and watch it so."""
    match = _ONE_NAME.search(fields) if fields else None
    return match[1] if match else ""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a selector."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def holds(self, labels: dict[str, str]) -> bool:
        """Whether these labels satisfy it."""
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value in self.values
            case "notin":
                return value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
            case _:
                return _compare(value, self.operator, next(iter(self.values)))


def _compare(value: str | None, operator: str, bound: str) -> bool:
    try:
        number, limit = int(value or ""), int(bound)
    except ValueError:
        return False
    return number > limit if operator == ">" else number < limit


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """A label selector such as `app=web,tier in (a, b),!canary`. Raises BadRequest."""
    out: list[Requirement] = []
    rest = text.strip()
    while rest:
        requirement, length = _next_label(rest, text)
        _check_label(requirement, text)
        out.append(requirement)
        rest = rest[length:]
        if rest:
            if not rest.startswith(","):
                raise _bad_labels(text, f"found '{rest.split(',')[0].strip()}', expected: ',' or the end")
            rest = rest[1:].strip()
            if not rest:
                raise _bad_labels(text, "found '', expected: identifier after ','")
    return tuple(out)


def _next_label(rest: str, text: str) -> tuple[Requirement, int]:
    if match := _SET.match(rest):
        key, operator, values = match.groups()
        return Requirement(key, operator, frozenset(v.strip() for v in values.split(","))), match.end()
    if match := _COMPARE.match(rest):
        key, operator, value = match.groups()
        if operator in "<>":
            if not re.fullmatch(r"-?\d+", value):
                raise _bad_labels(text, f"values[0]: Invalid value: {value!r}: for 'Gt', 'Lt' operators an integer")
            return Requirement(key, operator, frozenset({value})), match.end()
        return Requirement(key, "notin" if operator == "!=" else "in", frozenset({value})), match.end()
    if match := _EXISTS.match(rest):
        negated, key = match.groups()
        return Requirement(key, "!" if negated else "exists"), match.end()
    raise _bad_labels(text, f"found '{rest}', expected: identifier, '!' or the end")


def _check_label(requirement: Requirement, text: str) -> None:
    name = requirement.key.rpartition("/")[2]
    if not _LABEL_KEY.fullmatch(requirement.key) or len(name) > 63:
        raise _bad_labels(text, f'key: Invalid value: "{requirement.key}": not a qualified name')
    for value in requirement.values:
        if not _LABEL_VALUE.fullmatch(value) or len(value) > 63:
            raise _bad_labels(text, f'values: Invalid value: "{value}": not a valid label value')


def _bad_labels(text: str, why: str) -> BadRequest:
    return BadRequest(f"unable to parse requirement in label selector {text!r}: {why}")


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """`path=value` or `path!=value`."""

    path: str
    value: str
    negated: bool = False


def parse_fields(text: str) -> tuple[FieldTerm, ...]:
    """A field selector such as `metadata.name=x,status.phase!=Running`. Raises BadRequest."""
    out = []
    for part in re.split(r"(?<!\\),", text) if text.strip() else ():
        match = re.fullmatch(r"\s*([^=!\s]+)\s*(==|!=|=)(.*)", part, re.DOTALL)
        if match is None:
            raise BadRequest(f"invalid selector: {text!r}; can't understand {part!r}")
        path, operator, value = match.groups()
        out.append(FieldTerm(path, re.sub(r"\\([,=\\])", r"\1", value), operator == "!="))
    return tuple(out)


_META = ("metadata.name", "metadata.namespace")
_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_SELECTABLE: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ),
    ("", "Event"): (
        *(f"involvedObject.{f}" for f in _INVOLVED),
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    ("", "Node"): ("spec.unschedulable",),
    ("", "Namespace"): ("status.phase", "name"),
    ("", "Secret"): ("type",),
    ("", "Service"): ("spec.clusterIP", "spec.type"),
    ("apps", "ReplicaSet"): ("status.replicas",),
    ("", "ReplicationController"): ("status.replicas",),
    ("batch", "Job"): ("status.successful",),
}
_DEFAULTS = {"spec.hostNetwork": "false", "spec.unschedulable": "false", "status.replicas": "0"}
_ELSEWHERE = {
    "source": ("source", "component"),
    "status.successful": ("status", "succeeded"),
    "name": ("metadata", "name"),
}


def selectable(group: str, kind: str, extra: tuple[str, ...] = ()) -> frozenset[str]:
    """The field paths that a selector over this kind may name."""
    return frozenset((*_META, *_SELECTABLE.get((group, kind), ()), *extra))


def field_value(obj: dict[str, Any], path: str) -> str:
    """The text that a field selector compares."""
    value: Any = obj
    for part in _ELSEWHERE.get(path, path.split(".")):
        value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            return _DEFAULTS.get(path, "0" if path == "status.successful" else "")
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else str(value)


class Selector:
    """Both selectors of a request, ready to be asked about objects."""

    def __init__(self, labels: str, fields: str, allowed: Callable[[], frozenset[str]]) -> None:
        self.labels = parse_labels(labels)
        self.fields = parse_fields(fields)
        if self.fields:
            known = allowed()
            for term in self.fields:
                if term.path not in known:
                    raise BadRequest(f"field label not supported: {term.path}")
        self.name = next((t.value for t in self.fields if t.path == "metadata.name" and not t.negated), None)
        """The one name that can match, when the selector says so."""
        self.key_end = f"/{self.name or ''}"
        """How the key of that one object ends."""

    def __bool__(self) -> bool:
        return bool(self.labels or self.fields)

    def matches(self, obj: dict[str, Any]) -> bool:
        """Whether the object is selected."""
        if self.labels:
            labels = (obj.get("metadata") or {}).get("labels") or {}
            if not all(r.holds(labels) for r in self.labels):
                return False
        return all((field_value(obj, t.path) == t.value) is not t.negated for t in self.fields)

"""What Istio's policies ask of the gateway, as far as it can do that; pure, for the gateway and for who reports it.

Source: security.istio.io AuthorizationPolicy; routes are in `virtualservice`. Invariants: every field that is not
honoured is named in `ignored`; an allow rule with a condition that is not understood never holds, so that nobody gets
in by a condition that was overlooked (a deny rule holds without it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.machinery.settings import CLUSTER_DOMAIN, SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace.api.identity import User

SYSTEM_NAMESPACES = frozenset({SYSTEM_NAMESPACE, "istio-system"})
INGRESS = "istio-system"
"""Where upstream's ingress gateway runs: whatever comes through this gateway comes from there."""
_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Condition:
    """One `when`, one list of a `from` or of a `to`: one of the patterns holds, none of the others does."""

    of: str
    values: tuple[str, ...]
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """An AuthorizationPolicy. Each rule is a list of alternatives of conditions that must all hold."""

    namespace: str
    action: str
    selector: tuple[tuple[str, str], ...]
    rules: tuple[tuple[Condition, ...], ...]

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether it is about pods with these labels."""
        return all(labels.get(key) == value for key, value in self.selector)


@dataclass(slots=True)
class Parsed:
    """What an object means here."""

    policies: list[Policy]
    ignored: list[str]
    """Fields that are not honoured, as paths, some with a reason in brackets."""


def authorization_policy(namespace: str, spec: dict[str, Any]) -> Parsed:
    """The rules of an AuthorizationPolicy."""
    out = Parsed([], [f"spec.{n}" for n in spec if n not in {"selector", "action", "rules"}])
    action = str(spec.get("action") or "ALLOW")
    if action not in {"ALLOW", "DENY"}:
        out.ignored.append(f"spec.action ({action})")
        return out
    selector = dict_of(spec.get("selector"))
    labels = dict_of(selector.get("matchLabels"))
    rules: list[tuple[Condition, ...]] = []
    for number, rule in enumerate(dicts_of(spec.get("rules"))):
        rules += _rule(rule, f"spec.rules[{number}]", action, out)
    pairs = tuple((str(k), str(v)) for k, v in labels.items())
    out.policies.append(Policy(namespace, action, pairs, tuple(rules)))
    return out


_SOURCE = {"namespaces": "namespace", "principals": "principal"}
_OPERATION = {"paths": "path", "methods": "method"}
_WHEN = {
    "source.namespace": "namespace",
    "source.principal": "principal",
    "request.headers[kubeflow-userid]": "user",
    "request.headers[kubeflow-groups]": "group",
}


def _rule(rule: dict[str, Any], at: str, action: str, out: Parsed) -> list[tuple[Condition, ...]]:
    """The rule's alternatives (a `from` and a `to` are lists of which one must hold)."""
    sound = True

    def conditions(given: dict[str, Any], known: dict[str, str], where: str) -> list[Condition]:
        nonlocal sound
        found: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        for name, values in given.items():
            negative = name.startswith("not") and name[3:4].isupper()
            plain = name[3:4].lower() + name[4:] if negative else name
            if plain not in known:
                out.ignored.append(f"{where}.{name}")
                sound = False
                continue
            yes, no = found.get(known[plain], ((), ()))
            found[known[plain]] = (yes, texts_of(values)) if negative else (texts_of(values), no)
        return [Condition(of, *both) for of, both in found.items()]

    def alternatives(name: str, inner: str, known: dict[str, str]) -> list[list[Condition]]:
        every = []
        for index, each in enumerate(dicts_of(rule.get(name))):
            given = each.get(inner)
            every.append(conditions(given if isinstance(given, dict) else {}, known, f"{at}.{name}[{index}].{inner}"))
        return every or [[]]

    when: list[Condition] = []
    for index, each in enumerate(dicts_of(rule.get("when"))):
        of = _WHEN.get(str(each.get("key", "")).lower())
        if of is None:
            out.ignored.append(f"{at}.when[{index}].key ({each.get('key')})")
            sound = False
            continue
        when.append(Condition(of, texts_of(each.get("values")), texts_of(each.get("notValues"))))
    sources, operations = alternatives("from", "source", _SOURCE), alternatives("to", "operation", _OPERATION)
    if not sound and action == "ALLOW":
        return []
    return [(*source, *operation, *when) for source in sources for operation in operations]


def decide(policies: Iterable[Policy], labels: Mapping[str, str], user: User, method: str, path: str) -> str:
    """`DENY` or `ALLOW` as the policies about pods with these labels say, "" when none says anything."""
    namespaces, principals = [INGRESS], [f"{CLUSTER_DOMAIN}/ns/{INGRESS}/sa/istio-ingressgateway-service-account"]
    if user.name.startswith(_ACCOUNT):
        namespace, _, name = user.name.removeprefix(_ACCOUNT).partition(":")
        namespaces, principals = [namespace], [f"{CLUSTER_DOMAIN}/ns/{namespace}/sa/{name}"]
    facts = {
        "user": [user.name],
        "group": list(user.groups),
        "namespace": namespaces,
        "principal": principals,
        "method": [method],
        "path": [path],
    }
    said = ""
    for policy in policies:
        if policy.selects(labels) and any(all(_holds(c, facts) for c in rule) for rule in policy.rules):
            if policy.action == "DENY":
                return "DENY"
            said = "ALLOW"
    return said


def _holds(condition: Condition, facts: dict[str, list[str]]) -> bool:
    found = facts[condition.of]
    if any(_fits(pattern, value) for pattern in condition.excluded for value in found):
        return False
    return not condition.values or any(_fits(pattern, value) for pattern in condition.values for value in found)


def _fits(pattern: str, value: str) -> bool:
    if pattern == "*":
        return bool(value)
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value.endswith(pattern[1:]) if pattern.startswith("*") else value == pattern


def texts_of(given: Any) -> tuple[str, ...]:
    """The texts of a list; none of anything else."""
    return tuple(str(each) for each in given) if isinstance(given, list) else ()


def dict_of(given: Any) -> dict[str, Any]:
    """An object; an empty one in place of anything else."""
    return given if isinstance(given, dict) else {}


def dicts_of(given: Any) -> list[dict[str, Any]]:
    """The objects of a list; none of anything else."""
    return [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []

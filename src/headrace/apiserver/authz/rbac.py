"""RBAC: roles and bindings compiled into rules by subject, decisions remembered until a role or binding changes.

The evaluator reads the store's memory through `objects` and is told of changes by the registry, after the write
and before the writer hears of it: a grant holds for the very next request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import Struct

from headrace.api import _wire
from headrace.api.identity import MASTERS
from headrace.api.rbac import ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.api.identity import User
    from headrace.api.meta import KindInfo

GROUP = ClusterRole.INFO.group
_REMEMBERED = 8192


class Attributes(Struct, frozen=True, gc=False):
    """What is asked: a verb on a resource, or on a path."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    """Set for URLs that are no resources, such as /metrics."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Rules that a binding gives, everywhere or in one namespace."""

    namespace: str
    rules: tuple[PolicyRule, ...]


def _covers(allowed: Iterable[str], wanted: str) -> bool:
    return any(a in ("*", wanted) for a in allowed)


def _path_covers(allowed: Iterable[str], path: str) -> bool:
    return any(a == path or (a.endswith("*") and path.startswith(a[:-1])) for a in allowed)


def rule_allows(rule: PolicyRule, attributes: Attributes) -> bool:
    """Whether one rule allows the request."""
    if not _covers(rule.verbs, attributes.verb):
        return False
    if attributes.path:
        return _path_covers(rule.non_resource_urls, attributes.path)
    if not _covers(rule.api_groups, attributes.group):
        return False
    if rule.resource_names and attributes.name not in rule.resource_names:
        return False
    if attributes.subresource:
        wanted = (f"{attributes.resource}/{attributes.subresource}", f"*/{attributes.subresource}", "*")
        return any(r in wanted for r in rule.resources)
    return _covers(rule.resources, attributes.resource)


def subject_key(subject: Subject) -> str:
    """The identity that a subject names."""
    if subject.kind == "ServiceAccount":
        return f"User:system:serviceaccount:{subject.namespace}:{subject.name}"
    return f"{subject.kind}:{subject.name}"


class Authorizer:
    """Answers requests from the roles and bindings that exist now."""

    def __init__(self, objects: Callable[[KindInfo], Iterable[bytes]]) -> None:
        self._objects = objects
        self._grants: dict[str, list[Grant]] | None = None
        self._roles: dict[tuple[str, str], tuple[PolicyRule, ...]] = {}
        self._remembered: dict[tuple[str, tuple[str, ...], Attributes, bool], bool] = {}

    def changed(self) -> None:
        """A role or binding was written."""
        self._grants = None
        self._remembered.clear()

    def allows(self, user: User, attributes: Attributes) -> bool:
        """Whether the user may."""
        if MASTERS in user.groups:
            return True
        if attributes.name and not attributes.path:
            # What rules without names allow, they allow for every object: nearly all, also for names never seen before.
            of = Attributes(
                attributes.verb, attributes.group, attributes.resource, attributes.subresource, attributes.namespace
            )
            if self._decided(user, of, naming=False):
                return True
        return self._decided(user, attributes, naming=True)

    def _decided(self, user: User, attributes: Attributes, *, naming: bool) -> bool:
        """The decision, remembered; without `naming`, rules for certain names do not count."""
        key = (user.name, user.groups, attributes, naming)
        known = self._remembered.get(key)
        if known is None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            known = self._remembered[key] = any(
                rule_allows(rule, attributes)
                for rule in self.rules_for(user, attributes.namespace)
                if naming or not rule.resource_names
            )
        return known

    def rules_for(self, user: User, namespace: str) -> list[PolicyRule]:
        """Every rule that holds for the user in a namespace ("": only those that hold everywhere)."""
        grants = self._compiled()
        keys = (f"User:{user.name}", *(f"Group:{g}" for g in user.groups))
        return [
            rule
            for key in keys
            for grant in grants.get(key, ())
            if not grant.namespace or grant.namespace == namespace
            for rule in grant.rules
        ]

    def role_rules(self, kind: str, name: str, namespace: str = "") -> tuple[PolicyRule, ...] | None:
        """The rules of a role, aggregated ones included; None when there is no such role."""
        self._compiled()
        return self._roles.get((namespace if kind == "Role" else "", name))

    def _compiled(self) -> dict[str, list[Grant]]:
        if self._grants is None:
            self._roles = self._compile_roles()
            grants: dict[str, list[Grant]] = {}
            for raw in self._objects(ClusterRoleBinding.INFO):
                self._bind(grants, _wire.decode(ClusterRoleBinding, raw))
            for raw in self._objects(RoleBinding.INFO):
                self._bind(grants, _wire.decode(RoleBinding, raw))
            self._grants = grants
        return self._grants

    def _bind(self, grants: dict[str, list[Grant]], binding: RoleBinding | ClusterRoleBinding) -> None:
        namespace, ref = binding.metadata.namespace, binding.role_ref
        rules = self._roles.get((namespace if ref.kind == "Role" else "", ref.name))
        if rules is not None:
            for subject in binding.subjects:
                grants.setdefault(subject_key(subject), []).append(Grant(namespace, rules))

    def _compile_roles(self) -> dict[tuple[str, str], tuple[PolicyRule, ...]]:
        cluster = {r.metadata.name: r for r in (_wire.decode(ClusterRole, x) for x in self._objects(ClusterRole.INFO))}
        roles = {("", name): tuple(aggregated(role, cluster)) for name, role in cluster.items()}
        for raw in self._objects(Role.INFO):
            role = _wire.decode(Role, raw)
            roles[role.metadata.namespace, role.metadata.name] = tuple(role.rules)
        return roles


def aggregated(role: ClusterRole, roles: dict[str, ClusterRole]) -> list[PolicyRule]:
    """A ClusterRole's rules, gathered from those that its aggregation rule selects, and from theirs."""
    rules: list[PolicyRule] = []
    seen: set[str] = set()
    pending = [role]
    while pending:
        current = pending.pop(0)
        if current.metadata.name in seen:
            continue
        seen.add(current.metadata.name)
        if current.aggregation_rule is None:
            rules += [r for r in current.rules if r not in rules]
            continue
        for other in roles.values():
            selectors = current.aggregation_rule.cluster_role_selectors
            if any(s.matches(other.metadata.labels) for s in selectors):
                pending.append(other)
    return rules

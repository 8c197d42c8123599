"""Nobody may grant what they do not hold: checks of roles and bindings that a user writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.errors import Forbidden, NotFound
from headrace.api.identity import MASTERS
from headrace.api.rbac import GROUP, PolicyRule
from headrace.apiserver.authz.rbac import Attributes, rule_allows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.api.identity import User
    from headrace.api.meta import KindInfo
    from headrace.apiserver.authz.rbac import Authorizer

Json = dict[str, Any]


def atoms(rule: PolicyRule) -> Iterator[Attributes]:
    """The single permissions that a rule gives; wildcards stay wildcards."""
    for verb in rule.verbs:
        for path in rule.non_resource_urls:
            yield Attributes(verb, path=path)
        for group in rule.api_groups:
            for resource in rule.resources:
                plural, _, part = resource.partition("/")
                for name in rule.resource_names or ("",):
                    yield Attributes(verb, group, plural, part, "", name)


def not_held(rules: list[PolicyRule], held: list[PolicyRule]) -> list[PolicyRule]:
    """Those rules that give something which `held` does not."""
    return [rule for rule in rules if not all(any(_covers(h, a) for h in held) for a in atoms(rule))]


def _covers(rule: PolicyRule, atom: Attributes) -> bool:
    if atom.verb == "*" and "*" not in rule.verbs:
        return False
    if atom.path:
        return rule_allows(rule, atom)
    if atom.group == "*" and "*" not in rule.api_groups:
        return False
    if atom.resource == "*" and "*" not in rule.resources and f"*/{atom.subresource}" not in rule.resources:
        return False
    return rule_allows(rule, atom)


def check(user: User, info: KindInfo, obj: Json, authorizer: Authorizer) -> None:
    """Raises Forbidden when the user would grant more than they hold, NotFound when a bound role is missing."""
    if MASTERS in user.groups:
        return
    meta = obj["metadata"]
    namespace = meta.get("namespace", "") if info.namespaced else ""
    if info.kind in ("Role", "ClusterRole"):
        if authorizer.allows(user, Attributes("escalate", GROUP, info.plural, "", namespace, meta.get("name", ""))):
            return
        rules = [_wire.convert(PolicyRule, r) for r in obj.get("rules") or ()]
    else:
        reference = obj["roleRef"]
        plural = "roles" if reference["kind"] == "Role" else "clusterroles"
        if authorizer.allows(user, Attributes("bind", GROUP, plural, "", namespace, reference["name"])):
            return
        found = authorizer.role_rules(reference["kind"], reference["name"], namespace)
        if found is None:
            raise NotFound(
                f'{plural}.{GROUP} "{reference["name"]}" not found', kind=plural, group=GROUP, name=reference["name"]
            )
        rules = list(found)
    missing = not_held(rules, authorizer.rules_for(user, namespace))
    if missing:
        groups = json.dumps(list(user.groups))
        listed = "\n".join(_shown(rule) for rule in missing)
        raise Forbidden(
            f'{info.resource} "{meta.get("name", "")}" is forbidden: user "{user.name}" (groups={groups}) is '
            f"attempting to grant RBAC permissions not currently held:\n{listed}",
            kind=info.plural,
            group=info.group,
            name=meta.get("name", ""),
        )


def _shown(rule: PolicyRule) -> str:
    parts = {
        "APIGroups": rule.api_groups,
        "Resources": rule.resources,
        "ResourceNames": rule.resource_names,
        "NonResourceURLs": rule.non_resource_urls,
        "Verbs": rule.verbs,
    }
    return "{" + ", ".join(f"{k}:{json.dumps(v)}" for k, v in parts.items() if v) + "}"

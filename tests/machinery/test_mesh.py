"""What AuthorizationPolicies mean here, and what is said to be without effect."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.api.identity import User
from headrace.machinery import mesh

ANN, BOB = User("ann@example.com", groups=("staff",)), User("bob@example.com")
POD = User("system:serviceaccount:team:default-editor")


def when(key: str, *values: str) -> dict[str, Any]:
    return {"when": [{"key": key, "values": list(values)}]}


@pytest.mark.parametrize(
    ("action", "rules", "ann", "bob", "pod"),
    [
        ("ALLOW", [when("request.headers[kubeflow-userid]", "ann@example.com")], "ALLOW", "", ""),
        ("ALLOW", [when("request.headers[kubeflow-groups]", "staff")], "ALLOW", "", ""),
        ("ALLOW", [{"from": [{"source": {"namespaces": ["team"]}}]}], "", "", "ALLOW"),
        ("ALLOW", [{"to": [{"operation": {"paths": ["/a/*"], "methods": ["GET"]}}]}], "ALLOW", "ALLOW", "ALLOW"),
        ("ALLOW", [{"to": [{"operation": {"paths": ["/b/*"]}}]}], "", "", ""),
        ("ALLOW", [{}], "ALLOW", "ALLOW", "ALLOW"),
        ("ALLOW", [], "", "", ""),
        ("DENY", [when("request.headers[kubeflow-userid]", "bob@*")], "", "DENY", ""),
        ("ALLOW", [when("request.headers[x-other]", "1")], "", "", ""),
        ("DENY", [when("request.headers[x-other]", "1")], "DENY", "DENY", "DENY"),
        ("ALLOW", [{"from": [{"source": {"notNamespaces": ["team"]}}]}], "ALLOW", "ALLOW", ""),
        ("ALLOW", [{"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}]}], "", "", ""),
    ],
)
def test_rules_say_who_is_let_in(action: str, rules: list[Any], ann: str, bob: str, pod: str) -> None:
    policies = mesh.authorization_policy("team", {"action": action, "rules": rules}).policies
    assert [mesh.decide(policies, {}, user, "GET", "/a/b") for user in (ANN, BOB, POD)] == [ann, bob, pod]


def test_a_policy_is_about_the_pods_that_it_selects_and_a_denial_comes_first() -> None:
    allow = mesh.authorization_policy("team", {"rules": [{}]}).policies
    deny = mesh.authorization_policy("team", {"action": "DENY", "rules": [{}], "selector": {"matchLabels": {"a": "b"}}})
    both = [*allow, *deny.policies]
    assert mesh.decide(both, {"a": "b"}, ANN, "GET", "/") == "DENY"
    assert mesh.decide(both, {"a": "c"}, ANN, "GET", "/") == "ALLOW"


def test_what_a_policy_cannot_say_here_is_named() -> None:
    rule = {"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}], **when("request.auth.claims[iss]", "x")}
    assert mesh.authorization_policy("team", {"rules": [rule], "targetRefs": []}).ignored == [
        "spec.targetRefs",
        "spec.rules[0].when[0].key (request.auth.claims[iss])",
        "spec.rules[0].from[0].source.ipBlocks",
    ]
    assert mesh.authorization_policy("team", {"action": "CUSTOM"}).ignored == ["spec.action (CUSTOM)"]

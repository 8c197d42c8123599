"""What VirtualServices and AuthorizationPolicies mean here, and what is said to be without effect."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.api.identity import User
from headrace.machinery import mesh

NOTEBOOK: dict[str, Any] = {
    "hosts": ["*"],
    "gateways": ["kubeflow/kubeflow-gateway"],
    "http": [
        {
            "match": [{"uri": {"prefix": "/notebook/team/nb/"}}],
            "rewrite": {"uri": "/notebook/team/nb/"},
            "route": [{"destination": {"host": "nb.team.svc.cluster.local", "port": {"number": 80}}}],
            "headers": {"request": {"set": {"X-RStudio-Root-Path": "/notebook/team/nb/"}, "add": {}, "remove": []}},
            "timeout": "300s",
        }
    ],
}


def http(**changes: Any) -> dict[str, Any]:
    return NOTEBOOK | {"http": [NOTEBOOK["http"][0] | changes]}


def test_a_notebooks_route_is_honoured_in_full() -> None:
    parsed = mesh.virtual_service("team", NOTEBOOK)
    assert parsed.ignored == []
    route = parsed.routes[0]
    assert (route.namespace, route.service, route.port, route.timeout) == ("team", "nb", 80, 300.0)
    assert route.holds("localhost", "GET", "/notebook/team/nb/lab")
    assert not route.holds("localhost", "GET", "/notebook/team/other/lab")
    edited = route.request.applied([(b"x-rstudio-root-path", b"theirs"), (b"accept", b"*/*")])
    assert edited == [(b"accept", b"*/*"), (b"x-rstudio-root-path", b"/notebook/team/nb/")]


@pytest.mark.parametrize(
    ("spec", "ignored"),
    [
        (NOTEBOOK | {"gateways": ["mesh"]}, "spec.gateways"),
        (http(match=[{"uri": {"prefix": "/"}}]), "spec.http[0].match[0].uri"),
        (http(match=[{"uri": {"prefix": "/notebook/other/nb/"}}]), "spec.http[0].match[0].uri"),
        (http(match=[{"uri": {"regex": "/notebook/team/.*"}}]), "spec.http[0].match[0].uri"),
        (http(match=[{"uri": {"prefix": "/notebook/team/"}, "port": 80}]), "spec.http[0].match[0].port"),
        (http(match=[]), "spec.http[0]"),
        (http(route=[{"destination": {"host": "db.other"}}]), "spec.http[0].route[0].destination.host"),
        (http(route=[{"destination": {"host": "www.example.com"}}]), "spec.http[0].route[0].destination.host"),
        (http(redirect={"uri": "/x"}), "spec.http[0].redirect"),
    ],
)  # fmt: skip
def test_a_route_that_cannot_be_honoured_is_none_and_says_so(spec: dict[str, Any], ignored: str) -> None:
    parsed = mesh.virtual_service("team", spec)
    assert parsed.routes == []
    assert any(each.startswith(ignored) for each in parsed.ignored), parsed.ignored


def test_what_changes_no_route_is_said_and_the_route_stands() -> None:
    parsed = mesh.virtual_service("team", http(retries={"attempts": 3}) | {"tls": []})
    assert len(parsed.routes) == 1
    assert parsed.ignored == ["spec.tls", "spec.http[0].retries"]


def test_a_prefix_does_not_take_namespaces_whose_names_begin_alike() -> None:
    route = mesh.virtual_service("team", http(match=[{"uri": {"prefix": "/notebook/team"}}])).routes[0]
    assert route.holds("h", "GET", "/notebook/team/x")
    assert not route.holds("h", "GET", "/notebook/team-b/x")


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

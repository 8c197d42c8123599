"""What VirtualServices mean here, and what is said to be without effect."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.machinery import virtualservice
from headrace.machinery.virtualservice import Redirect, Retries

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
PREFIX = {"uri": {"prefix": "/notebook/team/nb/"}}


def http(**changes: Any) -> dict[str, Any]:
    return NOTEBOOK | {"http": [NOTEBOOK["http"][0] | changes]}


def to(host: str, **more: Any) -> dict[str, Any]:
    return {"destination": {"host": host}, **more}


def asked(path: str, *headers: tuple[str, str], method: str = "GET", query: str = "") -> dict[str, Any]:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return {"path": path, "method": method, "headers": raw, "query_string": query.encode()}


def test_a_notebooks_route_is_honoured_in_full() -> None:
    parsed = virtualservice.parse("team", NOTEBOOK)
    assert parsed.ignored == []
    route = parsed.routes[0]
    (only,) = route.destinations
    assert (only.namespace, only.service, only.port, route.timeout) == ("team", "nb", 80, 300.0)
    assert route.holds("localhost", asked("/notebook/team/nb/lab"))
    assert not route.holds("localhost", asked("/notebook/team/other/lab"))
    edited = only.request.applied([(b"x-rstudio-root-path", b"theirs"), (b"accept", b"*/*")])
    assert edited == [(b"accept", b"*/*"), (b"x-rstudio-root-path", b"/notebook/team/nb/")]


@pytest.mark.parametrize(
    ("match", "holds", "others"),
    [
        ({"uri": {"exact": "/a/team/x"}}, [asked("/a/team/x")], [asked("/a/team/x/")]),
        ({"uri": {"exact": "/a/team/X"}, "ignoreUriCase": True}, [asked("/a/team/x")], [asked("/a/team/y")]),
        ({"uri": {"regex": "^/a/team/v[0-9]+$"}}, [asked("/a/team/v12")], [asked("/a/team/v12/x"), asked("/a/team/v")]),
        ({"uri": {"regex": "/a/team/x|/b/other/y"}}, [asked("/a/team/x")], [asked("/b/other/y")]),
        ({"uri": {"prefix": "/a/team"}}, [asked("/a/team/x")], [asked("/a/team-b/x"), asked("/a/team")]),
        (
            {**PREFIX, "method": {"regex": "P.*"}},
            [asked("/notebook/team/nb/", method="PUT")],
            [asked("/notebook/team/nb/")],
        ),
        (
            {**PREFIX, "headers": {"X-Version": {"prefix": "2."}}},
            [asked("/notebook/team/nb/", ("x-version", "2.1"))],
            [asked("/notebook/team/nb/", ("x-version", "1.2")), asked("/notebook/team/nb/")],
        ),
        (
            {**PREFIX, "headers": {"x-here": {}}, "withoutHeaders": {"x-gone": {"exact": "1"}}},
            [asked("/notebook/team/nb/", ("x-here", ""), ("x-gone", "2"))],
            [asked("/notebook/team/nb/"), asked("/notebook/team/nb/", ("x-here", ""), ("x-gone", "1"))],
        ),
        (
            {**PREFIX, "queryParams": {"ab": {"exact": "c d"}}},
            [asked("/notebook/team/nb/", query="ab=c%20d")],
            [asked("/notebook/team/nb/", query="ab=c"), asked("/notebook/team/nb/")],
        ),
        (
            {**PREFIX, "authority": {"exact": "nb.example.org"}},
            [asked("/notebook/team/nb/", ("host", "nb.example.org"))],
            [asked("/notebook/team/nb/", ("host", "x.example.org"))],
        ),
    ],
)  # fmt: skip
def test_which_requests_are_meant(match: dict[str, Any], holds: list[Any], others: list[Any]) -> None:
    parsed = virtualservice.parse("team", http(match=[match]))
    assert parsed.ignored == []
    assert all(parsed.routes[0].holds("h", scope) for scope in holds)
    assert not any(parsed.routes[0].holds("h", scope) for scope in others)


@pytest.mark.parametrize(
    ("spec", "ignored"),
    [
        (NOTEBOOK | {"gateways": ["mesh"]}, "spec.gateways"),
        (http(match=[{"uri": {"prefix": "/"}}]), "spec.http[0].match[0].uri"),
        (http(match=[{"uri": {"prefix": "/notebook/other/nb/"}}]), "spec.http[0].match[0].uri"),
        (http(match=[{"uri": {"regex": "/[a-z]+/team/x"}}]), "spec.http[0].match[0].uri"),
        (http(match=[{"uri": {"regex": "/a/te.m/x"}}]), "spec.http[0].match[0].uri"),
        (http(match=[{"uri": {"regex": "/a/team/("}}]), "spec.http[0].match[0].uri"),
        (http(match=[{"uri": {"prefix": "/notebook/team/"}, "port": 80}]), "spec.http[0].match[0].port"),
        (http(match=[{**PREFIX, "headers": {"x": {"exact": 1}}}]), "spec.http[0].match[0].headers.x"),
        (http(match=[{**PREFIX, "headers": {"Cookie": {"regex": ".*a.*"}}}]), "spec.http[0].match[0].headers.Cookie"),
        (http(match=[{**PREFIX, "headers": {"authorization": {}}}]), "spec.http[0].match[0].headers.authorization"),
        (http(match=[{**PREFIX, "withoutHeaders": {"kubeflow-userid": {}}}]), "spec.http[0].match[0].withoutHeaders"),
        (http(match=[]), "spec.http[0]"),
        (http(route=[to("db.other")]), "spec.http[0].route[0].destination.host"),
        (http(route=[to("www.example.com")]), "spec.http[0].route[0].destination.host"),
        (http(route=[to("a", weight=50), to("b.other", weight=50)]), "spec.http[0].route[1].destination.host"),
        (http(route=[to("a"), to("b")]), "spec.http[0].route"),
        (http(redirect={"uri": "//evil.example"}), "spec.http[0].redirect.uri"),
        (http(redirect={"authority": "evil.example"}), "spec.http[0].redirect.authority"),
        (http(redirect={"redirectCode": 200}), "spec.http[0].redirect.redirectCode"),
        (http(directResponse={"status": 200}), "spec.http[0].directResponse"),
    ],
)
def test_a_route_that_cannot_be_honoured_is_none_and_says_so(spec: dict[str, Any], ignored: str) -> None:
    parsed = virtualservice.parse("team", spec)
    assert parsed.routes == []
    assert any(each.startswith(ignored) for each in parsed.ignored), parsed.ignored


def test_what_changes_no_route_is_said_and_the_route_stands() -> None:
    spec = http(mirror={"host": "nb"}, corsPolicy={}, fault={}, retries={"attempts": 2, "retryOn": "5xx,magic"})
    parsed = virtualservice.parse("team", spec | {"tls": []})
    assert len(parsed.routes) == 1
    assert parsed.ignored == [
        "spec.tls",
        "spec.http[0].mirror",
        "spec.http[0].corsPolicy",
        "spec.http[0].fault",
        "spec.http[0].retries.retryOn (magic)",
    ]


def test_destinations_by_weight_with_headers_of_their_own() -> None:
    headers = {"request": {"set": {"x-which": "b"}}}
    routes = [to("a", weight=75), to("b", weight=25, headers=headers), to("c", weight=0)]
    parsed = virtualservice.parse("team", http(route=routes, headers={"request": {"add": {"x-all": "1"}}}))
    assert parsed.ignored == []
    assert [(d.service, d.weight) for d in parsed.routes[0].destinations] == [("a", 75), ("b", 25)]
    edited = [d.request.applied([]) for d in parsed.routes[0].destinations]
    assert edited == [[(b"x-all", b"1")], [(b"x-which", b"b"), (b"x-all", b"1")]]


def test_redirects_and_retries() -> None:
    moved = virtualservice.parse("team", http(redirect={"uri": "/notebook/team/new/", "redirectCode": 308}))
    assert (moved.ignored, moved.routes[0].redirect) == ([], Redirect(308, "/notebook/team/new/"))
    away = virtualservice.parse("kubeflow", http(redirect={"authority": "docs.example.org"}))
    assert away.routes[0].redirect == Redirect(301, "", "docs.example.org")
    retries = {"attempts": 99, "perTryTimeout": "500ms", "retryOn": "gateway-error, reset,429"}
    parsed = virtualservice.parse("team", http(retries=retries))
    assert parsed.ignored == []
    assert parsed.routes[0].retries == Retries(10, 0.5, frozenset({429, 502, 503, 504}))
    default = virtualservice.parse("team", http(retries={"attempts": 1})).routes[0].retries
    assert default == Retries(1, 0.0, frozenset({503}))

"""What Istio's objects ask of the gateway, as far as it can do that; pure, for the gateway and for who reports it.

Source: networking.istio.io VirtualService and security.istio.io AuthorizationPolicy. Invariants: every field that is
not honoured is named in `ignored`; a route or an allow rule with a condition that is not understood never holds, so
that nobody gets in by a condition that was overlooked (a deny rule holds without it); a namespace's routes lead to
Services of that namespace, below paths that bear its name, except those of the platform's own namespaces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.machinery.settings import CLUSTER_DOMAIN, SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace.api.identity import User

SYSTEM_NAMESPACES = frozenset({SYSTEM_NAMESPACE, "istio-system"})
INGRESS = "istio-system"
"""Where upstream's ingress gateway runs: whatever comes through this gateway comes from there."""
TIMEOUT_SECONDS = 300.0
_ACCOUNT = "system:serviceaccount:"
_HTTP = frozenset({"name", "match", "rewrite", "route", "headers", "timeout"})
_MATCH = frozenset({"name", "uri", "method"})
_SPEC = frozenset({"hosts", "gateways", "http"})
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Edits:
    """What is done to the headers of a message."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()

    def applied(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The headers afterwards."""
        gone = {name.encode() for name, _ in self.set} | {name.encode() for name in self.remove}
        kept = [header for header in headers if header[0].lower() not in gone]
        return kept + [(name.encode(), value.encode()) for name, value in (*self.set, *self.add)]


@dataclass(frozen=True, slots=True)
class Route:
    """One match of a VirtualService."""

    hosts: tuple[str, ...]
    path: str
    exact: bool
    methods: tuple[str, ...]
    namespace: str
    """Of the Service; who may reach the route is decided there."""
    service: str
    port: int
    """Of the Service; 0 for its only one."""
    rewrite: str = ""
    authority: str = ""
    timeout: float = TIMEOUT_SECONDS
    request: Edits = Edits()
    response: Edits = Edits()

    def holds(self, host: str, method: str, path: str) -> bool:
        """Whether the route is for such a request; `host` is without port."""
        if self.methods and method not in self.methods:
            return False
        if path != self.path if self.exact else not path.startswith(self.path):
            return False
        return any(h in {"*", host} or (h.startswith("*.") and host.endswith(h[1:])) for h in self.hosts)


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

    routes: list[Route]
    policies: list[Policy]
    ignored: list[str]
    """Fields that are not honoured, as paths, some with a reason in brackets."""


def virtual_service(namespace: str, spec: dict[str, Any]) -> Parsed:
    """The routes of a VirtualService."""
    out = Parsed([], [], [f"spec.{name}" for name in spec if name not in _SPEC])
    gateways = _texts(spec.get("gateways"))
    if not any(name != "mesh" for name in gateways):
        out.ignored.append("spec.gateways (no gateway is named, and pods reach each other without a mesh)")
        return out
    hosts = tuple(host.lower() for host in _texts(spec.get("hosts"))) or ("*",)
    for number, http in enumerate(_dicts(spec.get("http"))):
        at = f"spec.http[{number}]"
        unknown = [f"{at}.{name}" for name in http if name not in _HTTP]
        out.ignored += unknown
        if any(name in http for name in ("redirect", "directResponse", "delegate")):
            continue
        destination = _destination(namespace, http, at, out)
        if destination is None:
            continue
        request, response = _edits(http, at, out)
        matches = _dicts(http.get("match"))
        if not matches:
            out.ignored.append(f"{at} (without match.uri it would take every path, which is the dashboard's)")
        for index, match in enumerate(matches):
            where = f"{at}.match[{index}]"
            found = _match(namespace, match, where, out)
            if found is None:
                continue
            rewrite = _dict(http.get("rewrite"))
            out.ignored += [f"{at}.rewrite.{n}" for n in rewrite if n not in {"uri", "authority"} and index == 0]
            path, exact, methods = found
            out.routes.append(
                Route(
                    hosts,
                    path,
                    exact,
                    methods,
                    *destination,
                    rewrite=str(rewrite.get("uri") or ""),
                    authority=str(rewrite.get("authority") or ""),
                    timeout=_seconds(http.get("timeout")),
                    request=request,
                    response=response,
                )
            )
    return out


def _destination(namespace: str, http: dict[str, Any], at: str, out: Parsed) -> tuple[str, str, int] | None:
    routes = _dicts(http.get("route"))
    if not routes:
        out.ignored.append(f"{at}.route (it names no destination)")
        return None
    out.ignored += [f"{at}.route[{n}] (the first destination gets everything)" for n in range(1, len(routes))]
    out.ignored += [f"{at}.route[0].{n}" for n in routes[0] if n not in {"destination", "headers", "weight"}]
    wanted = routes[0].get("destination")
    wanted = wanted if isinstance(wanted, dict) else {}
    out.ignored += [f"{at}.route[0].destination.{n}" for n in wanted if n not in {"host", "port"}]
    host = str(wanted.get("host") or "").removesuffix(f".{CLUSTER_DOMAIN}").removesuffix(".svc")
    service, _, other = host.partition(".")
    where = other or namespace
    if not service or "." in where:
        out.ignored.append(f"{at}.route[0].destination.host (only Services of this cluster are reached)")
        return None
    if where != namespace and namespace not in SYSTEM_NAMESPACES:
        out.ignored.append(f"{at}.route[0].destination.host (a Service of another namespace)")
        return None
    port = wanted.get("port")
    number = port.get("number") if isinstance(port, dict) else 0
    return where, service, number if isinstance(number, int) else 0


def _match(namespace: str, match: dict[str, Any], at: str, out: Parsed) -> tuple[str, bool, tuple[str, ...]] | None:
    unknown = [f"{at}.{name} (so this match never holds)" for name in match if name not in _MATCH]
    out.ignored += unknown
    uri = _dict(match.get("uri"))
    kind = next((k for k in ("exact", "prefix") if isinstance(uri.get(k), str)), "")
    method = _dict(match.get("method"))
    if method and not isinstance(method.get("exact"), str):
        out.ignored.append(f"{at}.method (only exact; so this match never holds)")
        return None
    if not kind or uri[kind] == "/" or not uri[kind].startswith("/"):
        out.ignored.append(f"{at}.uri (an exact path or a prefix longer than / is needed)")
        return None
    path: str = uri[kind]
    if namespace not in SYSTEM_NAMESPACES and path.split("/")[2:3] != [namespace]:
        out.ignored.append(f"{at}.uri (paths of this namespace are /…/{namespace}/…)")
        return None
    if unknown:
        return None
    if kind == "prefix" and namespace not in SYSTEM_NAMESPACES and path.count("/") < 3:
        path += "/"  # else the prefix would also take namespaces whose names begin alike
    return path, kind == "exact", (method["exact"],) if method else ()


def _edits(http: dict[str, Any], at: str, out: Parsed) -> tuple[Edits, Edits]:
    found = {"request": Edits(), "response": Edits()}
    first = (_dicts(http.get("route")) or [{}])[0]
    for where, given in ((f"{at}.headers", http.get("headers")), (f"{at}.route[0].headers", first.get("headers"))):
        for side, parts in (given if isinstance(given, dict) else {}).items():
            if side not in found or not isinstance(parts, dict):
                out.ignored.append(f"{where}.{side}")
                continue
            out.ignored += [f"{where}.{side}.{name}" for name in parts if name not in {"set", "add", "remove"}]
            before = found[side]
            found[side] = Edits(
                before.set + _pairs(parts.get("set"), f"{where}.{side}.set", out),
                before.add + _pairs(parts.get("add"), f"{where}.{side}.add", out),
                before.remove + tuple(name.lower() for name in _texts(parts.get("remove"))),
            )
    return found["request"], found["response"]


def _pairs(given: Any, at: str, out: Parsed) -> tuple[tuple[str, str], ...]:
    pairs = []
    for name, value in (given if isinstance(given, dict) else {}).items():
        if (
            re.fullmatch(r"[A-Za-z0-9-]+", str(name))
            and re.fullmatch(r"[\x20-\x7e]*", str(value))
            and "%" not in str(value)
        ):
            pairs.append((str(name).lower(), str(value)))
        else:
            out.ignored.append(f"{at}.{name} (plain text only)")
    return tuple(pairs)


def authorization_policy(namespace: str, spec: dict[str, Any]) -> Parsed:
    """The rules of an AuthorizationPolicy."""
    out = Parsed([], [], [f"spec.{n}" for n in spec if n not in {"selector", "action", "rules"}])
    action = str(spec.get("action") or "ALLOW")
    if action not in {"ALLOW", "DENY"}:
        out.ignored.append(f"spec.action ({action})")
        return out
    selector = _dict(spec.get("selector"))
    labels = _dict(selector.get("matchLabels"))
    rules: list[tuple[Condition, ...]] = []
    for number, rule in enumerate(_dicts(spec.get("rules"))):
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
            found[known[plain]] = (yes, _texts(values)) if negative else (_texts(values), no)
        return [Condition(of, *both) for of, both in found.items()]

    def alternatives(name: str, inner: str, known: dict[str, str]) -> list[list[Condition]]:
        every = []
        for index, each in enumerate(_dicts(rule.get(name))):
            given = each.get(inner)
            every.append(conditions(given if isinstance(given, dict) else {}, known, f"{at}.{name}[{index}].{inner}"))
        return every or [[]]

    when: list[Condition] = []
    for index, each in enumerate(_dicts(rule.get("when"))):
        of = _WHEN.get(str(each.get("key", "")).lower())
        if of is None:
            out.ignored.append(f"{at}.when[{index}].key ({each.get('key')})")
            sound = False
            continue
        when.append(Condition(of, _texts(each.get("values")), _texts(each.get("notValues"))))
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


def _seconds(text: Any) -> float:
    parts = _DURATION.findall(text) if isinstance(text, str) else []
    return sum(float(n) * _SECONDS[unit] for n, unit in parts) or TIMEOUT_SECONDS


def _texts(given: Any) -> tuple[str, ...]:
    return tuple(str(each) for each in given) if isinstance(given, list) else ()


def _dict(given: Any) -> dict[str, Any]:
    return given if isinstance(given, dict) else {}


def _dicts(given: Any) -> list[dict[str, Any]]:
    return [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []

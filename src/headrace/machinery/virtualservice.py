"""What a VirtualService asks of the gateway, as far as it can do that; pure, for the gateway and for who reports it.

Source: networking.istio.io VirtualService. Invariants: every field that is not honoured is named in `ignored`; a match
with a condition that is not understood never holds, so that nothing is led elsewhere by what was overlooked; a
namespace's routes lead to Services of that namespace, below paths that bear its name, except those of the platform's
own namespaces, and what they redirect to is on this site; no route tells its owner what secrets a request carries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from headrace.machinery.mesh import SYSTEM_NAMESPACES, dict_of, dicts_of, texts_of
from headrace.machinery.settings import CLUSTER_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TIMEOUT_SECONDS = 300.0
MAX_ATTEMPTS = 10
SECRET = frozenset({"cookie", "authorization", "x-xsrf-token", "kubeflow-userid", "kubeflow-groups"})
"""Headers that no condition may ask about: by where a request goes, its owner would learn what they say. Who asks is
what the gateway finds out, not what a client says.
"""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HTTP = frozenset({"name", "match", "rewrite", "route", "redirect", "headers", "timeout", "retries"})
_MATCH = frozenset({"name", "uri", "method", "authority", "headers", "withoutHeaders", "queryParams", "ignoreUriCase"})
_SPEC = frozenset({"hosts", "gateways", "http"})
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_RETRY_ON = {
    "5xx": range(500, 600),
    "gateway-error": (502, 503, 504),
    "retriable-4xx": (409,),
    "connect-failure": (),
    "refused-stream": (),
    "reset": (),
    "unavailable": (),
    "cancelled": (),
    "retriable-status-codes": (),
}
"""Of a policy: which answers are worth another attempt. A connection that fails always is; the last are of gRPC."""


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

    def then(self, more: Edits) -> Edits:
        """These, and then those."""
        return Edits(self.set + more.set, self.add + more.add, self.remove + more.remove)


@dataclass(frozen=True, slots=True)
class Text:
    """A StringMatch."""

    kind: str
    """`exact`, `prefix` or `regex` (RE2, the whole text)."""
    value: str

    def holds(self, text: str, *, folded: bool = False) -> bool:
        """Whether a text is meant; `folded` is without regard to case."""
        if self.kind == "regex":
            return pattern(self.value, folded=folded).fullmatch(text) is not None
        wanted, found = (self.value.lower(), text.lower()) if folded else (self.value, text)
        return found == wanted if self.kind == "exact" else found.startswith(wanted)


@dataclass(frozen=True, slots=True)
class Field:
    """A condition about a header or a part of the query; without a text it only has to be there."""

    name: str
    text: Text | None
    absent: bool = False

    def holds(self, values: Mapping[str, list[str]]) -> bool:
        """Whether the request's fields are so."""
        found = values.get(self.name, [])
        fits = bool(found) if self.text is None else any(self.text.holds(value) for value in found)
        return fits is not self.absent


@dataclass(frozen=True, slots=True)
class Match:
    """Which requests are meant. `floor` is what the path begins with in any case."""

    uri: Text
    floor: str = ""
    method: Text | None = None
    authority: Text | None = None
    headers: tuple[Field, ...] = ()
    query: tuple[Field, ...] = ()
    folded: bool = False

    def holds(self, scope: Mapping[str, Any]) -> bool:
        """Whether the route is for such an HTTP request or handshake."""
        path: str = scope["path"]
        if not path.startswith(self.floor) or not self.uri.holds(path, folded=self.folded):
            return False
        if self.method is not None and not self.method.holds(scope["method"]):
            return False
        if self.authority is not None or self.headers:
            given = _grouped((n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"])
            if self.authority is not None and not any(self.authority.holds(v) for v in given.get("host", [])):
                return False
            if not all(field.holds(given) for field in self.headers):
                return False
        if not self.query:
            return True
        asked = _grouped(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        return all(field.holds(asked) for field in self.query)


@dataclass(frozen=True, slots=True)
class Destination:
    """A Service, and how much of the traffic it gets. Who may reach it is decided in its namespace."""

    namespace: str
    service: str
    port: int
    """0 for the Service's only one."""
    weight: int = 1
    request: Edits = Edits()
    response: Edits = Edits()


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a request is sent instead."""

    status: int
    path: str
    """Nothing for the request's own."""
    authority: str = ""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and for what, another attempt is made."""

    attempts: int
    each: float
    """Seconds for one attempt; 0 for no limit of its own."""
    statuses: frozenset[int]


@dataclass(frozen=True, slots=True)
class Route:
    """One match of a VirtualService."""

    hosts: tuple[str, ...]
    match: Match
    destinations: tuple[Destination, ...] = ()
    redirect: Redirect | None = None
    rewrite: str = ""
    authority: str = ""
    timeout: float = TIMEOUT_SECONDS
    retries: Retries | None = None

    @property
    def weight(self) -> tuple[bool, int]:
        """Of two that fit, the greater counts: an exact path, then the longer one."""
        return self.match.uri.kind == "exact", len(self.match.uri.value)

    def holds(self, host: str, scope: Mapping[str, Any]) -> bool:
        """Whether the route is for such a request; `host` is without port."""
        if not any(h in {"*", host} or (h.startswith("*.") and host.endswith(h[1:])) for h in self.hosts):
            return False
        return self.match.holds(scope)


@dataclass(slots=True)
class Parsed:
    """What an object means here."""

    routes: list[Route]
    ignored: list[str]
    """Fields that are not honoured, as paths, some with a reason in brackets."""


@lru_cache(maxsize=1024)
def pattern(text: str, *, folded: bool = False) -> Any:
    """A compiled RE2. Raises ValueError."""
    import re2  # noqa: PLC0415 - only where there are patterns

    options = re2.Options()
    options.log_errors, options.case_sensitive = False, not folded
    try:
        return re2.compile(text, options)
    except re2.error as error:
        raise ValueError(str(error)) from error


def parse(namespace: str, spec: dict[str, Any]) -> Parsed:
    """The routes of a VirtualService."""
    out = Parsed([], [f"spec.{name}" for name in spec if name not in _SPEC])
    gateways = texts_of(spec.get("gateways"))
    if not any(name != "mesh" for name in gateways):
        out.ignored.append("spec.gateways (no gateway is named, and pods reach each other without a mesh)")
        return out
    hosts = tuple(host.lower() for host in texts_of(spec.get("hosts"))) or ("*",)
    for number, http in enumerate(dicts_of(spec.get("http"))):
        _http(namespace, http, f"spec.http[{number}]", hosts, out)
    return out


def _http(namespace: str, http: dict[str, Any], at: str, hosts: tuple[str, ...], out: Parsed) -> None:
    out.ignored += [f"{at}.{name}" for name in http if name not in _HTTP]
    if any(name in http for name in ("directResponse", "delegate")):
        return
    redirect = _redirect(namespace, http, at, out) if "redirect" in http else None
    destinations = () if "redirect" in http else _destinations(namespace, http, at, out)
    if redirect is None and not destinations:
        return
    rewrite = dict_of(http.get("rewrite"))
    out.ignored += [f"{at}.rewrite.{n}" for n in rewrite if n not in {"uri", "authority"}]
    retries = _retries(http, at, out)
    matches = dicts_of(http.get("match"))
    if not matches:
        out.ignored.append(f"{at} (without match.uri it would take every path, which is the dashboard's)")
    for index, each in enumerate(matches):
        match = _match(namespace, each, f"{at}.match[{index}]", out)
        if match is not None:
            out.routes.append(
                Route(
                    hosts,
                    match,
                    destinations,
                    redirect,
                    rewrite=str(rewrite.get("uri") or ""),
                    authority=str(rewrite.get("authority") or ""),
                    timeout=_seconds(http.get("timeout"), TIMEOUT_SECONDS),
                    retries=retries,
                )
            )


def _redirect(namespace: str, http: dict[str, Any], at: str, out: Parsed) -> Redirect | None:
    given = dict_of(http.get("redirect"))
    path, authority, code = (
        str(given.get("uri") or ""),
        str(given.get("authority") or ""),
        given.get("redirectCode", 301),
    )
    out.ignored += [f"{at}.redirect.{n}" for n in given if n not in {"uri", "authority", "redirectCode"}]
    if path and (not re.fullmatch(r"/[\x21-\x7e]*", path) or path.startswith("//") or "%" in path):
        out.ignored.append(f"{at}.redirect.uri (a path in plain text is needed)")
        return None
    if authority and (namespace not in SYSTEM_NAMESPACES or not re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", authority)):
        out.ignored.append(f"{at}.redirect.authority (only to this site)")
        return None
    if code not in REDIRECTS:
        out.ignored.append(f"{at}.redirect.redirectCode ({code})")
        return None
    return Redirect(code, path, authority)


def _destinations(namespace: str, http: dict[str, Any], at: str, out: Parsed) -> tuple[Destination, ...]:
    routes = dicts_of(http.get("route"))
    if not routes:
        out.ignored.append(f"{at}.route (it names no destination)")
        return ()
    common = _edits(http.get("headers"), f"{at}.headers", out)
    found: list[Destination] = []
    for number, route in enumerate(routes):
        where = f"{at}.route[{number}]"
        out.ignored += [f"{where}.{n}" for n in route if n not in {"destination", "headers", "weight"}]
        target = _service(namespace, dict_of(route.get("destination")), f"{where}.destination", out)
        if target is None:
            return ()  # sending its share to the others would be worse than saying so
        own = _edits(route.get("headers"), f"{where}.headers", out)
        weight = route.get("weight")
        share = weight if isinstance(weight, int) and weight >= 0 else 0
        edits = [before.then(after) for before, after in zip(common, own, strict=True)]
        found.append(Destination(*target, share if len(routes) > 1 else 1, *edits))
    if not any(destination.weight for destination in found):
        out.ignored.append(f"{at}.route (no destination has a weight)")
        return ()
    return tuple(destination for destination in found if destination.weight)


def _service(namespace: str, given: dict[str, Any], at: str, out: Parsed) -> tuple[str, str, int] | None:
    out.ignored += [f"{at}.{n}" for n in given if n not in {"host", "port"}]
    host = str(given.get("host") or "").removesuffix(f".{CLUSTER_DOMAIN}").removesuffix(".svc")
    service, _dot, other = host.partition(".")
    where = other or namespace
    if not service or "." in where:
        out.ignored.append(f"{at}.host (only Services of this cluster are reached)")
        return None
    if where != namespace and namespace not in SYSTEM_NAMESPACES:
        out.ignored.append(f"{at}.host (a Service of another namespace)")
        return None
    number = dict_of(given.get("port")).get("number")
    return where, service, number if isinstance(number, int) else 0


def _retries(http: dict[str, Any], at: str, out: Parsed) -> Retries | None:
    given = dict_of(http.get("retries"))
    attempts = given.get("attempts")
    out.ignored += [f"{at}.retries.{n}" for n in given if n not in {"attempts", "perTryTimeout", "retryOn"}]
    if not isinstance(attempts, int) or not attempts > 0:
        return None
    statuses: set[int] = set()
    for token in str(given.get("retryOn") or "connect-failure,503").replace(" ", "").split(","):
        if token.isdigit():
            statuses.add(int(token))
        elif token in _RETRY_ON:
            statuses.update(_RETRY_ON[token])
        else:
            out.ignored.append(f"{at}.retries.retryOn ({token})")
    each = _seconds(given.get("perTryTimeout"), 0.0)
    return Retries(min(attempts, MAX_ATTEMPTS), each, frozenset(statuses))


def _match(namespace: str, match: dict[str, Any], at: str, out: Parsed) -> Match | None:
    sound = True

    def refuse(what: str) -> None:
        nonlocal sound
        sound = False
        out.ignored.append(f"{at}.{what}")

    def text(what: str, given: Any) -> Text | None:
        found = _text(given)
        if found is None:
            refuse(f"{what} (exact, prefix or an RE2 regex; so this match never holds)")
        return found

    def fields(what: str, *, absent: bool = False, lower: bool = False) -> tuple[Field, ...]:
        made = []
        for name, given in dict_of(match.get(what)).items():
            if lower and name.lower() in SECRET:
                refuse(f"{what}.{name} (not to be asked about; so this match never holds)")
                continue
            here = text(f"{what}.{name}", given) if given else None
            made.append(Field(name.lower() if lower else name, here, absent))
        return tuple(made)

    for name in match:
        if name not in _MATCH:
            refuse(f"{name} (so this match never holds)")
    method = text("method", match["method"]) if match.get("method") else None
    authority = text("authority", match["authority"]) if match.get("authority") else None
    headers = fields("headers", lower=True) + fields("withoutHeaders", absent=True, lower=True)
    query = fields("queryParams")
    uri = _text(match.get("uri"))
    if uri is None or uri.value == "/" or not uri.value.startswith("/"):
        refuse("uri (an exact path, a longer prefix than / or an RE2 regex that begins with / is needed)")
        return None
    floor = ""
    if namespace not in SYSTEM_NAMESPACES:
        floor = _floor(namespace, uri)
        if not floor:
            refuse(f"uri (paths of this namespace are /…/{namespace}/…)")
            return None
        if uri.kind == "prefix" and uri.value.count("/") < 3:
            uri = Text("prefix", f"{uri.value}/")  # else it would also take namespaces whose names begin alike
    folded = match.get("ignoreUriCase") is True
    return Match(uri, floor, method, authority, headers, query, folded) if sound else None


def _floor(namespace: str, uri: Text) -> str:
    """What the paths of a namespace's route begin with; "" when they are not its own."""
    found = re.match(rf"/[A-Za-z0-9_.-]+/{re.escape(namespace)}(?=/|$)", uri.value)
    if found is None or (uri.kind == "regex" and "." in found[0]):
        return ""
    return found[0] if uri.kind == "exact" else f"{found[0]}/"


def _text(given: Any) -> Text | None:
    """A StringMatch; None for what is none."""
    if not isinstance(given, dict) or len(given) != 1:
        return None
    ((kind, value),) = given.items()
    if kind not in {"exact", "prefix", "regex"} or not isinstance(value, str):
        return None
    if kind == "regex":
        value = value.removeprefix("^").removesuffix("$") if not value.endswith("\\$") else value
        try:
            pattern(value)
        except ValueError:
            return None
    return Text(kind, value)


def _edits(headers: Any, at: str, out: Parsed) -> list[Edits]:
    """Of the request, and of the response."""
    found = {"request": Edits(), "response": Edits()}
    for side, parts in dict_of(headers).items():
        if side not in found or not isinstance(parts, dict):
            out.ignored.append(f"{at}.{side}")
            continue
        out.ignored += [f"{at}.{side}.{name}" for name in parts if name not in {"set", "add", "remove"}]
        found[side] = Edits(
            _pairs(parts.get("set"), f"{at}.{side}.set", out),
            _pairs(parts.get("add"), f"{at}.{side}.add", out),
            tuple(name.lower() for name in texts_of(parts.get("remove"))),
        )
    return [found["request"], found["response"]]


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


def _seconds(text: Any, default: float) -> float:
    parts = _DURATION.findall(text) if isinstance(text, str) else []
    return sum(float(n) * _SECONDS[unit] for n, unit in parts) or default


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found

"""Who is told of a run's end, with which words, and where such messages may go.

A namespace's rules are a list in YAML in its ConfigMap `pipeline-notifications`; docs/how-to/notifications.md is their
reference. Where a message may go: to http and https URLs and mail servers whose every address is somebody else's. An
address that leads back to this machine or to its link (loopback, unspecified, link-local, multicast, reserved) is
refused unless an administrator lists the host, because the platform's own process sends the message and would reach
with it what the rule's author cannot.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import ipaddress
import uuid
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from headrace.api import _wire, _yaml
from headrace.components.pipelines.store.models import FollowUp, FollowUpKind, RuntimeState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace.components.pipelines.policy.plan import Finish
    from headrace.components.pipelines.store.models import Run

CONFIG_MAP, KEY = "pipeline-notifications", "notifications.yaml"
ALLOWED_KEY = "allowed-hosts"
"""In the platform's own namespace: hosts, or host:port, that messages may go to although they are this machine."""
SIGNATURE, DELIVERY = "X-Headrace-Signature-256", "X-Headrace-Delivery"
GIVE_UP_AFTER = dt.timedelta(hours=24)
FIRST_WAIT, LONGEST_WAIT = 2.0, 1800.0
MAX_RULES = 50
_STATES = {
    "succeeded": RuntimeState.SUCCEEDED,
    "failed": RuntimeState.FAILED,
    "canceled": RuntimeState.CANCELED,
}
_IDS = uuid.UUID("8a4f2c8e-3b7c-4f0e-9a51-3c3f0a6f7d15")


class Webhook(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A POST to a URL; `secret` names a Secret of the namespace whose `key` signs it."""

    url: str
    secret: str = ""


class Email(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A mail through the server that a Secret of the namespace describes."""

    to: list[str]
    secret: str


class Rule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Who is told of what."""

    name: str
    states: list[str] = msgspec.field(default_factory=lambda: ["failed"])
    pipelines: list[str] = msgspec.field(default_factory=lambda: ["*"])
    webhook: Webhook | None = None
    email: Email | None = None


def read_rules(data: Mapping[str, str]) -> tuple[list[Rule], list[str]]:
    """The rules of a ConfigMap, and a sentence for each that is wrong; what is wrong takes nothing from the others."""
    text = data.get(KEY, "")
    if not text.strip():
        return [], [f"The ConfigMap {CONFIG_MAP} has no key {KEY}."] if data and ALLOWED_KEY not in data else []
    try:
        found = next(iter(_yaml.documents(text.encode())), None)
    except (_yaml.YAMLError, ValueError) as error:
        return [], [f"{KEY} is no YAML: {' '.join(str(error).split())}."]
    if found is None:
        return [], []
    if not isinstance(found, list) or len(found) > MAX_RULES:
        return [], [f"{KEY} must be a list of at most {MAX_RULES} rules."]
    rules: list[Rule] = []
    problems: list[str] = []
    for index, given in enumerate(found):
        try:
            rule = msgspec.convert(given, Rule, strict=True)
            _check(rule, {r.name for r in rules})
        except ValueError as error:
            name = given.get("name") if isinstance(given, dict) else None
            problems.append(f"Rule {name or index + 1} of {KEY} is wrong: {error}.")
        else:
            rules.append(rule)
    return rules, problems


def _check(rule: Rule, names: set[str]) -> None:
    if not rule.name or rule.name in names:
        raise ValueError("each rule needs a name of its own")
    if (rule.webhook is None) == (rule.email is None):
        raise ValueError("give either webhook or email")
    strange = [word for word in rule.states if word not in _STATES]
    if strange or not rule.states:
        raise ValueError(f"states must list some of {', '.join(_STATES)}")
    if rule.webhook is not None:
        try:
            parts = urlsplit(rule.webhook.url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("webhook.url must be an http or https URL")
    if rule.email is not None:
        if not rule.email.to or any("@" not in to or any(c.isspace() for c in to) for to in rule.email.to):
            raise ValueError("email.to must list mail addresses")
        if not rule.email.secret:
            raise ValueError("email.secret must name the Secret with the mail server's settings")


def followups(rules: Iterable[Rule], run: Run, end: Finish, now: dt.datetime) -> list[FollowUp]:
    """The messages that a run's end causes. Their ids follow from the run, its end and the rule."""
    found: list[FollowUp] = []
    for rule in rules:
        if all(_STATES[word] is not end.state for word in rule.states):
            continue
        if not any(fnmatchcase(run.pipeline_name, pattern) for pattern in rule.pipelines):
            continue
        ident = str(uuid.uuid5(_IDS, f"{run.id}/{len(run.state_history)}/{rule.name}"))
        target = rule.webhook or rule.email
        payload = {"rule": rule.name, "target": msgspec.to_builtins(target), "message": message(ident, run, end, now)}
        kind = FollowUpKind.WEBHOOK if rule.webhook is not None else FollowUpKind.EMAIL
        found.append(FollowUp(ident, run.id, run.namespace, kind, now, payload))
    return found


def message(ident: str, run: Run, end: Finish, now: dt.datetime) -> dict[str, Any]:
    """What a webhook gets."""
    return {
        "id": ident,
        "event": f"run.{end.state.value.lower()}",
        "time": _text(now),
        "namespace": run.namespace,
        "run": {
            "run_id": run.id,
            "display_name": run.display_name,
            "state": end.state.value,
            "experiment_id": run.experiment_id,
            "pipeline_name": run.pipeline_name,
            "pipeline_id": run.pipeline_id,
            "pipeline_version_id": run.pipeline_version_id,
            "recurring_run_id": run.recurring_run_id,
            "created_at": _text(run.created_at),
            "finished_at": _text(now),
            "error": {"code": end.code, "message": end.message} if end.message else None,
        },
    }


def body_of(payload: Mapping[str, Any]) -> bytes:
    """The bytes of a webhook's body: the same for every attempt, for they are what is signed."""
    return _wire.encode(payload["message"])


def sign(key: bytes, body: bytes) -> str:
    """The value of the signature's header."""
    return f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}"


def mail_of(payload: Mapping[str, Any]) -> tuple[str, str]:
    """Subject and text of a mail."""
    told: dict[str, Any] = payload["message"]
    run: dict[str, Any] = told["run"]
    name = " ".join(run["display_name"].split())
    lines = [
        f"Run {name!r} of pipeline {run['pipeline_name']!r} in namespace {told['namespace']!r} {run['state']}.",
        "",
        f"Run: {run['run_id']}",
        f"Created: {run['created_at']}",
        f"Finished: {run['finished_at']}",
    ]
    if run["error"]:
        lines += ["", f"Reason: {run['error']['message']}"]
    lines += ["", f"(Notification rule {payload['rule']!r} of {told['namespace']}/{CONFIG_MAP}.)"]
    return f"Run {name!r} {run['state']}", "\n".join(lines) + "\n"


def allowed_hosts(data: Mapping[str, str]) -> frozenset[str]:
    """The hosts that an administrator lists."""
    return frozenset(data.get(ALLOWED_KEY, "").replace(",", " ").lower().split())


def refusal(host: str, port: int, addresses: Iterable[str], allowed: frozenset[str]) -> str:
    """Why nothing is sent to a host with these addresses; empty when it may be."""
    if host.lower() in allowed or f"{host.lower()}:{port}" in allowed:
        return ""
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        if _is_ours(mapped or address):
            return (
                f"Nothing is sent to {host}:{port}, because {text} leads back to the platform's own machine or link; "
                f"an administrator can allow it under {ALLOWED_KEY} in the ConfigMap kubeflow/{CONFIG_MAP}."
            )
    return ""


def _is_ours(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or (address.is_reserved and address.version == 4)
    )


def next_try(followup: FollowUp, now: dt.datetime) -> dt.datetime | None:
    """When it is tried again after a failure; None when it is given up."""
    wait = min(FIRST_WAIT * 2 ** min(followup.attempts, 20), LONGEST_WAIT)
    due = now + dt.timedelta(seconds=wait)
    return None if due > (followup.created_at or now) + GIVE_UP_AFTER else due


def _text(moment: dt.datetime | None) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""

"""Rules of webhook configurations, admission policies and their bindings, whose expressions must compile, and of API
services.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headrace.api.apiregistration import GROUP
from headrace.api.errors import Cause
from headrace.apiserver.admission.rules import fields as f

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
_ACTIONS = ("Audit", "Deny", "Warn")
_VARIABLE = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_LONGEST_SECONDS = 30
_LARGEST_PORT = 65535
_MOST_CONDITIONS = 64
_SEGMENTS = 3
_VERSION = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_MOST_GROUP_PRIORITY, _MOST_VERSION_PRIORITY = 20000, 1000


def mutating(obj: Json) -> Iterator[Cause]:
    """A MutatingWebhookConfiguration."""
    yield from _webhooks(obj)
    for i, webhook in enumerate(obj.get("webhooks") or ()):
        policy = webhook.get("reinvocationPolicy")
        yield from f.one_of(f"webhooks[{i}].reinvocationPolicy", policy, ("Never", "IfNeeded"))


def validating(obj: Json) -> Iterator[Cause]:
    """A ValidatingWebhookConfiguration."""
    yield from _webhooks(obj)


def _webhooks(obj: Json) -> Iterator[Cause]:
    names: set[str] = set()
    for i, webhook in enumerate(obj.get("webhooks") or ()):
        path, name = f"webhooks[{i}]", str(webhook.get("name") or "")
        if name in names:
            yield f.duplicate(f"{path}.name", name)
        names.add(name)
        if not name:
            yield f.required(f"{path}.name")
        elif not f.SUBDOMAIN.fullmatch(name) or name.count(".") < _SEGMENTS - 1:
            yield f.invalid(f"{path}.name", name, "should be a domain with at least three segments separated by dots")
        yield from client_config(webhook.get("clientConfig") or {}, f"{path}.clientConfig")
        yield from f.one_of(f"{path}.sideEffects", webhook.get("sideEffects"), ("None", "NoneOnDryRun"))
        yield from f.one_of(f"{path}.failurePolicy", webhook.get("failurePolicy"), ("Fail", "Ignore"))
        yield from f.one_of(f"{path}.matchPolicy", webhook.get("matchPolicy"), ("Equivalent", "Exact"))
        seconds = webhook.get("timeoutSeconds")
        if isinstance(seconds, int) and not 1 <= seconds <= _LONGEST_SECONDS:
            why = f"the timeout value must be between 1 and {_LONGEST_SECONDS} seconds"
            yield f.invalid(f"{path}.timeoutSeconds", seconds, why)
        versions = webhook.get("admissionReviewVersions") or ()
        if not versions:
            yield f.required(f"{path}.admissionReviewVersions", "must specify one of v1")
        elif "v1" not in versions:
            why = "must include v1: reviews are sent in no other version"
            yield f.invalid(f"{path}.admissionReviewVersions", list(versions), why)
        yield from _selectors(webhook, path)
        for j, rule in enumerate(webhook.get("rules") or ()):
            yield from _rule(rule, f"{path}.rules[{j}]")
        yield from _conditions(webhook.get("matchConditions") or (), f"{path}.matchConditions")


def client_config(client: Json, path: str) -> Iterator[Cause]:
    """How a webhook is reached."""
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        yield f.required(path, "exactly one of url or service is required")
        return
    if url is not None:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            yield f.invalid(f"{path}.url", url, "must be a valid URL such as https://host/path")
            return
        if parts.scheme != "https":
            yield f.invalid(
                f"{path}.url", url, "'https' is the only allowed URL scheme; desired format: https://host[/path]"
            )
        if not parts.hostname:
            yield f.invalid(f"{path}.url", url, "host must be specified; desired format: https://host[/path]")
        if parts.username or parts.fragment or parts.query:
            yield f.invalid(f"{path}.url", url, "user information, query and fragment are not permitted in the URL")
        return
    named: Json = service or {}
    for key in ("name", "namespace"):
        if not named.get(key):
            yield f.required(f"{path}.service.{key}", f"service {key} is required")
    if not 1 <= (named.get("port") or 0) <= _LARGEST_PORT:
        yield f.invalid(f"{path}.service.port", named.get("port"), "port is not valid: must be between 1 and 65535")
    where = named.get("path")
    if where and (not where.startswith("/") or "//" in where):
        yield f.invalid(f"{path}.service.path", where, "must start with a '/' and have no empty segment")


def _selectors(where: Json, path: str) -> Iterator[Cause]:
    for key in ("namespaceSelector", "objectSelector"):
        yield from f.label_selector(f"{path}.{key}", where.get(key) or {})


def _rule(rule: Json, path: str) -> Iterator[Cause]:
    for key in ("operations", "apiGroups", "apiVersions", "resources"):
        values = rule.get(key) or []
        if not values:
            yield f.required(f"{path}.{key}")
        elif "*" in values and len(values) > 1 and key != "resources":
            yield f.invalid(f"{path}.{key}", values, "if '*' is present, must not specify other values")
    for i, operation in enumerate(rule.get("operations") or ()):
        if operation not in _OPERATIONS:
            yield f.unsupported(f"{path}.operations[{i}]", operation, _OPERATIONS)
    for i, resource in enumerate(rule.get("resources") or ()):
        if not resource:
            yield f.required(f"{path}.resources[{i}]")
    yield from f.one_of(f"{path}.scope", rule.get("scope"), _SCOPES)


def _conditions(conditions: Any, path: str, *more: str) -> Iterator[Cause]:
    if len(conditions) > _MOST_CONDITIONS:
        yield f.invalid(path, len(conditions), f"must have at most {_MOST_CONDITIONS} items")
        return
    names: set[str] = set()
    for i, condition in enumerate(conditions):
        name = str(condition.get("name") or "")
        if not name:
            yield f.required(f"{path}[{i}].name")
        elif name in names:
            yield f.duplicate(f"{path}[{i}].name", name)
        names.add(name)
        yield from _expression(condition.get("expression"), f"{path}[{i}].expression", "bool", *more)


def _expression(text: Any, path: str, kind: str, *more: str) -> Iterator[Cause]:
    """One that is there must compile and give the kind; `any` is any."""
    from headrace.apiserver.admission.dynamic.expressions import compiled  # noqa: PLC0415 - brings CEL
    from headrace.apiserver.cel.syntax import CompileError  # noqa: PLC0415

    if not str(text or "").strip():
        yield f.required(path, "expression is not specified")
        return
    try:
        found = compiled(str(text), *more).type.name
    except CompileError as error:
        yield Cause(path, f"Invalid value: {f.shown(text)}: compilation failed: {error}")
        return
    if kind != "any" and found not in {kind, "dyn"} and not (kind == "string?" and found in {"string", "null"}):
        yield Cause(path, f"Invalid value: {f.shown(text)}: must evaluate to {kind.rstrip('?')}")


def policy(obj: Json) -> Iterator[Cause]:
    """A ValidatingAdmissionPolicy."""
    spec = obj.get("spec") or {}
    names = ("namespaceObject", "params", "variables") if spec.get("paramKind") else ("namespaceObject", "variables")
    yield from f.one_of("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore"))
    kind = spec.get("paramKind")
    if kind is not None:
        for key in ("apiVersion", "kind"):
            if not kind.get(key):
                yield f.required(f"spec.paramKind.{key}")
    where = spec.get("matchConstraints")
    if not where:
        yield f.required("spec.matchConstraints")
    else:
        if not where.get("resourceRules"):
            yield f.required("spec.matchConstraints.resourceRules")
        yield from _matches(where, "spec.matchConstraints")
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        yield f.required("spec.validations", "validations or auditAnnotations must contain at least one item")
    yield from _conditions(spec.get("matchConditions") or (), "spec.matchConditions", *names)
    seen: set[str] = set()
    for i, variable in enumerate(spec.get("variables") or ()):
        name = str(variable.get("name") or "")
        if not _VARIABLE.fullmatch(name):
            yield f.invalid(f"spec.variables[{i}].name", name, "name is not a valid CEL identifier")
        elif name in seen:
            yield f.duplicate(f"spec.variables[{i}].name", name)
        seen.add(name)
        yield from _expression(variable.get("expression"), f"spec.variables[{i}].expression", "any", *names)
    for i, rule in enumerate(spec.get("validations") or ()):
        path = f"spec.validations[{i}]"
        yield from _expression(rule.get("expression"), f"{path}.expression", "bool", *names)
        if "\n" in str(rule.get("message") or "").strip():
            yield f.invalid(f"{path}.message", rule["message"], "message must not contain line breaks")
        if rule.get("messageExpression"):
            yield from _expression(rule["messageExpression"], f"{path}.messageExpression", "string", *names)
        if rule.get("reason") and rule["reason"] not in _REASONS:
            yield f.unsupported(f"{path}.reason", rule["reason"], _REASONS)
    for i, annotation in enumerate(spec.get("auditAnnotations") or ()):
        path = f"spec.auditAnnotations[{i}]"
        if not annotation.get("key"):
            yield f.required(f"{path}.key")
        yield from _expression(annotation.get("valueExpression"), f"{path}.valueExpression", "string?", *names)


def _matches(where: Json, path: str) -> Iterator[Cause]:
    yield from f.one_of(f"{path}.matchPolicy", where.get("matchPolicy"), ("Equivalent", "Exact"))
    yield from _selectors(where, path)
    for key in ("resourceRules", "excludeResourceRules"):
        for i, rule in enumerate(where.get(key) or ()):
            yield from _rule(rule, f"{path}.{key}[{i}]")


def binding(obj: Json) -> Iterator[Cause]:
    """A ValidatingAdmissionPolicyBinding."""
    spec = obj.get("spec") or {}
    if not spec.get("policyName"):
        yield f.required("spec.policyName")
    actions = spec.get("validationActions") or ()
    if not actions:
        yield f.required("spec.validationActions", "at least one validation action is required")
    for i, action in enumerate(actions):
        if action not in _ACTIONS:
            yield f.unsupported(f"spec.validationActions[{i}]", action, _ACTIONS)
        elif action in actions[:i]:
            yield f.duplicate(f"spec.validationActions[{i}]", action)
    if "Deny" in actions and "Warn" in actions:
        why = "must not contain both Deny and Warn (repeating the same validation failure in both is of no use)"
        yield f.invalid("spec.validationActions", list(actions), why)
    if isinstance(spec.get("matchResources"), dict):
        yield from _matches(spec["matchResources"], "spec.matchResources")
    reference = spec.get("paramRef")
    if isinstance(reference, dict):
        if bool(reference.get("name")) == (reference.get("selector") is not None):
            yield f.required("spec.paramRef", "exactly one of name or selector must be specified")
        action = reference.get("parameterNotFoundAction")
        yield from f.one_of("spec.paramRef.parameterNotFoundAction", action, ("Allow", "Deny"))


def api_service(obj: Json) -> Iterator[Cause]:
    """An APIService (kube-aggregator's validation)."""
    spec, name = obj.get("spec") or {}, str(obj["metadata"].get("name") or "")
    group, version = str(spec.get("group") or ""), str(spec.get("version") or "")
    if name != f"{version}.{group}":
        yield f.invalid("metadata.name", name, f'must be `spec.version+"."+spec.group`: "{version}.{group}"')
    if not group and version != "v1":
        yield f.required("spec.group", "only v1 may have an empty group and it better be legacy kube")
    if group and not f.SUBDOMAIN.fullmatch(group):
        yield f.invalid("spec.group", group, "must be a lowercase RFC 1123 subdomain (e.g. 'example.com')")
    if not _VERSION.fullmatch(version):
        yield f.invalid("spec.version", version, "must be a DNS-1035 label (e.g. 'v1')")
    for key, most in (("groupPriorityMinimum", _MOST_GROUP_PRIORITY), ("versionPriority", _MOST_VERSION_PRIORITY)):
        value = spec.get(key) or 0
        if not 0 < value <= most:
            yield f.invalid(f"spec.{key}", value, f"must be positive and less than {most}")
    if group in {"", GROUP} and spec.get("service") is not None:
        why = "this group is always answered by the API server itself, or it could not be repaired"
        yield f.forbidden("spec.service", why)
    service, bundle, insecure = spec.get("service"), spec.get("caBundle"), spec.get("insecureSkipTLSVerify")
    if service is None:
        if bundle:
            yield f.invalid("spec.caBundle", f"{len(bundle)} bytes", "local APIServices may not have a caBundle")
        if insecure:
            why = "local APIServices may not have insecureSkipTLSVerify"
            yield f.invalid("spec.insecureSkipTLSVerify", insecure, why)
        return
    for key in ("namespace", "name"):
        if not service.get(key):
            yield f.required(f"spec.service.{key}")
    if not 1 <= (service.get("port") or 0) <= _LARGEST_PORT:
        yield f.invalid("spec.service.port", service.get("port"), "must be between 1 and 65535, inclusive")
    if insecure and bundle:
        yield f.invalid("spec.insecureSkipTLSVerify", insecure, "may not be true if caBundle is present")

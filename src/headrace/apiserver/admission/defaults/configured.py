"""Defaults of webhook configurations, admission policies and their bindings, and of API services."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def mutating(obj: Json) -> None:
    """A MutatingWebhookConfiguration."""
    _webhooks(obj)
    for webhook in obj.get("webhooks") or ():
        webhook.setdefault("reinvocationPolicy", "Never")


def validating(obj: Json) -> None:
    """A ValidatingWebhookConfiguration."""
    _webhooks(obj)


def policy(obj: Json) -> None:
    """A ValidatingAdmissionPolicy."""
    spec = obj.get("spec")
    if isinstance(spec, dict):
        spec.setdefault("failurePolicy", "Fail")
        _resources(spec.get("matchConstraints"))


def binding(obj: Json) -> None:
    """A ValidatingAdmissionPolicyBinding."""
    spec = obj.get("spec")
    if isinstance(spec, dict):
        _resources(spec.get("matchResources"))


def api_service(obj: Json) -> None:
    """An APIService."""
    service = (obj.get("spec") or {}).get("service")
    if isinstance(service, dict):
        service.setdefault("port", 443)


def _webhooks(obj: Json) -> None:
    for webhook in obj.get("webhooks") or ():
        webhook.setdefault("failurePolicy", "Fail")
        webhook.setdefault("timeoutSeconds", 10)
        _selectors(webhook)
        service = (webhook.get("clientConfig") or {}).get("service")
        if isinstance(service, dict):
            service.setdefault("port", 443)
        for rule in webhook.get("rules") or ():
            rule.setdefault("scope", "*")


def _selectors(where: Json) -> None:
    where.setdefault("matchPolicy", "Equivalent")
    where.setdefault("namespaceSelector", {})
    where.setdefault("objectSelector", {})


def _resources(where: Any) -> None:
    if isinstance(where, dict):
        _selectors(where)
        for key in ("resourceRules", "excludeResourceRules"):
            for rule in where.get(key) or ():
                rule.setdefault("scope", "*")

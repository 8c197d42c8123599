"""Admission by configuration, `admissionregistration.k8s.io/v1`: webhooks and policies in CEL."""

from __future__ import annotations

from typing import Any, ClassVar

from headrace.api.meta import KindInfo, Object

GROUP = "admissionregistration.k8s.io"


class MutatingWebhookConfiguration(Object):
    """Servers that may change an object before it is stored."""

    INFO: ClassVar[KindInfo] = KindInfo(
        GROUP, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", namespaced=False
    )
    webhooks: list[dict[str, Any]] = []


class ValidatingWebhookConfiguration(Object):
    """Servers that may refuse an object before it is stored."""

    INFO: ClassVar[KindInfo] = KindInfo(
        GROUP, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", namespaced=False
    )
    webhooks: list[dict[str, Any]] = []


class ValidatingAdmissionPolicy(Object):
    """Rules in CEL, in force where a binding says so."""

    INFO: ClassVar[KindInfo] = KindInfo(
        GROUP,
        "v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        namespaced=False,
        subresources=frozenset({"status"}),
    )
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class ValidatingAdmissionPolicyBinding(Object):
    """Where a policy is in force, with which parameters, and what follows."""

    INFO: ClassVar[KindInfo] = KindInfo(
        GROUP, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", namespaced=False
    )
    spec: dict[str, Any] = {}


KINDS: tuple[type[Object], ...] = (
    MutatingWebhookConfiguration,
    ValidatingWebhookConfiguration,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
)

"""From objects to `meta.k8s.io/v1` Table, as JSON bytes.

The choice of printer: kinds of Kubernetes by group and plural, custom resources by their CRD, name and age otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.apiserver.tables import base, classes, core, pods, usage, workloads

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from headrace.api.meta import KindInfo
    from headrace.apiserver.tables.base import JSON, Printer

RBAC = "rbac.authorization.k8s.io"
ADMISSION = "admissionregistration.k8s.io"

PRINTERS: dict[tuple[str, str], Printer] = {
    ("", "pods"): pods.POD,
    ("", "services"): core.SERVICE,
    ("", "endpoints"): core.ENDPOINTS,
    ("discovery.k8s.io", "endpointslices"): core.ENDPOINT_SLICE,
    ("", "nodes"): core.NODE,
    ("", "events"): core.EVENT,
    ("", "namespaces"): core.NAMESPACE,
    ("", "configmaps"): core.CONFIG_MAP,
    ("", "secrets"): core.SECRET,
    ("", "serviceaccounts"): core.SERVICE_ACCOUNT,
    ("", "persistentvolumeclaims"): core.CLAIM,
    ("", "persistentvolumes"): core.VOLUME,
    ("", "resourcequotas"): core.QUOTA,
    ("", "limitranges"): core.ROLE,
    ("metrics.k8s.io", "nodes"): usage.USAGE,
    ("metrics.k8s.io", "pods"): usage.USAGE,
    ("apps", "deployments"): workloads.DEPLOYMENT,
    ("apps", "replicasets"): workloads.REPLICA_SET,
    ("", "replicationcontrollers"): workloads.REPLICA_SET,
    ("apps", "statefulsets"): workloads.STATEFUL_SET,
    ("apps", "daemonsets"): workloads.DAEMON_SET,
    ("apps", "controllerrevisions"): workloads.CONTROLLER_REVISION,
    ("batch", "jobs"): workloads.JOB,
    ("batch", "cronjobs"): workloads.CRON_JOB,
    ("storage.k8s.io", "storageclasses"): core.STORAGE_CLASS,
    ("coordination.k8s.io", "leases"): core.LEASE,
    ("scheduling.k8s.io", "priorityclasses"): core.PRIORITY_CLASS,
    ("node.k8s.io", "runtimeclasses"): classes.RUNTIME_CLASS,
    ("networking.k8s.io", "ingresses"): classes.INGRESS,
    ("networking.k8s.io", "ingressclasses"): classes.INGRESS_CLASS,
    ("networking.k8s.io", "networkpolicies"): classes.NETWORK_POLICY,
    ("policy", "poddisruptionbudgets"): classes.DISRUPTION_BUDGET,
    ("autoscaling", "horizontalpodautoscalers"): classes.AUTOSCALER,
    ("apiextensions.k8s.io", "customresourcedefinitions"): core.ROLE,
    (ADMISSION, "mutatingwebhookconfigurations"): classes.WEBHOOKS,
    (ADMISSION, "validatingwebhookconfigurations"): classes.WEBHOOKS,
    (ADMISSION, "validatingadmissionpolicies"): classes.ADMISSION_POLICY,
    (ADMISSION, "validatingadmissionpolicybindings"): classes.ADMISSION_BINDING,
    ("apiregistration.k8s.io", "apiservices"): classes.API_SERVICE,
    (RBAC, "roles"): core.ROLE,
    (RBAC, "clusterroles"): core.ROLE,
    (RBAC, "rolebindings"): core.BINDING,
    (RBAC, "clusterrolebindings"): core.BINDING,
}


def printer_for(info: KindInfo, custom: Printer | None = None) -> Printer:
    """The printer of a kind; `custom` is what its CRD declares."""
    return PRINTERS.get((info.group, info.plural)) or custom or base.DEFAULT


def partial_metadata(obj: JSON) -> JSON:
    """The object's metadata alone, as PartialObjectMetadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj.get("metadata") or {}}


def table(
    printer: Printer,
    objects: Iterable[bytes],
    now: dt.datetime,
    *,
    list_meta: JSON,
    include: str = "Metadata",
    headers: bool = True,
) -> bytes:
    """A Table of the objects. `include` is Metadata, Object or None (what each row carries besides its cells)."""
    rows: list[Any] = []
    for raw in objects:
        obj = _wire.decode_any(raw)
        row: JSON = {"cells": printer.cells(obj, now)}
        if include == "Metadata":
            row["object"] = partial_metadata(obj)
        elif include == "Object":
            row["object"] = obj
        rows.append(row)
    return _wire.encode(
        {
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": list_meta,
            "columnDefinitions": [c.to_json() for c in printer.columns] if headers else [],
            "rows": rows,
        }
    )

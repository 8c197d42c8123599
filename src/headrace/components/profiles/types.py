"""`kubeflow.org` Profile and PodDefault, after kubeflow/dashboard's profile-controller and poddefaults-webhooks."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from headrace.api.apiextensions import PrinterColumn
from headrace.api.meta import KindInfo, LabelSelector, Object, Struct
from headrace.api.rbac import Subject

GROUP = "kubeflow.org"


class Plugin(Struct):
    """Something of a cloud provider. None is supported; a profile that asks for one says so in its conditions."""

    PRESERVE_UNKNOWN: ClassVar[bool] = True
    api_version: str = ""
    kind: str = ""
    spec: dict[str, Any] = {}


class QuotaSpec(Struct):
    """As a ResourceQuota's spec."""

    hard: dict[str, str | int] = {}
    scopes: list[str] = []
    scope_selector: dict[str, Any] | None = None


class ProfileSpec(Struct):
    """Whose it is, and how much it may use."""

    owner: Subject | None = None
    plugins: list[Plugin] = []
    resource_quota_spec: QuotaSpec = msgspec.field(default_factory=QuotaSpec)


class ProfileCondition(Struct):
    """Successful, Failed or Unknown, with a sentence."""

    type: str = ""
    status: str = ""
    message: str = ""


class ProfileStatus(Struct):
    """What came of it."""

    conditions: list[ProfileCondition] = []


class Profile(Object):
    """A namespace with an owner, and what belongs to it."""

    INFO: ClassVar[KindInfo] = KindInfo(GROUP, "v1", "Profile", "profiles", namespaced=False)
    ALSO_SERVED: ClassVar[tuple[str, ...]] = ("v1beta1",)
    COLUMNS: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(name="Owner", type="string", json_path=".spec.owner.name"),
        PrinterColumn(name="Status", type="string", json_path=".status.conditions[*].type"),
        PrinterColumn(name="Age", type="date", json_path=".metadata.creationTimestamp"),
    )
    spec: ProfileSpec = msgspec.field(default_factory=ProfileSpec)
    status: ProfileStatus = msgspec.field(default_factory=ProfileStatus)


class PodDefaultSpec(Struct):
    """What is put into pods of the namespace whose labels match."""

    selector: LabelSelector
    desc: str = ""
    init_containers: list[dict[str, Any]] = []
    sidecars: list[dict[str, Any]] = []
    service_account_name: str = ""
    automount_service_account_token: bool | None = None
    env: list[dict[str, Any]] = []
    env_from: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    volume_mounts: list[dict[str, Any]] = []
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    command: list[str] = []
    args: list[str] = []
    image_pull_secrets: list[dict[str, Any]] = []


class PodDefault(Object, kw_only=True):
    """Defaults for pods, chosen by their labels."""

    INFO: ClassVar[KindInfo] = KindInfo(GROUP, "v1alpha1", "PodDefault", "poddefaults")
    spec: PodDefaultSpec
    status: dict[str, Any] = {}


class Binding(Struct):
    """KFAM's view of a RoleBinding. `RoleRef` is written so, with a capital."""

    user: BindingUser | None = None
    referred_namespace: str = ""
    role_ref: BindingRole | None = msgspec.field(name="RoleRef", default=None)
    status: str = ""


class BindingUser(Struct, omit_defaults=False):
    """Who."""

    kind: str = "User"
    name: str = ""
    api_group: str = ""


class BindingRole(Struct, omit_defaults=False):
    """What they are: `admin`, `edit` or `view`."""

    kind: str = "ClusterRole"
    name: str = ""
    api_group: str = ""

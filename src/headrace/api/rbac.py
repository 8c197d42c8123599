"""Role-based access control, `rbac.authorization.k8s.io/v1`."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from headrace.api.meta import KindInfo, LabelSelector, Object, Struct

GROUP = "rbac.authorization.k8s.io"


class PolicyRule(Struct):
    """Verbs on resources of groups, or on paths."""

    verbs: list[str]
    api_groups: list[str] = []
    resources: list[str] = []
    resource_names: list[str] = []
    non_resource_urls: list[str] = msgspec.field(name="nonResourceURLs", default_factory=list)


class Subject(Struct):
    """A User, Group or ServiceAccount."""

    kind: str
    name: str
    namespace: str = ""
    api_group: str = ""


class RoleRef(Struct):
    """The Role or ClusterRole that a binding grants."""

    kind: str
    name: str
    api_group: str = GROUP


class AggregationRule(Struct):
    """ClusterRoles whose rules are gathered into this one."""

    cluster_role_selectors: list[LabelSelector] = []


class Role(Object):
    """Rules within a namespace."""

    INFO: ClassVar[KindInfo] = KindInfo(GROUP, "v1", "Role", "roles", subresources=frozenset())
    rules: list[PolicyRule] = []


class ClusterRole(Object):
    """Rules for the whole cluster, or to be bound in namespaces."""

    INFO: ClassVar[KindInfo] = KindInfo(
        GROUP, "v1", "ClusterRole", "clusterroles", namespaced=False, subresources=frozenset()
    )
    rules: list[PolicyRule] = []
    aggregation_rule: AggregationRule | None = None


class RoleBinding(Object, kw_only=True):
    """Grants a role within a namespace."""

    INFO: ClassVar[KindInfo] = KindInfo(GROUP, "v1", "RoleBinding", "rolebindings", subresources=frozenset())
    role_ref: RoleRef
    subjects: list[Subject] = []


class ClusterRoleBinding(Object, kw_only=True):
    """Grants a ClusterRole everywhere."""

    INFO: ClassVar[KindInfo] = KindInfo(
        GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False, subresources=frozenset()
    )
    role_ref: RoleRef
    subjects: list[Subject] = []


KINDS: tuple[type[Object], ...] = (Role, ClusterRole, RoleBinding, ClusterRoleBinding)

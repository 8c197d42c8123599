"""The core group, `v1` (k8s.io/api/core/v1): the fields that the platform's own code reads or writes.

Unknown fields survive in the store; these types are views for controllers, not the schema of the API.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from headrace.api.meta import IntOrString, KindInfo, LabelSelector, Object, ObjectMeta, Struct, Time
from headrace.api.podspec import (
    Capabilities,
    Container,
    ContainerPort,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    EnvFromRef,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    EphemeralContainer,
    ExecAction,
    GRPCAction,
    HostAlias,
    HTTPGetAction,
    HTTPHeader,
    KeySelector,
    Lifecycle,
    LifecycleHandler,
    PodCondition,
    PodDNSConfig,
    PodDNSConfigOption,
    PodIP,
    PodReadinessGate,
    PodSchedulingGate,
    PodSecurityContext,
    PodSpec,
    PodStatus,
    Probe,
    ResourceList,
    ResourceRequirements,
    SeccompProfile,
    SecurityContext,
    SleepAction,
    TCPSocketAction,
    VolumeMount,
)
from headrace.api.podvolumes import (
    ConfigMapVolumeSource,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    EmptyDirVolumeSource,
    EphemeralClaimTemplate,
    EphemeralVolumeSource,
    HostPathVolumeSource,
    ImageVolumeSource,
    KeyToPath,
    ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource,
    ProjectedVolumeSource,
    ResourceFieldSelector,
    SecretProjection,
    SecretVolumeSource,
    ServiceAccountTokenProjection,
    Volume,
    VolumeProjection,
)

__all__ = [
    "KINDS",
    "Capabilities",
    "ConfigMap",
    "ConfigMapVolumeSource",
    "Container",
    "ContainerPort",
    "ContainerState",
    "ContainerStateRunning",
    "ContainerStateTerminated",
    "ContainerStateWaiting",
    "ContainerStatus",
    "DownwardAPIProjection",
    "DownwardAPIVolumeFile",
    "DownwardAPIVolumeSource",
    "EmptyDirVolumeSource",
    "EndpointAddress",
    "EndpointPort",
    "EndpointSubset",
    "Endpoints",
    "EnvFromRef",
    "EnvFromSource",
    "EnvVar",
    "EnvVarSource",
    "EphemeralClaimTemplate",
    "EphemeralContainer",
    "EphemeralVolumeSource",
    "Event",
    "EventSource",
    "ExecAction",
    "GRPCAction",
    "HTTPGetAction",
    "HTTPHeader",
    "HostAlias",
    "HostPathVolumeSource",
    "ImageVolumeSource",
    "KeySelector",
    "KeyToPath",
    "Lifecycle",
    "LifecycleHandler",
    "Namespace",
    "NamespaceSpec",
    "NamespaceStatus",
    "Node",
    "NodeAddress",
    "NodeCondition",
    "NodeSpec",
    "NodeStatus",
    "NodeSystemInfo",
    "ObjectFieldSelector",
    "ObjectMeta",
    "ObjectReference",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PersistentVolumeClaimSpec",
    "PersistentVolumeClaimStatus",
    "PersistentVolumeClaimVolumeSource",
    "PersistentVolumeSpec",
    "PersistentVolumeStatus",
    "Pod",
    "PodCondition",
    "PodDNSConfig",
    "PodDNSConfigOption",
    "PodIP",
    "PodReadinessGate",
    "PodSchedulingGate",
    "PodSecurityContext",
    "PodSpec",
    "PodStatus",
    "PodTemplateSpec",
    "Probe",
    "ProjectedVolumeSource",
    "ResourceFieldSelector",
    "ResourceList",
    "ResourceRequirements",
    "SeccompProfile",
    "Secret",
    "SecretProjection",
    "SecretVolumeSource",
    "SecurityContext",
    "Service",
    "ServiceAccount",
    "ServiceAccountTokenProjection",
    "ServicePort",
    "ServiceSpec",
    "SleepAction",
    "TCPSocketAction",
    "Volume",
    "VolumeMount",
    "VolumeProjection",
]


class Pod(Object):
    """A group of containers that share a network and volumes."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "",
        "v1",
        "Pod",
        "pods",
        short_names=("po",),
        categories=("all",),
        subresources=frozenset({"status", "log", "binding", "eviction", "ephemeralcontainers"}),
    )
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class PodTemplateSpec(Struct):
    """The pods that a controller creates."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)


class ServicePort(Struct):
    """A port of a service."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: IntOrString | None = None
    node_port: int = 0
    app_protocol: str | None = None


class ServiceSpec(Struct):
    """A stable address over pods, or over endpoints that somebody writes."""

    ports: list[ServicePort] = []
    selector: dict[str, str] = {}
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    cluster_ips: list[str] = msgspec.field(name="clusterIPs", default_factory=list)
    type: str = "ClusterIP"
    external_name: str = ""
    publish_not_ready_addresses: bool = False
    session_affinity: str = ""
    session_affinity_config: dict[str, Any] | None = None


class Service(Object):
    """A name and address for a set of endpoints."""

    INFO: ClassVar[KindInfo] = KindInfo("", "v1", "Service", "services", short_names=("svc",), categories=("all",))
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)
    status: dict[str, Any] = {}


class ObjectReference(Struct):
    """A reference to an object, as events and endpoints carry it."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""


class EndpointAddress(Struct):
    """One address behind a service."""

    ip: str
    hostname: str = ""
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class EndpointPort(Struct):
    """One port behind a service."""

    port: int
    name: str = ""
    protocol: str = "TCP"


class EndpointSubset(Struct):
    """Addresses that share ports."""

    addresses: list[EndpointAddress] = []
    not_ready_addresses: list[EndpointAddress] = []
    ports: list[EndpointPort] = []


class Endpoints(Object):
    """What is behind a service of the same name."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "", "v1", "Endpoints", "endpoints", short_names=("ep",), subresources=frozenset()
    )
    subsets: list[EndpointSubset] = []


class ConfigMap(Object):
    """Configuration as text."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "", "v1", "ConfigMap", "configmaps", short_names=("cm",), subresources=frozenset()
    )
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
    immutable: bool | None = None


class Secret(Object):
    """Small secrets; `data` is base64 on the wire, `stringData` is merged into it on write."""

    INFO: ClassVar[KindInfo] = KindInfo("", "v1", "Secret", "secrets", subresources=frozenset())
    data: dict[str, str] = {}
    string_data: dict[str, str] = {}
    type: str = ""
    immutable: bool | None = None


class ServiceAccount(Object):
    """An identity for pods and programs."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "", "v1", "ServiceAccount", "serviceaccounts", short_names=("sa",), subresources=frozenset({"token"})
    )
    secrets: list[ObjectReference] = []
    image_pull_secrets: list[EnvFromRef] = []
    automount_service_account_token: bool | None = None


class NamespaceSpec(Struct):
    """Finalizers of the namespace itself."""

    finalizers: list[str] = []


class NamespaceStatus(Struct):
    """Active or Terminating."""

    phase: str = ""
    conditions: list[PodCondition] = []


class Namespace(Object):
    """A scope for names."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "",
        "v1",
        "Namespace",
        "namespaces",
        namespaced=False,
        short_names=("ns",),
        subresources=frozenset({"status", "finalize"}),
    )
    spec: NamespaceSpec = msgspec.field(default_factory=NamespaceSpec)
    status: NamespaceStatus = msgspec.field(default_factory=NamespaceStatus)


class TypedReference(Struct):
    """An object of any kind; without a group it is of the core API, without a namespace of one's own."""

    kind: str = ""
    name: str = ""
    api_group: str = ""
    namespace: str = ""


class PersistentVolumeClaimSpec(Struct):
    """The storage that a person asks for."""

    access_modes: list[str] = []
    resources: ResourceRequirements = msgspec.field(default_factory=ResourceRequirements)
    storage_class_name: str | None = None
    volume_name: str = ""
    volume_mode: str = ""
    selector: LabelSelector | None = None
    data_source: TypedReference | None = None
    """What the volume begins with; as `data_source_ref`, which may name more."""
    data_source_ref: TypedReference | None = None


class PersistentVolumeClaimStatus(Struct):
    """Pending, Bound or Lost."""

    phase: str = ""
    access_modes: list[str] = []
    capacity: ResourceList = {}
    conditions: list[PodCondition] = []


class PersistentVolumeClaim(Object):
    """A claim on storage."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", short_names=("pvc",)
    )
    spec: PersistentVolumeClaimSpec = msgspec.field(default_factory=PersistentVolumeClaimSpec)
    status: PersistentVolumeClaimStatus = msgspec.field(default_factory=PersistentVolumeClaimStatus)


class PersistentVolumeSpec(Struct):
    """Storage that exists: here always a directory of this machine."""

    capacity: ResourceList = {}
    access_modes: list[str] = []
    persistent_volume_reclaim_policy: str = ""
    storage_class_name: str = ""
    host_path: HostPathVolumeSource | None = None
    claim_ref: ObjectReference | None = None
    volume_mode: str = ""


class PersistentVolumeStatus(Struct):
    """Available, Bound, Released or Failed."""

    phase: str = ""
    message: str = ""
    reason: str = ""


class PersistentVolume(Object):
    """A piece of storage."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "", "v1", "PersistentVolume", "persistentvolumes", namespaced=False, short_names=("pv",)
    )
    spec: PersistentVolumeSpec = msgspec.field(default_factory=PersistentVolumeSpec)
    status: PersistentVolumeStatus = msgspec.field(default_factory=PersistentVolumeStatus)


class EventSource(Struct):
    """Who reported."""

    component: str = ""
    host: str = ""


class ReplicationController(Object):
    """Keeps a number of equal pods running: what was there before ReplicaSets."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "",
        "v1",
        "ReplicationController",
        "replicationcontrollers",
        short_names=("rc",),
        categories=("all",),
        subresources=frozenset({"status", "scale"}),
    )
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class Event(Object):
    """Something that happened to an object, for people."""

    INFO: ClassVar[KindInfo] = KindInfo("", "v1", "Event", "events", short_names=("ev",), subresources=frozenset())
    involved_object: ObjectReference = msgspec.field(default_factory=ObjectReference)
    reason: str = ""
    message: str = ""
    type: str = ""
    """Normal or Warning; no default, because what is at its default is not sent."""
    source: EventSource = msgspec.field(default_factory=EventSource)
    count: int = 0
    first_timestamp: Time | None = None
    last_timestamp: Time | None = None
    event_time: Time | None = None
    reporting_component: str = ""
    reporting_instance: str = ""


class NodeAddress(Struct):
    """InternalIP, Hostname …."""

    type: str
    address: str


class NodeSystemInfo(Struct, omit_defaults=False):
    """What the machine is."""

    machine_id: str = msgspec.field(name="machineID", default="")
    system_uuid: str = msgspec.field(name="systemUUID", default="")
    boot_id: str = msgspec.field(name="bootID", default="")
    kernel_version: str = ""
    os_image: str = ""
    container_runtime_version: str = ""
    kubelet_version: str = ""
    kube_proxy_version: str = ""
    operating_system: str = "linux"
    architecture: str = ""


class NodeCondition(Struct):
    """Ready, MemoryPressure, DiskPressure …."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_heartbeat_time: Time | None = None
    last_transition_time: Time | None = None


class NodeStatus(Struct):
    """Capacity, health and addresses of the machine."""

    capacity: ResourceList = {}
    allocatable: ResourceList = {}
    conditions: list[NodeCondition] = []
    addresses: list[NodeAddress] = []
    node_info: NodeSystemInfo | None = None


class NodeSpec(Struct):
    """Whether pods may be placed."""

    unschedulable: bool = False
    taints: list[dict[str, Any]] = []
    pod_cidr: str = msgspec.field(name="podCIDR", default="")


class Node(Object):
    """The machine."""

    INFO: ClassVar[KindInfo] = KindInfo("", "v1", "Node", "nodes", namespaced=False, short_names=("no",))
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


KINDS: tuple[type[Object], ...] = (
    Pod,
    Service,
    Endpoints,
    ConfigMap,
    Secret,
    ServiceAccount,
    Namespace,
    PersistentVolumeClaim,
    PersistentVolume,
    ReplicationController,
    Event,
    Node,
)
EVENTS_V1 = KindInfo("events.k8s.io", "v1", "Event", "events", short_names=("ev",), subresources=frozenset())
"""As newer clients write events: the same objects."""

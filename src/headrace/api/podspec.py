"""What a pod is made of (k8s.io/api/core/v1): containers, probes, and what the agent observes of them.

The fields that the platform's own code reads or writes; unknown fields survive in the store. `api.core` offers
these names too, as upstream has them in one package.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.api.meta import IntOrString, Quantity, Struct, Time
from headrace.api.podvolumes import ObjectFieldSelector, ResourceFieldSelector, Volume

ResourceList = dict[str, Quantity]


class KeySelector(Struct):
    """A key of a ConfigMap or Secret."""

    key: str
    name: str = ""
    optional: bool | None = None


class EnvVarSource(Struct):
    """Where an environment variable's value comes from; exactly one is set."""

    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None


class EnvVar(Struct):
    """One environment variable; `$(NAME)` in value refers to earlier ones."""

    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class EnvFromRef(Struct):
    """A whole ConfigMap or Secret."""

    name: str = ""
    optional: bool | None = None


class EnvFromSource(Struct):
    """All keys of a ConfigMap or Secret as variables."""

    prefix: str = ""
    config_map_ref: EnvFromRef | None = None
    secret_ref: EnvFromRef | None = None


class ContainerPort(Struct):
    """A port that the container listens on."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"
    host_port: int | None = None
    host_ip: str = msgspec.field(name="hostIP", default="")


class ResourceRequirements(Struct):
    """Requests count for scheduling, limits are enforced."""

    requests: ResourceList = {}
    limits: ResourceList = {}


class VolumeMount(Struct):
    """A volume at a path of the container."""

    name: str
    mount_path: str
    sub_path: str = ""
    sub_path_expr: str = ""
    read_only: bool = False
    mount_propagation: str | None = None
    recursive_read_only: str | None = None


class HTTPHeader(Struct):
    """A header of a probe."""

    name: str
    value: str


class HTTPGetAction(Struct):
    """A probe by HTTP GET; 200 to 399 is success."""

    port: IntOrString
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: list[HTTPHeader] = []


class TCPSocketAction(Struct):
    """A probe by opening a connection."""

    port: IntOrString
    host: str = ""


class ExecAction(Struct):
    """A command in the container; exit code 0 is success."""

    command: list[str] = []


class GRPCAction(Struct):
    """A probe by grpc.health.v1."""

    port: int
    service: str = ""


class Probe(Struct):
    """How the agent asks a container whether it lives, is ready, has started. Seconds."""

    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    exec: ExecAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class SleepAction(Struct):
    """Waiting, as a hook."""

    seconds: int


class LifecycleHandler(Struct):
    """What a hook does; exactly one is set."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Struct):
    """Hooks after the start and before the end of a container."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None


class Capabilities(Struct):
    """Capabilities beside the usual ones, such as CHOWN; `drop` may say ALL."""

    add: list[str] = []
    drop: list[str] = []


class SeccompProfile(Struct):
    """RuntimeDefault, Unconfined or Localhost."""

    type: str
    localhost_profile: str | None = None


class SecurityContext(Struct):
    """What the container's processes may do."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool | None = None
    privileged: bool | None = None
    allow_privilege_escalation: bool | None = None
    capabilities: Capabilities | None = None
    seccomp_profile: SeccompProfile | None = None
    app_armor_profile: SeccompProfile | None = None
    proc_mount: str | None = None


class Container(Struct):
    """One program of a pod."""

    name: str
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    working_dir: str = ""
    env: list[EnvVar] = []
    env_from: list[EnvFromSource] = []
    ports: list[ContainerPort] = []
    resources: ResourceRequirements = msgspec.field(default_factory=ResourceRequirements)
    volume_mounts: list[VolumeMount] = []
    volume_devices: list[dict[str, Any]] = []
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    restart_policy: str | None = None
    image_pull_policy: str = ""
    termination_message_path: str = "/dev/termination-log"
    termination_message_policy: str = "File"
    security_context: SecurityContext | None = None
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


class EphemeralContainer(Container):
    """A container that is added to a pod that runs, to look into it."""

    target_container_name: str = ""


class PodSecurityContext(Struct):
    """Defaults for every container of the pod."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    fs_group: int | None = None
    fs_group_change_policy: str | None = None
    supplemental_groups: list[int] = []
    seccomp_profile: SeccompProfile | None = None
    app_armor_profile: SeccompProfile | None = None
    sysctls: list[dict[str, Any]] = []


class HostAlias(Struct):
    """Extra lines of /etc/hosts."""

    ip: str
    hostnames: list[str] = []


class PodDNSConfigOption(Struct):
    """An option of resolv.conf, such as ndots."""

    name: str = ""
    value: str | None = None


class PodDNSConfig(Struct):
    """What is added to a pod's resolv.conf, or is all of it with the policy None."""

    nameservers: list[str] = []
    searches: list[str] = []
    options: list[PodDNSConfigOption] = []


class PodReadinessGate(Struct):
    """A condition that must be True before the pod counts as Ready."""

    condition_type: str


class PodSchedulingGate(Struct):
    """Holds the pod back until somebody removes it."""

    name: str


class PodSpec(Struct):
    """What runs, and how."""

    containers: list[Container] = []
    init_containers: list[Container] = []
    ephemeral_containers: list[EphemeralContainer] = []
    volumes: list[Volume] = []
    restart_policy: str = "Always"
    service_account_name: str = ""
    automount_service_account_token: bool | None = None
    node_name: str = ""
    node_selector: dict[str, str] = {}
    scheduler_name: str = ""
    hostname: str = ""
    subdomain: str = ""
    host_network: bool = False
    host_pid: bool = msgspec.field(name="hostPID", default=False)
    host_ipc: bool = msgspec.field(name="hostIPC", default=False)
    share_process_namespace: bool | None = None
    dns_config: PodDNSConfig | None = None
    set_hostname_as_fqdn: bool | None = msgspec.field(name="setHostnameAsFQDN", default=None)
    host_users: bool | None = None
    host_aliases: list[HostAlias] = []
    termination_grace_period_seconds: int | None = None
    active_deadline_seconds: int | None = None
    security_context: PodSecurityContext | None = None
    priority_class_name: str = ""
    priority: int | None = None
    preemption_policy: str | None = None
    readiness_gates: list[PodReadinessGate] = []
    scheduling_gates: list[PodSchedulingGate] = []
    dns_policy: str = ""
    enable_service_links: bool | None = None
    tolerations: list[dict[str, Any]] = []
    affinity: dict[str, Any] | None = None
    image_pull_secrets: list[dict[str, Any]] = []


class ContainerStateWaiting(Struct):
    """Not yet running, and why."""

    reason: str = ""
    message: str = ""


class ContainerStateRunning(Struct):
    """Running since."""

    started_at: Time | None = None


class ContainerStateTerminated(Struct):
    """How it ended."""

    exit_code: int
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: Time | None = None
    finished_at: Time | None = None
    container_id: str = msgspec.field(name="containerID", default="")


class ContainerState(Struct):
    """Exactly one is set."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(Struct, omit_defaults=False):
    """What the agent observed of one container."""

    name: str
    image: str
    ready: bool = False
    restart_count: int = 0
    image_id: str = msgspec.field(name="imageID", default="")
    container_id: str = msgspec.field(name="containerID", default="")
    started: bool | None = None
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    last_state: ContainerState = msgspec.field(default_factory=ContainerState)


class PodCondition(Struct):
    """PodScheduled, Initialized, ContainersReady, Ready …."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_probe_time: Time | None = None
    last_transition_time: Time | None = None


class PodIP(Struct):
    """An address of the pod."""

    ip: str


class PodStatus(Struct):
    """What the agent observed. Phases: Pending, Running, Succeeded, Failed, Unknown."""

    phase: str = ""
    conditions: list[PodCondition] = []
    reason: str = ""
    message: str = ""
    host_ip: str = msgspec.field(name="hostIP", default="")
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: list[PodIP] = msgspec.field(name="podIPs", default_factory=list)
    start_time: Time | None = None
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []
    ephemeral_container_statuses: list[ContainerStatus] = []
    nominated_node_name: str = ""
    qos_class: str = ""

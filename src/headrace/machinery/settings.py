"""Where the platform keeps its state and which addresses it serves: one frozen value, passed in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_NAMESPACE = "kubeflow-user-example-com"
"""The namespace of the default profile."""
DEFAULT_USER = "user@example.com"
SYSTEM_NAMESPACE = "kubeflow"
CLUSTER_DOMAIN = "cluster.local"
AUTO = "auto"
AUTOMATIC_MODES = ("sandbox", "bare")
"""What `auto` tries, in this order; see headrace.node.runtime."""
MODES = (*AUTOMATIC_MODES, "container")
GATEWAY_CERTIFICATE, GATEWAY_KEY = "gateway.crt", "gateway.key"
"""Below `pki`: the gateway's own certificate, signed by the cluster's authority, where none is given."""


EVICTION_HARD = "memory.available<100Mi,nodefs.available<1Gi,pid.available<5%"


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports on the host's loopback."""

    api: int = 6443
    gateway: int = 8080
    objectstore: int = 9000


@dataclass(frozen=True, slots=True)
class Settings:
    """One platform: its home folder and its addresses. Several can run side by side."""

    home: Path
    host: str = "127.0.0.1"
    ports: Ports = field(default_factory=Ports)
    node_name: str = "headrace"
    pod_cidr: str = "10.199.0.0/17"
    service_cidr: str = "10.199.128.0/17"
    eviction_hard: str = EVICTION_HARD
    """What must be left of the machine: below it the node says so and ends pods. As the kubelet's --eviction-hard."""
    node_ip: str = "10.199.0.1"
    """The machine as pods see it; services that the platform itself offers have it as their endpoint."""
    mode: str = AUTO
    """How pods run: one of MODES, or `auto` for the first that this machine can do."""
    gateway_host: str = "127.0.0.1"
    """Where the gateway listens; the API server and the object store stay on `host`."""
    base_url: str = ""
    """The gateway as people's browsers know it, when a reverse proxy stands in front: without a slash at its end."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    """PEM files for HTTPS at the gateway."""

    @property
    def state(self) -> Path:
        """Databases and object bytes: what a backup must hold."""
        return self.home / "state"

    @property
    def run(self) -> Path:
        """Sockets, pid files, pods: gone after a reboot without loss."""
        return self.home / "run"

    @property
    def logs(self) -> Path:
        """The platform's own logs and those of pods."""
        return self.home / "logs"

    @property
    def pki(self) -> Path:
        """The cluster's CA, certificates and signing keys, 0600."""
        return self.home / "pki"

    @property
    def cache(self) -> Path:
        """Environments; may be removed at any time while the platform is down."""
        return self.home / "cache"

    @property
    def volumes(self) -> Path:
        """Persistent volumes."""
        return self.home / "volumes"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, 0600."""
        return self.home / "kubeconfig"

    @property
    def home_option(self) -> str:
        """What a command of this platform needs to find it: nothing for the usual home, else ` --home FOLDER`."""
        return "" if self.home == Path("~/.headrace").expanduser() else f" --home {self.home}"

    @property
    def context(self) -> str:
        """Its name in kubeconfigs: `headrace`, or `headrace-<folder>` for a home that is not the usual one, so that
        several can be merged.
        """
        folder = self.home.resolve().name
        return "headrace" if folder == ".headrace" else f"headrace-{folder.lstrip('.')}"

    @property
    def gateway_url(self) -> str:
        """`http://127.0.0.1:8080`: where links lead, and the OIDC issuer's name."""
        if self.base_url:
            return self.base_url
        scheme = "https" if self.tls_certificate else "http"
        host = self.host if self.gateway_host in {"0.0.0.0", "::"} else self.gateway_host
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.ports.gateway}"

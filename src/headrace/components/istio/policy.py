"""What of a ServiceEntry is so on one machine; pure.

Pods reach hosts outside through the node's proxy, so an entry that only says which hosts there are is true as it
stands. What would lead a name elsewhere than where it leads, or keep it from somebody, has no effect.
"""

from __future__ import annotations

import ipaddress
from typing import Any

PROXIED = frozenset({"HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "TLS"})
_PLAIN = frozenset(
    {"hosts", "ports", "location", "resolution", "exportTo", "endpoints", "addresses", "workloadSelector"}
)
WITHOUT_EFFECT = {
    "endpoints": "a name leads where the machine's name servers say",
    "addresses": "no address is given to a host outside",
    "workloadSelector": "make a Service for pods of this cluster",
    "subjectAltNames": "certificates are checked by who connects",
}


def service_entry(spec: dict[str, Any]) -> list[str]:
    """The fields without effect, as paths, with the reason in brackets."""
    found = [f"spec.{name} ({WITHOUT_EFFECT[name]})" for name in WITHOUT_EFFECT if spec.get(name)]
    found += [f"spec.{name}" for name in spec if name not in _PLAIN and name not in WITHOUT_EFFECT]
    exported = spec.get("exportTo") or ["*"]
    if exported != ["*"]:
        found.append("spec.exportTo (all pods reach the hosts)")
    hosts = [str(host) for host in spec.get("hosts") or ()]
    if not hosts:
        found.append("spec.hosts (it names none)")
    for index, host in enumerate(hosts):
        if _is_loopback(host):
            found.append(f"spec.hosts[{index}] (this machine's own servers are not for pods)")
    for index, port in enumerate(spec.get("ports") or ()):
        protocol = str(port.get("protocol", "")).upper() if isinstance(port, dict) else ""
        if protocol and protocol not in PROXIED:
            found.append(f"spec.ports[{index}].protocol (only HTTP and TLS lead outside, through the node's proxy)")
    return found


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""What a pod is called and whom it asks for names: hostname, /etc/hosts and resolv.conf, by the kubelet's rules. Pure.

Pods reach the host's name servers through the node's only, whatever their policy: `Default` differs from
`ClusterFirst` in what is searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.machinery.settings import CLUSTER_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.core import Pod

MAX_HOSTNAME = 64
MAX_SERVERS, MAX_SEARCHES = 3, 32
WITH_HOST_NETWORK = "ClusterFirstWithHostNet"


class BadName(Exception):
    """The pod's name for itself cannot be; the message is the kubelet's."""


@dataclass(frozen=True, slots=True)
class Resolver:
    """The lines of a resolv.conf."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def hostname(pod: Pod) -> str:
    """The pod's own name, without a domain."""
    return pod.spec.hostname or pod.metadata.name[:63].rstrip("-.")


def full_name(pod: Pod) -> str:
    """The name with which the pod stands in DNS when it has a subdomain; else empty."""
    spec = pod.spec
    if not spec.subdomain or spec.host_network:
        return ""
    return f"{hostname(pod)}.{spec.subdomain}.{pod.metadata.namespace}.svc.{CLUSTER_DOMAIN}"


def kernel_hostname(pod: Pod) -> str:
    """What `hostname` prints in the pod. Raises BadName."""
    name = full_name(pod) if pod.spec.set_hostname_as_fqdn else ""
    if len(name) > MAX_HOSTNAME:
        raise BadName(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long "
            f"({MAX_HOSTNAME} characters is the max, {len(name)} characters requested)"
        )
    return name or hostname(pod)


def read_resolver(text: str) -> Resolver:
    """What a resolv.conf says."""
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if len(words) > 1 and words[0] in found:
            found[words[0]] = [*found[words[0]], words[1]] if words[0] == "nameserver" else words[1:]
    return Resolver(tuple(found["nameserver"]), tuple(found["search"]), tuple(found["options"]))


def resolver(pod: Pod, host_file: str) -> Resolver:
    """The pod's resolv.conf; without servers they are the node's, or with hostNetwork the host's."""
    spec, host = pod.spec, read_resolver(host_file)
    domain = f"{pod.metadata.namespace}.svc.{CLUSTER_DOMAIN}"
    policy = spec.dns_policy or "ClusterFirst"
    if policy == "None":
        base = Resolver()
    elif policy == "Default" or spec.host_network:
        base = Resolver(host.servers if spec.host_network else (), host.searches, host.options)
    else:
        base = Resolver((), (domain, f"svc.{CLUSTER_DOMAIN}", CLUSTER_DOMAIN), ("ndots:5",))
    asked = spec.dns_config
    if asked is None:
        return base
    options = {option.partition(":")[0]: option for option in base.options}
    for option in asked.options:
        options[option.name] = option.name if option.value is None else f"{option.name}:{option.value}"
    return Resolver(
        _distinct(base.servers, asked.nameservers)[:MAX_SERVERS],
        _distinct(base.searches, asked.searches)[:MAX_SEARCHES],
        tuple(options.values()),
    )


def _distinct(first: Iterable[str], more: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *more)))

"""The files that every container of a pod gets from the runtime, as kubelets write them."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.node.runtime.base import PodSandbox

_HOSTS = """# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def hosts(pod: PodSandbox, host_file: str = "") -> str:
    """/etc/hosts; a pod in the host's network gets the host's file below the header."""
    if pod.host_network:
        text = "# Kubernetes-managed hosts file (host network).\n" + host_file
    else:
        short = pod.fqdn.partition(".")[0] or pod.hostname
        text = f"{_HOSTS}{pod.ip}\t{f'{pod.fqdn}{chr(9)}' if pod.fqdn else ''}{short}\n"
    if pod.host_aliases:
        lines = "".join(f"{ip}\t{chr(9).join(names)}\n" for ip, names in pod.host_aliases)
        text = f"{text.rstrip()}\n\n# Entries added by HostAliases.\n{lines}"
    return text


def of_machine(path: str) -> str:
    """What a file of the machine says, which nearly never changes; empty when it cannot be read."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return _text(path, (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


@lru_cache(maxsize=8)
def _text(path: str, _version: tuple[int, ...]) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def resolv_conf(pod: PodSandbox, nameserver: str, host_file: str = "") -> str:
    """/etc/resolv.conf; a pod in the host's network resolves as the host does."""
    if pod.host_network and not pod.nameservers:
        return host_file
    search = f"search {' '.join(pod.dns_search)}\n" if pod.dns_search else ""
    servers = "".join(f"nameserver {server}\n" for server in pod.nameservers or (nameserver,))
    options = f"options {' '.join(pod.dns_options)}\n" if pod.dns_options else ""
    return search + servers + options

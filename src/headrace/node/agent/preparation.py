"""What a pod needs before its first container: an address, its volumes, its sandbox; and fresh files afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.node.agent import names
from headrace.node.agent.waiting import first
from headrace.node.runtime import podfiles
from headrace.node.runtime.base import PodSandbox
from headrace.node.runtime.sandboxd import linux, wire
from headrace.node.volumes import content
from headrace.node.volumes.pod import MountFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.node.agent.owner import Owner
    from headrace.node.agent.status import Facts

RESOLV_CONF = Path("/etc/resolv.conf")
RETRY_SECONDS = (0.5, 60.0)
"""First and longest pause before something that failed is tried again."""


class Preparation:
    """Prepares one pod; safe to run again."""

    def __init__(self, owner: Owner, facts: Facts) -> None:
        self._owner, self._host, self._facts = owner, owner.host, facts

    async def run(self, show: Callable[[str], None]) -> None:
        """Tries until all is there; `show` is called with what is wrong with a volume."""
        self._facts.ip = self._address()
        # The sandbox first: while its network is made elsewhere, the files are written here.
        await asyncio.gather(self._create_sandbox(), self._set_up_volumes(show))

    async def keep_files_fresh(self) -> None:
        """Files follow their objects at once, and tokens are renewed before they run out."""
        volumes = self._owner.volumes
        touched = self._owner.touched
        while True:
            due = volumes.tokens.renew_in
            await first(self._host.clock, None if due is None else max(due, 1.0), touched)
            touched = self._owner.touched
            await volumes.refresh(self._source())

    def _address(self) -> str:
        host, pod = self._host, self._owner.pod
        if pod.spec.host_network:
            return host.settings.node_ip
        folder = str(host.folders.small(pod.metadata.uid))
        note, held = f"{folder}/ip", pod.status.pod_ip
        if not held:
            with contextlib.suppress(OSError):
                held = linux.read_control(note).decode()
        if held and ipaddress.ip_address(held) in ipaddress.ip_network(host.settings.pod_cidr):
            host.addresses.hold(held)
            return held
        found = host.addresses.take()
        # Written before the sandbox exists, so that a restarted agent knows the address of what it adopts.
        os.makedirs(folder, exist_ok=True)
        wire.write_plain(note, found.encode(), 0o644)
        return found

    async def _set_up_volumes(self, show: Callable[[str], None]) -> None:
        host, owner = self._host, self._owner
        pause, longest = RETRY_SECONDS
        while True:
            touched = owner.touched
            try:
                await owner.volumes.set_up(self._source())
            except MountFailed as error:
                host.reporter.warning(owner.pod, "FailedMount", str(error))
                show(str(error))
                await first(host.clock, pause, touched)
                pause = min(pause * 2, longest)
            else:
                return

    async def _create_sandbox(self) -> None:
        """Network, names and host ports; tried until they are there."""
        host, pod = self._host, self._owner.pod
        pause, longest = RETRY_SECONDS
        while True:
            try:
                await host.runtime.create_pod(self._sandbox())
                await host.ports.open(pod, self._facts.ip)
            except Exception as error:  # noqa: BLE001  # whatever the runtime says goes to the pod's events
                host.reporter.warning(pod, "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
                await host.clock.sleep(pause)
                pause = min(pause * 2, longest)
            else:
                return

    def _sandbox(self) -> PodSandbox:
        pod, ip = self._owner.pod, self._facts.ip
        spec, meta = pod.spec, pod.metadata
        resolver = names.resolver(pod, podfiles.of_machine(str(RESOLV_CONF)))
        return PodSandbox(
            uid=meta.uid,
            namespace=meta.namespace,
            name=meta.name,
            hostname=names.kernel_hostname(pod),
            ip=ip,
            fqdn=names.full_name(pod),
            host_network=spec.host_network,
            share_processes=bool(spec.share_process_namespace),
            host_aliases=tuple((alias.ip, tuple(alias.hostnames)) for alias in spec.host_aliases),
            nameservers=resolver.servers,
            dns_search=resolver.searches,
            dns_options=resolver.options,
        )

    def _source(self) -> content.Source:
        host = self._host
        return content.Source(
            pod=self._owner.pod,
            lookup=host.caches,
            tokens=self._owner.volumes.tokens,
            pod_ip=self._facts.ip,
            host_ip=host.settings.node_ip,
            node_name=host.settings.node_name,
            allocatable=host.node().status.allocatable,
        )

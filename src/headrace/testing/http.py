"""An embedded cluster behind its real API server: TLS, certificates and a kubeconfig, on a port of its own."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.apiserver.authn.tokens import TokenIssuer
from headrace.apiserver.http.server import ApiServer
from headrace.apiserver.pki.authority import ensure
from headrace.apiserver.pki.kubeconfig import write_kubeconfig
from headrace.machinery.settings import Ports, Settings
from headrace.testing.cluster import embedded_cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from headrace.apiserver.pki.authority import Pki
    from headrace.machinery.component import Dialer, PodLogs, PodStreams, Usages
    from headrace.testing.cluster import EmbeddedCluster


@dataclass(slots=True)
class HttpCluster:
    """The cluster, and how to reach it over HTTP."""

    cluster: EmbeddedCluster
    server: ApiServer
    tokens: TokenIssuer
    pki: Pki
    kubeconfig: Path
    """The administrator's."""


@contextlib.asynccontextmanager
async def http_cluster(
    home: Path,
    *,
    pki: Pki | None = None,
    logs: PodLogs | None = None,
    dialer: Dialer | None = None,
    streams: PodStreams | None = None,
    usages: Usages | None = None,
    **options: Any,
) -> AsyncIterator[HttpCluster]:
    """Serve a test cluster (`options` go to `embedded_cluster`) on an ephemeral port; `home` gets the kubeconfig.

    Making keys takes a while: give `pki` to share them between clusters.
    """
    settings = Settings(home, ports=Ports(api=0))
    files = pki or ensure(settings)
    async with embedded_cluster(settings=settings, **options) as cluster:
        tokens = TokenIssuer(files.service_account_key, cluster.registry, cluster.clock)
        cluster.tokens = tokens
        server = ApiServer(
            settings,
            cluster.registry,
            tokens,
            logs,
            dialer,
            streams=streams,
            usages=usages,
            clock=cluster.clock,
            pki=files,
        )
        await server.start()
        try:
            bound = dataclasses.replace(settings, ports=Ports(api=server.port))
            yield HttpCluster(cluster, server, tokens, files, write_kubeconfig(bound, files))
        finally:
            await server.stop()

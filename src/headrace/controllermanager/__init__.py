"""Kubernetes' own controllers (Deployment, Job, garbage collection …) for the embedded cluster.

On a real Kubernetes cluster none of these run: kube-controller-manager does the same work there. Decisions are in
`*_policy.py` and `gc_graph.py`, without I/O; the other modules are one controller each.

What is here, and what is not, is in `parity.yaml`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.controllermanager.apiservices import AvailabilityController, RegistrationController
from headrace.controllermanager.autoscaler import AutoscalerController
from headrace.controllermanager.cronjob import CronJobController
from headrace.controllermanager.daemonset import DaemonSetController
from headrace.controllermanager.deployment import DeploymentController
from headrace.controllermanager.disruption import DisruptionController
from headrace.controllermanager.endpoints import EndpointsController
from headrace.controllermanager.endpointslices import EndpointSliceController
from headrace.controllermanager.event_expiry import EventExpiryController
from headrace.controllermanager.garbage_collector import GarbageCollector
from headrace.controllermanager.job import JobController
from headrace.controllermanager.namespace import NamespaceController, NamespaceDefaultsController
from headrace.controllermanager.quota import QuotaController
from headrace.controllermanager.replicaset import ReplicaSetController, ReplicationControllerController
from headrace.controllermanager.statefulset import StatefulSetController
from headrace.controllermanager.taint_eviction import TaintEvictionController
from headrace.controllermanager.volumes import ClaimController, VolumeController
from headrace.machinery.events import EventRecorder

if TYPE_CHECKING:
    from headrace.client.base import Client
    from headrace.controllermanager.apiservices import ExtensionApis
    from headrace.controllermanager.namespace import Kinds
    from headrace.machinery.clock import Clock
    from headrace.machinery.component import Usages
    from headrace.machinery.controller import AnyController
    from headrace.machinery.settings import Settings


def controllers(
    settings: Settings,
    client: Client,
    clock: Clock,
    ca_pem: str,
    kinds: Kinds,
    *,
    usages: Usages | None = None,
    apis: ExtensionApis | None = None,
) -> list[AnyController]:
    """All of them; `ca_pem` is the certificate that pods trust, `kinds` the API server's catalogue, `usages` what
    measures pods, `apis` the API server's way to other API servers.
    """

    def events(name: str) -> EventRecorder:
        return EventRecorder(client, clock, name)

    more: list[AnyController] = []
    if apis is not None:
        more = [RegistrationController(client, apis), AvailabilityController(client, clock, apis)]
    binder = events("persistentvolume-controller")
    return [
        NamespaceDefaultsController(client, ca_pem),
        NamespaceController(client, kinds, clock, apis),
        DeploymentController(client, clock, events("deployment-controller")),
        ReplicaSetController(client, clock, events("replicaset-controller")),
        ReplicationControllerController(client, clock, events("replication-controller")),
        StatefulSetController(client, clock, events("statefulset-controller")),
        DaemonSetController(client, clock, events("daemonset-controller")),
        JobController(client, clock, events("job-controller")),
        CronJobController(client, clock, events("cronjob-controller")),
        EndpointsController(client),
        EndpointSliceController(client),
        QuotaController(client, kinds),
        AutoscalerController(client, clock, events("horizontal-pod-autoscaler"), kinds, usages, apis=apis),
        TaintEvictionController(client, clock, events("taint-eviction-controller")),
        DisruptionController(client, clock, events("controllermanager"), kinds),
        ClaimController(settings, client, binder),
        VolumeController(settings, client, binder),
        GarbageCollector(client, clock, kinds),
        EventExpiryController(client, clock),
        *more,
    ]

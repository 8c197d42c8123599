"""A pod's way onto the node: scheduling gates, claims, room. It waits here, with the scheduler's sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api import _wire
from headrace.api.core import PersistentVolumeClaim, PersistentVolumeClaimSpec
from headrace.api.errors import AlreadyExists, StatusError
from headrace.api.meta import ObjectMeta
from headrace.node.agent import scheduling
from headrace.node.agent.owner import AT_ONCE
from headrace.node.agent.waiting import first
from headrace.node.volumes.pod import claims, ephemeral_claim

if TYPE_CHECKING:
    from headrace.api.core import Pod
    from headrace.node.agent.host import Host
    from headrace.node.agent.owner import Owner
    from headrace.node.agent.status import Facts

DEFAULT_SCHEDULER = "default-scheduler"
UNSCHEDULABLE = "Unschedulable"
PREEMPTED = f"{DEFAULT_SCHEDULER}: preempting to accommodate a higher priority pod"
RECHECK_SECONDS = 5.0
PATIENCE_SECONDS = 0.25
"""How long a pod waits for room before that is said: most waits for short steps end before anybody reads of them."""


class Refused(Exception):
    """Somebody else has placed the pod here, and this node cannot run it; the message says why."""


async def admit(owner: Owner, facts: Facts) -> None:
    """Returns when the pod may run here; its requests are then taken from the node's room. Raises Refused."""
    host = owner.host
    said, due = "", host.clock.monotonic() + PATIENCE_SECONDS
    while True:
        pod, touched, room = owner.pod, owner.touched, host.room.changed.next
        if pod.spec.node_name:
            missing = scheduling.unsupported(pod)
            if missing:
                raise Refused(f"Pod was rejected: node {pod.spec.node_name} does not support {', '.join(missing)}")
            break
        reason, message = await _obstacle(pod, host)
        found = [] if reason else host.room.reasons(pod, host.node())
        if found:
            reason, message = UNSCHEDULABLE, scheduling.sentence(found)
        if reason and not found:
            host.room.give_up(pod)
        elif host.room.wait(pod) and not reason and not host.room.is_next(pod, host.node()):
            # A more important one comes first, which it tells; it may also think better of it.
            await first(host.clock, RECHECK_SECONDS, touched, room)
            continue
        if not reason:
            break
        if found and (left := due - host.clock.monotonic()) > 0:
            await first(host.clock, left, touched, room)
            continue
        if message != said:
            said = message
            facts.unscheduled_reason, facts.unscheduled_message = reason, message
            owner.changed(within=AT_ONCE)
            host.reporter.warning(pod, "FailedScheduling", message)
        for uid in host.room.preempt(pod, host.node()) if found else ():
            host.send_away(uid, "PreemptionByScheduler", PREEMPTED)
        await first(host.clock, None, touched, room)
    host.room.take(owner.pod)
    host.room.arrived(owner.pod)


async def _obstacle(pod: Pod, host: Host) -> tuple[str, str]:
    """Reason and sentence of what keeps the pod from running whatever room there is; empty when nothing does."""
    spec = pod.spec
    if spec.scheduling_gates:
        return "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates"
    if spec.scheduler_name not in {"", DEFAULT_SCHEDULER}:
        advice = f"leave schedulerName out, or write {DEFAULT_SCHEDULER}"
        return UNSCHEDULABLE, f'no scheduler named "{spec.scheduler_name}" runs here: {advice}'
    problem = await _claim_problem(pod, host)
    if problem:
        return UNSCHEDULABLE, f"0/1 nodes are available: {problem}."
    return "", ""


async def _claim_problem(pod: Pod, host: Host) -> str:
    namespace = pod.metadata.namespace
    for volume in pod.spec.volumes:
        if volume.ephemeral is not None and host.caches.claim(namespace, ephemeral_claim(pod, volume)) is None:
            template = volume.ephemeral.volume_claim_template
            if template is None:
                return f'ephemeral volume "{volume.name}" has no volumeClaimTemplate'
            claim = PersistentVolumeClaim(
                metadata=ObjectMeta(
                    name=ephemeral_claim(pod, volume),
                    namespace=namespace,
                    labels=template.metadata.labels,
                    annotations=template.metadata.annotations,
                    owner_references=[pod.owner_reference()],
                ),
                spec=_wire.convert(PersistentVolumeClaimSpec, template.spec),
            )
            try:
                await host.client.create(claim)
            except AlreadyExists:
                continue
            except StatusError as error:
                return f'claim of ephemeral volume "{volume.name}" was not created: {error.message}'
    for name in claims(pod):
        found = host.caches.claim(namespace, name)
        if found is None:
            return f'persistentvolumeclaim "{name}" not found'
        if found.metadata.deletion_timestamp is not None:
            return f'persistentvolumeclaim "{name}" is being deleted'
        if found.status.phase != "Bound":
            return "pod has unbound immediate PersistentVolumeClaims"
    return ""

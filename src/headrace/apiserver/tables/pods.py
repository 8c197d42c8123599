"""Pods: one status word out of phase, reason, init containers and container states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.apiserver.tables.base import (
    AGE,
    NAME,
    NONE,
    Column,
    Printer,
    age,
    meta,
    name,
    parse_time,
    since,
    spec,
    status,
)

if TYPE_CHECKING:
    import datetime as dt

    from headrace.apiserver.tables.base import JSON

COLUMNS = (
    NAME,
    Column("Ready", description="How many of the pod's containers are ready."),
    Column("Status", description="The aggregate status of the containers in this pod."),
    Column("Restarts", description="The number of times the containers in this pod have been restarted."),
    AGE,
    Column("IP", description="The pod's address.", priority=1),
    Column("Node", description="The machine that runs the pod.", priority=1),
    Column("Nominated Node", description="The machine that the pod waits for.", priority=1),
    Column("Readiness Gates", description="Readiness gates that are true, of all.", priority=1),
)


class _Restarts:
    """Counts restarts and remembers the latest."""

    def __init__(self) -> None:
        self.count = 0
        self.last: dt.datetime | None = None

    def add(self, container: JSON) -> None:
        self.count += int(container.get("restartCount") or 0)
        ended = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
        moment = parse_time(ended)
        if moment and (self.last is None or moment > self.last):
            self.last = moment

    def text(self, now: dt.datetime) -> str:
        if self.count and self.last:
            return f"{self.count} ({since(self.last.isoformat(), now)} ago)"
        return str(self.count)


def _ended(terminated: JSON) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _condition(state: JSON, type_: str) -> JSON:
    return next((c for c in state.get("conditions") or [] if c.get("type") == type_), {})


def _init(pod_spec: JSON, state: JSON) -> tuple[str, int, _Restarts, _Restarts]:
    """(reason while initializing or "", ready sidecars, restarts of all, restarts of sidecars)."""
    sidecars = {c.get("name") for c in pod_spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"}
    total = len(pod_spec.get("initContainers") or [])
    ready, every, of_sidecars = 0, _Restarts(), _Restarts()
    for index, container in enumerate(state.get("initContainerStatuses") or []):
        every.add(container)
        sidecar = container.get("name") in sidecars
        if sidecar:
            of_sidecars.add(container)
        current = container.get("state") or {}
        terminated, waiting = current.get("terminated"), current.get("waiting") or {}
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if sidecar and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        if terminated is not None:
            return f"Init:{_ended(terminated)}", ready, every, of_sidecars
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"Init:{waiting['reason']}", ready, every, of_sidecars
        return f"Init:{index}/{total}", ready, every, of_sidecars
    return "", ready, every, of_sidecars


def summary(pod: JSON, now: dt.datetime) -> tuple[int, int, str, str]:
    """(ready containers, containers, status word, restarts)."""
    pod_spec, state = spec(pod), status(pod)
    total = len(pod_spec.get("containers") or []) + sum(
        c.get("restartPolicy") == "Always" for c in pod_spec.get("initContainers") or []
    )
    phase = str(state.get("phase") or "")
    reason = str(state.get("reason") or phase)
    if _condition(state, "PodScheduled").get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    initializing, ready, restarts, of_sidecars = _init(pod_spec, state)
    reason = initializing or reason
    if not initializing or _condition(state, "Initialized").get("status") == "True":
        restarts = of_sidecars
        running = False
        for container in reversed(state.get("containerStatuses") or []):
            restarts.add(container)
            current = container.get("state") or {}
            waiting, terminated = current.get("waiting") or {}, current.get("terminated")
            if waiting.get("reason"):
                reason = waiting["reason"]
            elif terminated is not None:
                reason = _ended(terminated)
            elif container.get("ready") and current.get("running") is not None:
                running = True
                ready += 1
        if reason == "Completed" and running:
            reason = "Running" if _condition(state, "Ready").get("status") == "True" else "NotReady"
    if meta(pod).get("deletionTimestamp"):
        if state.get("reason") == "NodeLost":
            reason = "Unknown"
        elif phase not in {"Succeeded", "Failed"}:
            reason = "Terminating"
    return ready, total, reason, restarts.text(now)


def _gates(pod: JSON) -> str:
    gates = spec(pod).get("readinessGates") or []
    if not gates:
        return NONE
    true = sum(_condition(status(pod), g.get("conditionType", "")).get("status") == "True" for g in gates)
    return f"{true}/{len(gates)}"


def cells(pod: JSON, now: dt.datetime) -> list[Any]:
    """A pod's row."""
    ready, total, reason, restarts = summary(pod, now)
    state = status(pod)
    addresses = state.get("podIPs") or []
    address = (addresses[0].get("ip") if addresses else None) or state.get("podIP") or NONE
    return [
        name(pod),
        f"{ready}/{total}",
        reason,
        restarts,
        age(pod, now),
        address,
        spec(pod).get("nodeName") or NONE,
        state.get("nominatedNodeName") or NONE,
        _gates(pod),
    ]


POD = Printer(COLUMNS, cells)

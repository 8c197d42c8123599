"""Pods, Object and External metrics of autoscalers, asked of the metrics APIs that somebody has registered.

They are asked as upstream's controller asks them, under its name: adapters grant their API to
`system:serviceaccount:kube-system:horizontal-pod-autoscaler`.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from headrace.api import quantity
from headrace.api.errors import StatusError
from headrace.api.identity import service_account
from headrace.controllermanager import autoscaler_custom_policy as policy
from headrace.controllermanager import autoscaler_metrics_policy as metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.api.core import Pod
    from headrace.api.identity import User
    from headrace.api.meta import Time
    from headrace.controllermanager.namespace import Kinds

Json = dict[str, Any]

CALLER = service_account("kube-system", "horizontal-pod-autoscaler")
SECONDS_OF_A_SAMPLE = 60


class MetricApis(Protocol):
    """The API server's way to other API servers."""

    def versions(self, group: str) -> Sequence[str]:
        """The versions of a group that other servers answer."""
        ...

    async def json(self, user: User, key: tuple[str, str], path: str) -> Json:
        """An object of a group and version. Raises StatusError."""
        ...


@dataclass(frozen=True, slots=True)
class Scaled:
    """What an autoscaler is about, as it is now."""

    namespace: str
    selector: str
    pods: Sequence[Pod]
    wanted: int
    """Replicas that its target should have."""
    have: int
    """Replicas that it has."""


class OtherMetrics:
    """Proposals by metrics that this platform does not measure."""

    def __init__(self, apis: MetricApis | None, kinds: Kinds) -> None:
        self._apis, self._kinds = apis, kinds

    async def propose(self, spec: Json, about: Scaled, now: Time) -> tuple[metrics.Proposal, Json, str]:
        """What one metric asks for, its status and its name. Raises Unmeasured."""
        match spec["type"]:
            case "Pods":
                return await self._pods(spec["pods"], about, now)
            case "Object":
                return await self._object(spec["object"], about)
            case _:
                return await self._external(spec["external"], about)

    async def _pods(self, source: Json, about: Scaled, now: Time) -> tuple[metrics.Proposal, Json, str]:
        metric = source["metric"]
        version = self._version(policy.CUSTOM)
        path = policy.pods_path(version, about.namespace, metric, about.selector)
        answer = await self._ask((policy.CUSTOM, version), path, f"metric {metric['name']}")
        average = metrics.amount_of((source.get("target") or {}).get("averageValue") or 0)
        window = dt.timedelta(seconds=SECONDS_OF_A_SAMPLE)
        measured = metrics.Measured(now, window, policy.samples(answer, about.pods))
        target = metrics.Target("", average=average)
        proposal = metrics.propose(about.wanted, list(about.pods), measured, target, now)
        status = {"metric": metric, "current": {"averageValue": _text(proposal.average)}}
        return proposal, {"type": "Pods", "pods": status}, f"pods metric {metric['name']}"

    async def _object(self, source: Json, about: Scaled) -> tuple[metrics.Proposal, Json, str]:
        metric, described = source["metric"], source["describedObject"]
        version = self._version(policy.CUSTOM)
        resource = self._resource(described)
        path = policy.object_path(version, about.namespace, metric, resource, described["name"])
        where = f"{metric['name']} on {described['kind']} {about.namespace}/{described['name']}"
        amount = policy.one(await self._ask((policy.CUSTOM, version), path, f"metric {where}"))
        proposal, current = _proposal(source, amount, about, "object")
        status = {"describedObject": described, "metric": metric, "current": current}
        name = f"{described['kind']} metric {metric['name']}"
        return proposal, {"type": "Object", "object": status}, name

    async def _external(self, source: Json, about: Scaled) -> tuple[metrics.Proposal, Json, str]:
        metric = source["metric"]
        version = self._version(policy.EXTERNAL)
        path = policy.external_path(version, about.namespace, metric)
        where = f"external metric {about.namespace}/{metric['name']}"
        amount = policy.total(await self._ask((policy.EXTERNAL, version), path, where))
        proposal, current = _proposal(source, amount, about, "external")
        status = {"metric": metric, "current": current}
        return proposal, {"type": "External", "external": status}, f"external metric {metric['name']}"

    def _version(self, group: str) -> str:
        answered = self._apis.versions(group) if self._apis is not None else ()
        found = next((version for version in policy.VERSIONS[group] if version in answered), None)
        if found is None:
            raise metrics.Unmeasured(
                f"no API service answers {group}: register a metrics adapter, or use Resource or ContainerResource "
                "with cpu or memory"
            )
        return found

    def _resource(self, described: Json) -> str:
        group = str(described.get("apiVersion") or "").rpartition("/")[0]
        for info in self._kinds.all():
            if (info.group, info.kind) == (group, described["kind"]):
                return info.resource
        raise metrics.Unmeasured(f'no matches for kind "{described["kind"]}" in group "{group}"')

    async def _ask(self, key: tuple[str, str], path: str, about: str) -> Json:
        if self._apis is None:
            raise AssertionError
        try:
            return await self._apis.json(CALLER, key, path)
        except StatusError as error:
            kind = key[0].partition(".")[0]
            why = f"unable to fetch metrics from {kind} metrics API: {error.message}"
            raise metrics.Unmeasured(f"unable to get {about}: {why}") from error


def _proposal(source: Json, amount: int, about: Scaled, kind: str) -> tuple[metrics.Proposal, Json]:
    """The replicas, and what was measured in the form of the target. Raises Unmeasured."""
    target = source.get("target") or {}
    if target.get("averageValue") is not None:
        replicas, each = policy.by_average(about.have, amount, metrics.amount_of(target["averageValue"]))
        return metrics.Proposal(replicas, each), {"averageValue": _text(each)}
    if target.get("value") is not None:
        replicas = policy.by_value(about.wanted, amount, metrics.amount_of(target["value"]), about.pods)
        return metrics.Proposal(replicas, amount), {"value": _text(amount)}
    raise metrics.Unmeasured(
        f"invalid {kind} metric source: neither a value target nor an average value target was set"
    )


def _text(thousandths: int) -> str:
    return str(quantity.canonical(f"{thousandths}m"))

"""LimitRange at admission: defaults of containers, and least and most for containers, pods and claims
(upstream: plugin/pkg/admission/limitranger).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api.errors import Forbidden
from headrace.api.limits import LimitRange
from headrace.machinery import quota as counting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headrace.api.meta import KindInfo
    from headrace.apiserver.admission.lookup import Lookup

Json = dict[str, Any]
ANNOTATION = "kubernetes.io/limit-ranger"


def admit(info: KindInfo, obj: Json, lookup: Lookup) -> None:
    """Fill a new pod's defaults and check a pod or claim. Raises Forbidden in the real server's words."""
    if info.group or info.kind not in {"Pod", "PersistentVolumeClaim"}:
        return
    limits = [
        item
        for found in lookup.within(LimitRange.INFO, obj["metadata"]["namespace"])
        for item in (found.get("spec") or {}).get("limits") or ()
    ]
    if not limits:
        return
    if info.kind == "Pod":
        fill(obj, limits)
        found = list(_of_pod(obj["spec"], limits))
    else:
        found = list(_of_claim(obj["spec"], limits))
    if found:
        why = found[0] if len(found) == 1 else f"[{', '.join(dict.fromkeys(found))}]"
        name = obj["metadata"]["name"]
        raise Forbidden(f'{info.resource} "{name}" is forbidden: {why}', kind=info.plural, name=name)


def fill(pod: Json, limits: Iterable[Json]) -> None:
    """Limits and requests that containers leave out; what was set is said in an annotation."""
    defaults: dict[str, Json] = {"limits": {}, "requests": {}}
    for item in limits:
        if item.get("type") == "Container":
            defaults["limits"] |= item.get("default") or {}
            defaults["requests"] |= item.get("defaultRequest") or {}
    said = []
    spec = pod["spec"]
    for word, containers in (("container", spec.get("containers")), ("init container", spec.get("initContainers"))):
        for container in containers or ():
            resources = container.setdefault("resources", {})
            for part, one in (("requests", "request"), ("limits", "limit")):
                missing = {k: v for k, v in defaults[part].items() if k not in (resources.get(part) or {})}
                if missing:
                    resources[part] = {**(resources.get(part) or {}), **missing}
                    said.append(f"{', '.join(sorted(missing))} {one} for {word} {container.get('name')}")
    if said:
        meta = pod["metadata"]
        meta["annotations"] = {
            **(meta.get("annotations") or {}),
            ANNOTATION: f"LimitRanger plugin set: {'; '.join(said)}",
        }


def _of_pod(spec: Json, limits: Iterable[Json]) -> Iterator[str]:
    for item in limits:
        if item.get("type") == "Container":
            for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
                resources = container.get("resources") or {}
                requests, bounds = (
                    {k: counting.amount(v) for k, v in (resources.get(part) or {}).items()}
                    for part in ("requests", "limits")
                )
                yield from _check(item, "Container", requests, bounds)
        elif item.get("type") == "Pod":
            requests, bounds = (counting.pod_total(spec, part) for part in ("requests", "limits"))
            yield from _check(item, "Pod", requests, bounds)


def _check(item: Json, kind: str, requests: counting.Amounts, limits: counting.Amounts) -> Iterator[str]:
    for name, text in sorted((item.get("min") or {}).items()):
        least, start = counting.amount(text), f"minimum {name} usage per {kind} is {text}"
        if name not in requests:
            yield f"{start}.  No request is specified"
        elif requests[name].number < least.number:
            yield f"{start}, but request is {requests[name]}"
        elif name in limits and limits[name].number < least.number:
            yield f"{start}, but limit is {limits[name]}"
    for name, text in sorted((item.get("max") or {}).items()):
        most, start = counting.amount(text), f"maximum {name} usage per {kind} is {text}"
        if name not in limits:
            yield f"{start}.  No limit is specified"
        elif limits[name].number > most.number:
            yield f"{start}, but limit is {limits[name]}"
        elif name in requests and requests[name].number > most.number:
            yield f"{start}, but request is {requests[name]}"
    for name, text in sorted((item.get("maxLimitRequestRatio") or {}).items()):
        start = f"{name} max limit to request ratio per {kind} is {text}"
        request, limit = (side.get(name, counting.Amount()).number for side in (requests, limits))
        if not request:
            yield f"{start}, but no request is specified or request is 0"
        elif not limit:
            yield f"{start}, but no limit is specified or limit is 0"
        elif limit / request > counting.amount(text).number:
            yield f"{start}, but provided ratio is {float(limit / request):f}"


def _of_claim(spec: Json, limits: Iterable[Json]) -> Iterator[str]:
    asked = (spec.get("resources") or {}).get("requests") or {}
    for item in limits:
        if item.get("type") != "PersistentVolumeClaim":
            continue
        for name, text in sorted((item.get("min") or {}).items()):
            start = f"minimum {name} usage per PersistentVolumeClaim is {text}"
            if name not in asked:
                yield f"{start}.  No request is specified"
            elif counting.amount(asked[name]).number < counting.amount(text).number:
                yield f"{start}, but request is {asked[name]}"
        for name, text in sorted((item.get("max") or {}).items()):
            if name in asked and counting.amount(asked[name]).number > counting.amount(text).number:
                yield f"maximum {name} usage per PersistentVolumeClaim is {text}, but request is {asked[name]}"

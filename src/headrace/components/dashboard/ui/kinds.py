"""The kinds of the workloads page: their state in a word, why they are not as they should be, and their facts.

Pure: what a kind's state depends on besides the object itself (pods, endpoints) is handed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from headrace.api.apps import Deployment, StatefulSet
from headrace.api.batch import CronJob, Job
from headrace.api.core import PersistentVolumeClaim, Pod, Service
from headrace.machinery import look, podlook
from headrace.machinery.html import el
from headrace.machinery.words import _, told

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.api.core import Endpoints, Event, PodCondition
    from headrace.api.meta import Object
    from headrace.machinery.html import Child, Markup
    from headrace.machinery.pages import PageRequest

PODS, EVENTS, IMAGES = "pods", "events", "images"
KINDS: dict[str, type[Object]] = {
    kind.INFO.plural: kind for kind in (Pod, Job, Deployment, StatefulSet, CronJob, Service, PersistentVolumeClaim)
}
"""By what the address calls them, in the order of the tabs."""
SCALED = frozenset({"deployments", "statefulsets"})
"""Those that can be scaled and restarted."""
_BAD_CONDITIONS = frozenset({("ReplicaFailure", "True"), ("Progressing", "False")})


def titles() -> dict[str, str]:
    """The tabs' words."""
    return {
        PODS: _("Pods"),
        "jobs": _("Jobs"),
        "deployments": _("Deployments"),
        "statefulsets": _("Stateful sets"),
        "cronjobs": _("Cron jobs"),
        "services": _("Services"),
        "persistentvolumeclaims": _("Volume claims"),
        EVENTS: _("Events"),
        IMAGES: _("Images and environments"),
    }


def strip(request: PageRequest, here: str) -> Markup:
    """The tabs, one of which is here."""
    entries: list[tuple[str, str, bool, Child]] = []
    for key, words in titles().items():
        query = {"ns": request.query.get("ns", ""), "kind": key if key not in {PODS, IMAGES} else ""}
        path = "/workloads/images" if key == IMAGES else "/workloads"
        given = urlencode({name: value for name, value in query.items() if value})
        entries.append((words, f"{path}?{given}" if given else path, key == here, None))
    return el("div", look.tabs(entries, _("Kinds")), class_="kinds")


def state(obj: Object, endpoints: Endpoints | None = None) -> tuple[str, str]:
    """Colour and word."""
    if obj.metadata.deletion_timestamp is not None:
        return look.WAIT, _("Terminating")
    if isinstance(obj, Pod):
        return podlook.state(obj)
    if isinstance(obj, Deployment | StatefulSet):
        return _replicas(obj)
    if isinstance(obj, Job):
        return _job(obj)
    if isinstance(obj, CronJob):
        if obj.spec.suspend:
            return look.WAIT, _("Suspended")
        return (look.RUN, _("Running")) if obj.status.active else (look.OK, _("Scheduled"))
    if isinstance(obj, Service):
        if obj.spec.type == "ExternalName":
            return look.OK, _("External")
        reached = endpoints is not None and any(part.addresses for part in endpoints.subsets)
        return (look.OK, _("Ready")) if reached else (look.WARN, _("Reaches nothing"))
    if isinstance(obj, PersistentVolumeClaim):
        words = {
            "Bound": (look.OK, _("Bound")),
            "Lost": (look.BAD, _("Lost")),
        }
        return words.get(obj.status.phase, (look.WAIT, _("Waiting")))
    raise AssertionError(type(obj))


def _replicas(obj: Deployment | StatefulSet) -> tuple[str, str]:
    wanted, ready = obj.spec.replicas, obj.status.ready_replicas
    if isinstance(obj, Deployment) and _first(obj.status.conditions, _BAD_CONDITIONS) is not None:
        return look.BAD, _("Failed")
    if not wanted:
        return (look.WAIT, _("Stopped")) if not obj.status.replicas else (look.RUN, _("Stopping"))
    return (look.OK, _("Running")) if ready >= wanted else (look.RUN, _("Starting"))


def _job(job: Job) -> tuple[str, str]:
    ended = {c.type for c in job.status.conditions if c.status == "True"}
    if "Complete" in ended:
        return look.OK, _("Completed")
    if "Failed" in ended:
        return look.BAD, _("Failed")
    if job.spec.suspend:
        return look.WAIT, _("Suspended")
    return (look.RUN, _("Running")) if job.status.active else (look.WAIT, _("Waiting"))


def why(obj: Object, found: tuple[str, str], pods: Iterable[Pod], events: Iterable[Event]) -> str:
    """Why it is not as it should be, in a sentence: its own words, else its pods', else the last warning's."""
    if found[0] == look.OK:
        return ""
    own = _own(obj)
    if own and not isinstance(obj, Job):
        return own
    said = next((f"{p.metadata.name}: {sentence}" for p in pods if (sentence := podlook.trouble(p))), "")
    if said and not isinstance(obj, Pod):
        return f"{own} {said}".strip()
    if own:
        return own
    warnings = [e for e in events if e.type == "Warning" and e.message]
    return told(warnings[-1].message) if warnings else ""


def _own(obj: Object) -> str:
    if isinstance(obj, Pod):
        return podlook.trouble(obj)
    if isinstance(obj, Deployment):
        bad = _first(obj.status.conditions, _BAD_CONDITIONS)
        return told(bad.message) if bad is not None else ""
    if isinstance(obj, Job):
        bad = _first(obj.status.conditions, {("Failed", "True")})
        return told(bad.message) if bad is not None else ""
    if isinstance(obj, Service) and obj.spec.type != "ExternalName":
        if obj.spec.selector:
            return _("No ready pod has the labels {labels}.", labels=_labels(obj.spec.selector))
        return _("It selects no pods, and nobody has written its endpoints.")
    return ""


def _first(conditions: Iterable[PodCondition], wanted: Iterable[tuple[str, str]]) -> PodCondition | None:
    pairs = set(wanted)
    return next((c for c in conditions if (c.type, c.status) in pairs), None)


def pods_of(obj: Object, pods: Iterable[Pod]) -> list[Pod]:
    """The pods that belong to it."""
    if isinstance(obj, Job):
        return [p for p in pods if any(ref.uid == obj.metadata.uid for ref in p.metadata.owner_references)]
    if isinstance(obj, Deployment | StatefulSet):
        return [p for p in pods if obj.spec.selector.matches(p.metadata.labels)]
    if isinstance(obj, Service) and obj.spec.selector:
        return [p for p in pods if obj.spec.selector.items() <= p.metadata.labels.items()]
    if isinstance(obj, PersistentVolumeClaim):
        name = obj.metadata.name
        return [p for p in pods if name in _claims(p)]
    return []


def _claims(pod: Pod) -> set[str]:
    return {v.persistent_volume_claim.claim_name for v in pod.spec.volumes if v.persistent_volume_claim is not None}


def summary(obj: Object) -> str:
    """What the list says of it in a few words."""
    if isinstance(obj, Pod):
        restarts = sum(s.restart_count for s in obj.status.container_statuses)
        return _("{n} restarts", n=restarts) if restarts else ""
    if isinstance(obj, Deployment | StatefulSet):
        return _("{n} of {all} ready", n=obj.status.ready_replicas, all=obj.spec.replicas)
    if isinstance(obj, Job):
        return _("{n} of {all} done", n=obj.status.succeeded, all=obj.spec.completions or 1)
    if isinstance(obj, CronJob):
        return obj.spec.schedule
    if isinstance(obj, Service):
        return ", ".join(str(port.port) for port in obj.spec.ports)
    if isinstance(obj, PersistentVolumeClaim):
        return str(obj.status.capacity.get("storage") or obj.spec.resources.requests.get("storage") or "")
    return ""


def facts(obj: Object) -> list[tuple[str, Child]]:
    """What the overview says of everything but pods."""
    rows: list[tuple[str, Child]] = [(_("State"), summary(obj))]
    if isinstance(obj, Deployment):
        rows += [(_("Strategy"), obj.spec.strategy.type), (_("Labels of its pods"), _selector(obj))]
    elif isinstance(obj, StatefulSet):
        rows += [(_("Service"), obj.spec.service_name), (_("Labels of its pods"), _selector(obj))]
    elif isinstance(obj, Job):
        rows += [
            (_("Took"), look.took(obj.status.start_time, obj.status.completion_time)),
            (_("Failed pods"), obj.status.failed or None),
            (_("Pods at once"), obj.spec.parallelism),
        ]
    elif isinstance(obj, CronJob):
        rows += [
            (_("Time zone"), obj.spec.time_zone),
            (_("Last run"), look.moment(obj.status.last_schedule_time)),
            (_("Last success"), look.moment(obj.status.last_successful_time)),
            (_("Running now"), ", ".join(ref.name for ref in obj.status.active)),
        ]
    elif isinstance(obj, Service):
        rows += [
            (_("Type"), obj.spec.type),
            (_("Address"), obj.spec.cluster_ip),
            (_("Name in pods"), f"{obj.metadata.name}.{obj.metadata.namespace}"),
            (_("Labels of its pods"), _labels(obj.spec.selector)),
        ]
    elif isinstance(obj, PersistentVolumeClaim):
        rows += [
            (_("Class"), obj.spec.storage_class_name),
            (_("Access"), ", ".join(obj.spec.access_modes)),
            (_("Volume"), obj.spec.volume_name),
        ]
    owners = ", ".join(f"{ref.kind} {ref.name}" for ref in obj.metadata.owner_references)
    return [*rows, (_("Owner"), owners), (_("Created"), look.moment(obj.metadata.creation_timestamp))]


def conditions(obj: Object) -> list[PodCondition]:
    """What its controller says of it."""
    status: Any = getattr(obj, "status", None)
    found: list[PodCondition] = getattr(status, "conditions", None) or []
    return found


def _selector(obj: Deployment | StatefulSet) -> str:
    return _labels(obj.spec.selector.match_labels)


def _labels(labels: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())

"""Controllers of pods: Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.apiserver.tables.base import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    NONE,
    SELECTOR,
    Column,
    Printer,
    age,
    human_duration,
    labels_text,
    meta,
    name,
    parse_time,
    pod_template,
    selector_text,
    since,
    spec,
    status,
    template_cells,
)

if TYPE_CHECKING:
    import datetime as dt

    from headrace.apiserver.tables.base import JSON


def _number(values: JSON, key: str, default: int = 0) -> int:
    found = values.get(key)
    return found if isinstance(found, int) else default


def _deployment(obj: JSON, now: dt.datetime) -> list[Any]:
    state = status(obj)
    return [
        name(obj),
        f"{_number(state, 'readyReplicas')}/{_number(spec(obj), 'replicas', 1)}",
        _number(state, "updatedReplicas"),
        _number(state, "availableReplicas"),
        age(obj, now),
        *template_cells(pod_template(obj)),
        selector_text(spec(obj).get("selector")),
    ]


DEPLOYMENT = Printer(
    (
        NAME,
        Column("Ready", description="Ready pods, of those wanted."),
        Column("Up-to-date", "integer", description="Pods of the present template."),
        Column("Available", "integer", description="Pods that have been ready long enough."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _deployment,
)


def _replica_set(obj: JSON, now: dt.datetime) -> list[Any]:
    state = status(obj)
    return [
        name(obj),
        _number(spec(obj), "replicas", 1),
        _number(state, "replicas"),
        _number(state, "readyReplicas"),
        age(obj, now),
        *template_cells(pod_template(obj)),
        selector_text(_selector(obj)),
    ]


def _selector(obj: JSON) -> JSON | None:
    """A ReplicationController's is labels alone."""
    selector = spec(obj).get("selector")
    return {"matchLabels": selector or {}} if obj.get("kind") == "ReplicationController" else selector


REPLICA_SET = Printer(
    (
        NAME,
        Column("Desired", "integer", description="Pods wanted."),
        Column("Current", "integer", description="Pods there."),
        Column("Ready", "integer", description="Pods ready."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _replica_set,
)


def _stateful_set(obj: JSON, now: dt.datetime) -> list[Any]:
    return [
        name(obj),
        f"{_number(status(obj), 'readyReplicas')}/{_number(spec(obj), 'replicas', 1)}",
        age(obj, now),
        *template_cells(pod_template(obj)),
    ]


STATEFUL_SET = Printer(
    (NAME, Column("Ready", description="Ready pods, of those wanted."), AGE, CONTAINERS, IMAGES), _stateful_set
)


def _revision(obj: JSON, now: dt.datetime) -> list[Any]:
    owner: JSON = next((r for r in meta(obj).get("ownerReferences") or [] if r.get("controller")), {})
    group = str(owner.get("apiVersion", "")).partition("/")[0]
    controller = f"{str(owner['kind']).lower()}.{group}/{owner['name']}" if owner else NONE
    return [name(obj), controller, _number(obj, "revision"), age(obj, now)]


CONTROLLER_REVISION = Printer((NAME, Column("Controller"), Column("Revision", "integer"), AGE), _revision)


def _daemon_set(obj: JSON, now: dt.datetime) -> list[Any]:
    state = status(obj)
    return [
        name(obj),
        _number(state, "desiredNumberScheduled"),
        _number(state, "currentNumberScheduled"),
        _number(state, "numberReady"),
        _number(state, "updatedNumberScheduled"),
        _number(state, "numberAvailable"),
        labels_text(pod_template(obj).get("nodeSelector")),
        age(obj, now),
        *template_cells(pod_template(obj)),
        selector_text(spec(obj).get("selector")),
    ]


DAEMON_SET = Printer(
    (
        NAME,
        Column("Desired", "integer"),
        Column("Current", "integer"),
        Column("Ready", "integer"),
        Column("Up-to-date", "integer"),
        Column("Available", "integer"),
        Column("Node Selector"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _daemon_set,
)


def _job_status(obj: JSON) -> str:
    true = {c.get("type") for c in status(obj).get("conditions") or [] if c.get("status") == "True"}
    if "Complete" in true:
        return "Complete"
    if "Failed" in true:
        return "Failed"
    if meta(obj).get("deletionTimestamp"):
        return "Terminating"
    for word in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if word in true:
            return word
    return "Running"


def _job_duration(obj: JSON, now: dt.datetime) -> str:
    state = status(obj)
    start = parse_time(state.get("startTime"))
    if start is None:
        return ""
    end = parse_time(state.get("completionTime"))
    if end is None:
        failed: JSON = next(
            (c for c in state.get("conditions") or [] if c.get("type") == "Failed" and c.get("status") == "True"), {}
        )
        end = parse_time(failed.get("lastTransitionTime")) or now
    return human_duration((end - start).total_seconds())


def _completions(obj: JSON) -> str:
    succeeded = _number(status(obj), "succeeded")
    wanted, parallelism = spec(obj).get("completions"), _number(spec(obj), "parallelism")
    if wanted is not None:
        return f"{succeeded}/{wanted}"
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _job(obj: JSON, now: dt.datetime) -> list[Any]:
    return [
        name(obj),
        _job_status(obj),
        _completions(obj),
        _job_duration(obj, now),
        age(obj, now),
        *template_cells(pod_template(obj)),
        selector_text(spec(obj).get("selector")),
    ]


JOB = Printer(
    (
        NAME,
        Column("Status", description="Status of the job."),
        Column("Completions", description="Pods that succeeded, of those wanted."),
        Column("Duration", description="How long it took, or takes."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _job,
)


def _cron_job(obj: JSON, now: dt.datetime) -> list[Any]:
    wanted, state = spec(obj), status(obj)
    template = ((wanted.get("jobTemplate") or {}).get("spec") or {}).get("template") or {}
    selector = (wanted.get("jobTemplate") or {}).get("spec", {}).get("selector")
    last = state.get("lastScheduleTime")
    return [
        name(obj),
        wanted.get("schedule", ""),
        wanted.get("timeZone") or NONE,
        str(bool(wanted.get("suspend"))),
        len(state.get("active") or []),
        since(last, now) if last else NONE,
        age(obj, now),
        *template_cells(template.get("spec") or {}),
        selector_text(selector),
    ]


CRON_JOB = Printer(
    (
        NAME,
        Column("Schedule"),
        Column("Timezone"),
        Column("Suspend", "boolean"),
        Column("Active", "integer"),
        Column("Last Schedule"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _cron_job,
)

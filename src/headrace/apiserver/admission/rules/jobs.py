"""Rules of Jobs and CronJobs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headrace.api.errors import Cause
from headrace.apiserver.admission.rules import fields as f
from headrace.apiserver.admission.rules import pods
from headrace.machinery import cron

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]

CRON_JOB_NAME = 52
"""Eleven characters are left for what is added to the names of its jobs."""
MAX_RULES = 20
MAX_VALUES = 255
MAX_INDEXES = 64 << 10
MANY_COMPLETIONS = 100_000
MANY_FAILURES = 10_000
MAX_MANAGER = 63
_MANAGER = re.compile(
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
)


def _template_of(spec: Json) -> Json:
    return spec.get("template") or {}


def job(obj: Json) -> Iterator[Cause]:
    """A Job."""
    yield from _job_spec(obj.get("spec") or {}, "spec")


def _job_spec(spec: Json, path: str) -> Iterator[Cause]:
    for key in (
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
        "ttlSecondsAfterFinished",
    ):
        yield from f.non_negative(f"{path}.{key}", spec.get(key))
    if "completionMode" in spec or path == "spec":
        yield from f.one_of(f"{path}.completionMode", spec.get("completionMode"), ("NonIndexed", "Indexed"))
    if spec.get("completionMode") == "Indexed" and spec.get("completions") is None:
        yield f.required(f"{path}.completions", "when completion mode is Indexed")
    yield from pods.template(_template_of(spec), f"{path}.template")
    policy = (_template_of(spec).get("spec") or {}).get("restartPolicy")
    if policy == "Always":
        yield f.unsupported(f"{path}.template.spec.restartPolicy", policy, ("OnFailure", "Never"))
    yield from _indexes(spec, path)
    for key in ("backoffLimitPerIndex", "podFailurePolicy"):
        if spec.get(key) is not None and policy != "Never":
            why = f'only "Never" is supported when {key} is specified'
            yield f.invalid(f"{path}.template.spec.restartPolicy", policy, why)
    yield from _failure_policy(spec, f"{path}.podFailurePolicy")
    yield from _success_policy(spec, f"{path}.successPolicy")
    replacement = spec.get("podReplacementPolicy")
    allowed = ("Failed",) if spec.get("podFailurePolicy") is not None else ("Failed", "TerminatingOrFailed")
    if replacement is not None and replacement not in allowed:
        yield f.unsupported(f"{path}.podReplacementPolicy", replacement, allowed)
    manager = spec.get("managedBy")
    if manager is not None and not _MANAGER.fullmatch(manager):
        yield f.invalid(f"{path}.managedBy", manager, 'must be a domain-prefixed path (such as "acme.io/foo")')
    elif manager is not None and len(manager) > MAX_MANAGER:
        yield Cause(f"{path}.managedBy", f"Too long: may not be more than {MAX_MANAGER} bytes", "FieldValueTooLong")


def _indexes(spec: Json, path: str) -> Iterator[Cause]:
    """What counts by index needs indexes."""
    per_index, most, completions = (spec.get(k) for k in ("backoffLimitPerIndex", "maxFailedIndexes", "completions"))
    if spec.get("completionMode") != "Indexed":
        for key in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"):
            if spec.get(key) is not None:
                yield f.invalid(f"{path}.{key}", spec[key], "requires indexed completion mode")
        return
    if most is not None and per_index is None:
        yield f.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    if per_index is None or completions is None:
        return
    if most is not None and most > completions:
        yield f.invalid(f"{path}.maxFailedIndexes", most, "must be less than or equal to completions")
    if completions <= MANY_COMPLETIONS:
        return
    when = f"when completions is above {MANY_COMPLETIONS}"
    if most is None:
        yield f.required(f"{path}.maxFailedIndexes", f"must be specified {when}")
    elif most > MANY_FAILURES:
        yield f.invalid(f"{path}.maxFailedIndexes", most, f"must be less than or equal to {MANY_FAILURES} {when}")
    if (spec.get("parallelism") or 0) > MANY_FAILURES:
        why = f"must be less than or equal to {MANY_FAILURES} {when} and used with backoff limit per index"
        yield f.invalid(f"{path}.parallelism", spec["parallelism"], why)


def _failure_policy(spec: Json, path: str) -> Iterator[Cause]:
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or []
    if len(rules) > MAX_RULES:
        yield f.too_many(f"{path}.rules", len(rules), MAX_RULES)
        return
    inner = _template_of(spec).get("spec") or {}
    names = {c.get("name") for key in ("containers", "initContainers") for c in inner.get(key) or ()}
    for i, rule in enumerate(rules):
        where = f"{path}.rules[{i}]"
        yield from f.one_of(f"{where}.action", rule.get("action"), ("Count", "FailIndex", "FailJob", "Ignore"))
        if rule.get("action") == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            yield f.invalid(f"{where}.action", "FailIndex", "requires the backoffLimitPerIndex to be set")
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
        if codes is not None and conditions:
            why = "specifying both OnExitCodes and OnPodConditions is not supported"
            yield f.invalid(where, rule, why)
        elif codes is not None:
            yield from _exit_codes(codes, f"{where}.onExitCodes", names)
        elif conditions:
            yield from _pod_conditions(conditions, f"{where}.onPodConditions")
        else:
            yield f.invalid(where, rule, "specifying one of OnExitCodes and OnPodConditions is required")


def _exit_codes(codes: Json, path: str, names: set[Any]) -> Iterator[Cause]:
    operator, values, name = codes.get("operator"), codes.get("values") or [], codes.get("containerName")
    yield from f.one_of(f"{path}.operator", operator, ("In", "NotIn"))
    if name is not None and name not in names:
        why = "must be one of the container or initContainer names in the pod template"
        yield f.invalid(f"{path}.containerName", name, why)
    if not values:
        yield f.invalid(f"{path}.values", values, "at least one value is required")
    elif len(values) > MAX_VALUES:
        yield f.too_many(f"{path}.values", len(values), MAX_VALUES)
    for i, value in enumerate(values):
        if value == 0 and operator == "In":
            yield f.invalid(f"{path}.values[{i}]", value, "must not be 0 for the In operator")
        if value in values[:i]:
            yield f.duplicate(f"{path}.values[{i}]", value)
    if values != sorted(values):
        yield f.invalid(f"{path}.values", values, "must be ordered")


def _pod_conditions(conditions: list[Json], path: str) -> Iterator[Cause]:
    if len(conditions) > MAX_RULES:
        yield f.too_many(path, len(conditions), MAX_RULES)
    for i, pattern in enumerate(conditions):
        if not pattern.get("type"):
            yield f.required(f"{path}[{i}].type")
        status = pattern.get("status")
        if status is not None:
            yield from f.one_of(f"{path}[{i}].status", status, ("False", "True", "Unknown"))


def _success_policy(spec: Json, path: str) -> Iterator[Cause]:
    policy = spec.get("successPolicy")
    if policy is None or spec.get("completionMode") != "Indexed":
        return
    rules, completions = policy.get("rules") or [], spec.get("completions") or 0
    if not rules:
        yield f.required(f"{path}.rules", "at least one rules must be specified when the successPolicy is specified")
    if len(rules) > MAX_RULES:
        yield f.too_many(f"{path}.rules", len(rules), MAX_RULES)
    for i, rule in enumerate(rules):
        where = f"{path}.rules[{i}]"
        count, indexes = rule.get("succeededCount"), rule.get("succeededIndexes")
        if count is None and indexes is None:
            yield f.required(where, "at least one of succeededCount or succeededIndexes must be specified")
        total = completions
        if indexes is not None:
            if len(indexes) > MAX_INDEXES:
                why = f"Too long: may not be more than {MAX_INDEXES} bytes"
                yield Cause(f"{where}.succeededIndexes", why, "FieldValueTooLong")
                continue
            why, total = _listed(indexes, completions)
            if why:
                yield f.invalid(f"{where}.succeededIndexes", indexes, f"error parsing succeededIndexes: {why}")
                continue
        if count is not None:
            yield from f.non_negative(f"{where}.succeededCount", count)
            if count > completions:
                why = f"must be less than or equal to {completions} (the number of specified completions)"
                yield f.invalid(f"{where}.succeededCount", count, why)
            elif count > total:
                why = f"must be less than or equal to {total} (the number of indexes in the specified succeededIndexes)"
                yield f.invalid(f"{where}.succeededCount", count, why)


def _listed(text: str, completions: int) -> tuple[str, int]:
    """(what is wrong with, how many there are in) a list of indexes such as `0-2,5`."""
    last, total = -1, 0
    for item in text.split(","):
        bounds = item.split("-")
        if len(bounds) > len(("first", "last")) or not all(b.isascii() and b.isdecimal() for b in bounds):
            return f"{f.shown(item)} is not an index and not a range of indexes", 0
        low, high = int(bounds[0]), int(bounds[-1])
        if high >= completions:
            return f'too large index: "{bounds[-1]}"', 0
        if len(bounds) > 1 and low >= high:
            return f"non-increasing order, previous: {low}, current: {high}", 0
        if low <= last:
            return f"non-increasing order, previous: {last}, current: {low}", 0
        last, total = high, total + high - low + 1
    return "", total


def cron_job(obj: Json) -> Iterator[Cause]:
    """A CronJob."""
    spec = obj.get("spec") or {}
    if len(obj["metadata"].get("name") or "") > CRON_JOB_NAME:
        yield f.invalid("metadata.name", obj["metadata"]["name"], f"must be no more than {CRON_JOB_NAME} characters")
    yield from _schedule(spec)
    yield from f.one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), ("Allow", "Forbid", "Replace"))
    for key in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        yield from f.non_negative(f"spec.{key}", spec.get(key))
    job_spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    for key in ("selector", "manualSelector"):
        if job_spec.get(key):
            yield f.invalid(f"spec.jobTemplate.spec.{key}", job_spec[key], f"`{key}` will be auto-generated")
    yield from _job_spec(job_spec, "spec.jobTemplate.spec")


def _schedule(spec: Json) -> Iterator[Cause]:
    text, zone = spec.get("schedule") or "", spec.get("timeZone")
    if not text:
        yield f.required("spec.schedule")
    elif "TZ" in text:
        yield f.invalid(
            "spec.schedule", text, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead to set a time zone"
        )
    else:
        try:
            cron.parse(text)
        except ValueError as error:
            yield f.invalid("spec.schedule", text, str(error))
    if zone == "":
        yield f.invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")
    elif zone is not None:
        try:
            cron.zone_of(zone)
        except ValueError as error:
            yield f.invalid("spec.timeZone", zone, str(error))


def job_update(new: Json, old: Json) -> Iterator[Cause]:
    """Template, selector and completions are fixed; a suspended job that never ran may be scheduled elsewhere."""
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if _without_directives(before, old) != _without_directives(after, old):
        yield f.immutable("spec.template", "the pod template")
    for key in ("selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        if before.get(key) != after.get(key):
            yield f.immutable(f"spec.{key}", after.get(key))
    if before.get("completions") != after.get("completions"):
        elastic = after.get("completionMode") == "Indexed" and after.get("completions") == after.get("parallelism")
        if not elastic:
            yield f.immutable("spec.completions", after.get("completions"))


def _without_directives(spec: Json, old: Json) -> Json:
    template = _template_of(spec)
    never_ran = (old.get("spec") or {}).get("suspend") and not (old.get("status") or {}).get("startTime")
    if not never_ran:
        return template
    inner = {
        k: v
        for k, v in (template.get("spec") or {}).items()
        if k not in ("nodeSelector", "tolerations", "affinity", "schedulingGates")
    }
    return {"spec": inner}

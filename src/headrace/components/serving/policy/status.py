"""Writes what was decided and observed into an InferenceService's status, in upstream's vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api import conditions
from headrace.components.serving.policy.spec import RUNTIME
from headrace.components.serving.types import (
    Address,
    ComponentStatus,
    FailureInfo,
    ModelCopies,
    ModelStates,
    ModelStatus,
)

if TYPE_CHECKING:
    from headrace.api.meta import Time
    from headrace.components.serving.policy.pods import Observation
    from headrace.components.serving.policy.spec import Plan, Refusal
    from headrace.components.serving.types import InferenceService

DOMAIN = "example.com"
"""The ingress domain that upstream has by default."""

_INVALID_SPEC = {"NoSupportingRuntime", "RuntimeNotRecognized", "RuntimeDisabled"}


def refused(isvc: InferenceService, refusal: Refusal, now: Time) -> None:
    """The spec cannot be served; what ran before goes on running."""
    status = isvc.status
    status.observed_generation = isvc.metadata.generation
    status.deployment_mode = "Standard"
    reason = refusal.reason if refusal.reason in _INVALID_SPEC else "InvalidPredictorSpec"
    states = status.model_status.states
    status.model_status.transition_status = "InvalidSpec"
    status.model_status.states = ModelStates(
        active_model_state=states.active_model_state if states else "", target_model_state="FailedToLoad"
    )
    failure = status.model_status.last_failure_info
    if failure is None or (failure.reason, failure.message) != (reason, refusal.message):
        status.model_status.last_failure_info = FailureInfo(reason=reason, message=refusal.message, time=now)
    _condition(isvc, "PredictorReady", False, refusal.reason, refusal.message, now=now)
    _ready(isvc, now)


def stopped(isvc: InferenceService, now: Time) -> None:
    """The workload was taken away because the annotation says so."""
    status = isvc.status
    status.observed_generation = isvc.metadata.generation
    status.deployment_mode = "Standard"
    status.url, status.address, status.components = "", None, {}
    status.model_status = ModelStatus()
    words = "The service is stopped by its annotation serving.kserve.io/stop: remove it to start the service."
    _condition(isvc, "PredictorReady", False, "Stopped", words, now=now)
    _condition(isvc, "IngressReady", False, "Stopped", words, now=now)
    _condition(isvc, "Stopped", True, "Stopped", words, now=now)
    _ready(isvc, now)


def running(isvc: InferenceService, plan: Plan, seen: Observation, now: Time) -> None:
    """The workload exists; say how far it is."""
    name, namespace, status = isvc.metadata.name, isvc.metadata.namespace, isvc.status
    status.observed_generation = isvc.metadata.generation
    status.deployment_mode = "Standard"
    status.cluster_serving_runtime_name = RUNTIME if plan.server is not None else ""
    status.url = f"http://{name}-{namespace}.{DOMAIN}"
    status.address = Address(url=f"http://{name}-predictor.{namespace}.svc.cluster.local")
    url = f"http://{name}-predictor-{namespace}.{DOMAIN}" if seen.available else ""
    status.components = {"predictor": ComponentStatus(url=url)}
    status.conditions = [c for c in status.conditions if c.type != "Stopped"]
    _model(isvc, seen, now)
    _condition(isvc, "IngressReady", True, "", "", now=now)
    _predictor(isvc, plan, seen, now)
    _ready(isvc, now)


def _predictor(isvc: InferenceService, plan: Plan, seen: Observation, now: Time) -> None:
    if seen.failure:
        still = " The model before it still answers." if seen.available else ""
        words = f"{seen.failure.message.rstrip('.')}.{still}"
        _condition(isvc, "PredictorReady", False, seen.failure.reason, words, now=now)
    elif seen.available and not seen.rolling:
        _condition(isvc, "PredictorReady", True, "", "", now=now)
    elif seen.available:
        words = "Pods with the new spec are starting; the model before it still answers."
        _condition(isvc, "PredictorReady", None, "RolloutInProgress", seen.waiting or words, now=now)
    elif not seen.rolling:
        words = seen.waiting or f"None of {plan.replicas} pods is ready."
        _condition(isvc, "PredictorReady", False, "MinimumReplicasUnavailable", words, now=now)
    else:
        words = seen.waiting or ("The model is being loaded." if seen.loading else "Pods are being started.")
        _condition(isvc, "PredictorReady", None, "Progressing", words, now=now)


def _model(isvc: InferenceService, seen: Observation, now: Time) -> None:
    model = isvc.status.model_status
    before = model.states.active_model_state if model.states else ""
    active = "Loaded" if seen.available else ("" if before == "Loaded" else before)
    model.copies = ModelCopies(failed_copies=seen.failed_copies, total_copies=seen.ready_copies)
    if seen.failure:
        target, model.transition_status = "FailedToLoad", "BlockedByFailedLoad"
        info = FailureInfo(
            location=seen.failure.pod,
            reason=seen.failure.reason,
            message=seen.failure.message,
            exit_code=seen.failure.exit_code,
        )
        last = model.last_failure_info
        same = last is not None and (last.message, last.exit_code) == (info.message, info.exit_code)
        info.time = last.time if last is not None and same else now
        model.last_failure_info = info
    elif seen.available and not seen.rolling:
        target, model.transition_status = "Loaded", "UpToDate"
        model.last_failure_info = None
    else:
        target, model.transition_status = ("Loading" if seen.loading else "Pending"), "InProgress"
        if model.last_failure_info is not None and model.last_failure_info.reason != "ModelLoadFailed":
            model.last_failure_info = None
    model.states = ModelStates(active_model_state=active, target_model_state=target)


def _ready(isvc: InferenceService, now: Time) -> None:
    """Ready is the worst of the parts, with its reason and words."""
    parts = [c for c in isvc.status.conditions if c.type in {"PredictorReady", "IngressReady"}]
    worst = next((c for c in parts if c.status == "False"), None) or next(
        (c for c in parts if c.status == "Unknown"), None
    )
    if worst is None:
        _condition(isvc, "Ready", True, "", "", now=now)
    else:
        _condition(isvc, "Ready", False if worst.status == "False" else None, worst.reason, worst.message, now=now)


def _condition(
    isvc: InferenceService, type_: str, status: bool | None, reason: str, message: str, *, now: Time
) -> None:
    conditions.upsert(isvc.status.conditions, type_, status, reason=reason, message=message, now=now)

"""The REST dialect of Kubeflow Pipelines v2beta1: request bodies, filters, error codes.

As upstream's gateway does: field names are accepted in snake_case and camelCase, unknown fields are errors, and every
error is a `google.rpc.Status` (https://github.com/kubeflow/pipelines, backend/api/v2beta1).
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import unquote_plus

import msgspec

from headrace.api import _wire

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


class Code(enum.IntEnum):
    """google.rpc.Code."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16

    @property
    def http(self) -> int:
        """The HTTP status that grpc-gateway gives it."""
        return _HTTP[self]


_HTTP = {
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}


class RpcError(Exception):
    """An error in the API's own words."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message

    def to_body(self) -> dict[str, Any]:
        """`google.rpc.Status` as upstream's gateway writes it, with the older `error` beside it."""
        inner = {"@type": "type.googleapis.com/google.rpc.Status", "code": int(self.code), "message": self.message}
        return {"error": self.message, "code": int(self.code), "message": self.message, "details": [inner]}


def invalid(message: str) -> RpcError:
    """The request is wrong."""
    return RpcError(Code.INVALID_ARGUMENT, message)


def not_found(what: str, ident: str) -> RpcError:
    """There is no such thing."""
    return RpcError(Code.NOT_FOUND, f"{what} {ident} not found.")


def unimplemented(what: str) -> RpcError:
    """A part of the API that this release refuses."""
    return RpcError(Code.UNIMPLEMENTED, f"{what} not available in this release of Headrace.")


def no_plugins(given: Mapping[str, Any]) -> RpcError:
    """Upstream's one plugin mirrors runs to an MLflow server that its operator has."""
    named = ", ".join(sorted(given))
    return RpcError(
        Code.UNIMPLEMENTED,
        f"Run plugins ({named}) are not available: this platform has no MLflow server to mirror runs to; leave "
        "plugins_input out, and log from your steps to a server of yours.",
    )


class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of request bodies. Output fields are declared as `Any`: clients send back what they were given."""


class ExperimentBody(Body):
    """v2beta1 Experiment."""

    display_name: str | None = None
    description: str | None = None
    namespace: str | None = None
    experiment_id: Any = None
    created_at: Any = None
    last_run_created_at: Any = None
    storage_state: Any = None


class PipelineBody(Body):
    """v2beta1 Pipeline."""

    name: str | None = None
    display_name: str | None = None
    description: str | None = None
    namespace: str | None = None
    tags: dict[str, str] | None = None
    pipeline_id: Any = None
    created_at: Any = None
    error: Any = None


class PipelineVersionBody(Body):
    """v2beta1 PipelineVersion, as far as it can be changed."""

    name: str | None = None
    display_name: str | None = None
    description: str | None = None
    tags: dict[str, str] | None = None
    pipeline_id: Any = None
    pipeline_version_id: Any = None
    created_at: Any = None
    package_url: Any = None
    code_source_url: Any = None
    pipeline_spec: Any = None
    error: Any = None


class RuntimeConfigBody(Body):
    """v2beta1 RuntimeConfig."""

    parameters: dict[str, Any] | None = None
    pipeline_root: str | None = None


class VersionReferenceBody(Body):
    """v2beta1 PipelineVersionReference; without a version, the latest is meant."""

    pipeline_id: str | None = None
    pipeline_version_id: str | None = None


class RunBody(Body):
    """v2beta1 Run."""

    experiment_id: str | None = None
    display_name: str | None = None
    description: str | None = None
    pipeline_version_id: str | None = None
    pipeline_spec: dict[str, Any] | None = None
    pipeline_version_reference: VersionReferenceBody | None = None
    runtime_config: RuntimeConfigBody | None = None
    service_account: str | None = None
    recurring_run_id: str | None = None
    plugins_input: dict[str, Any] | None = None
    plugins_output: dict[str, Any] | None = None
    run_id: Any = None
    storage_state: Any = None
    created_at: Any = None
    scheduled_at: Any = None
    finished_at: Any = None
    state: Any = None
    state_history: Any = None
    error: Any = None
    run_details: Any = None


class CronBody(Body):
    """v2beta1 CronSchedule."""

    cron: str | None = None
    start_time: dt.datetime | None = None
    end_time: dt.datetime | None = None

    def __post_init__(self) -> None:
        """A moment without a zone is UTC."""
        self.start_time, self.end_time = _aware(self.start_time), _aware(self.end_time)


class PeriodicBody(Body):
    """v2beta1 PeriodicSchedule."""

    interval_second: int | str | None = None
    start_time: dt.datetime | None = None
    end_time: dt.datetime | None = None

    def __post_init__(self) -> None:
        """A moment without a zone is UTC."""
        self.start_time, self.end_time = _aware(self.start_time), _aware(self.end_time)


class TriggerBody(Body):
    """v2beta1 Trigger."""

    cron_schedule: CronBody | None = None
    periodic_schedule: PeriodicBody | None = None


class RecurringRunBody(Body):
    """v2beta1 RecurringRun."""

    experiment_id: str | None = None
    display_name: str | None = None
    description: str | None = None
    pipeline_version_id: str | None = None
    pipeline_spec: dict[str, Any] | None = None
    pipeline_version_reference: VersionReferenceBody | None = None
    runtime_config: RuntimeConfigBody | None = None
    service_account: str | None = None
    max_concurrency: int | str | None = None
    trigger: TriggerBody | None = None
    mode: int | str | None = None
    no_catchup: bool | None = None
    plugins_input: dict[str, Any] | None = None
    recurring_run_id: Any = None
    namespace: Any = None
    created_at: Any = None
    updated_at: Any = None
    status: Any = None
    error: Any = None


class ArtifactBody(Body):
    """An artifact of the native model."""

    name: str | None = None
    description: str | None = None
    type: str | None = None
    uri: str | None = None
    metadata: dict[str, Any] | None = None
    number_value: float | None = None
    namespace: str | None = None
    artifact_id: Any = None
    created_at: Any = None


class NewArtifactBody(Body):
    """CreateArtifactRequest."""

    artifact: ArtifactBody | None = None
    run_id: str | None = None
    task_id: str | None = None
    type: Any = None
    producer_task_name: Any = None
    producer_key: Any = None


class UrlBody(Body):
    """Where a package is."""

    pipeline_url: str | None = None


class NewVersionBody(Body):
    """v2beta1 PipelineVersion, of a package."""

    name: str | None = None
    display_name: str | None = None
    description: str | None = None
    tags: dict[str, str] | None = None
    package_url: UrlBody | None = None
    code_source_url: str | None = None
    pipeline_id: Any = None
    pipeline_version_id: Any = None
    created_at: Any = None
    pipeline_spec: Any = None
    error: Any = None


class NewPipelineBody(Body):
    """CreatePipelineAndVersionRequest."""

    pipeline: PipelineBody | None = None
    pipeline_version: NewVersionBody | None = None


class ReportedArtifact(Body):
    """An artifact that a step wrote."""

    output: str
    uri: str
    name: str = ""
    type: str = ""
    schema_version: str = ""
    metadata: dict[str, Any] = {}


class ReportedOutputs(Body):
    """What a step put out."""

    parameters: dict[str, Any] = {}
    artifacts: list[ReportedArtifact] = []


class ReportedError(Body):
    """Why a step failed."""

    message: str
    code: int = 0


class ReportedUse(Body):
    """What an attempt has cost."""

    cpu_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e12)] = 0.0
    peak_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 60)] = 0


class ReportBody(Body):
    """What the launcher says at the end of a task's attempt."""

    attempt: int
    state: str
    exit_code: int | None = None
    error: ReportedError | str | None = None
    outputs: ReportedOutputs = msgspec.field(default_factory=ReportedOutputs)
    used: ReportedUse | None = None
    started_at: Annotated[float, msgspec.Meta(ge=0, le=1 << 36)] | None = None
    """When the attempt's program began, in seconds since the epoch."""


_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_NESTED = {
    "runtime_config",
    "pipeline_version_reference",
    "trigger",
    "cron_schedule",
    "periodic_schedule",
    "artifact",
    "pipeline",
    "pipeline_version",
    "package_url",
    "url",
}
"""Fields with messages of this dialect inside; what is in others belongs to clients (specs, parameters)."""


def snake(name: str) -> str:
    """`pipelineSpec` as `pipeline_spec`."""
    return _CAMEL.sub(lambda found: f"_{found[1].lower()}", name)


def decode_body(kind: type[T], raw: bytes) -> T:
    """A request body. Raises RpcError with what is wrong and where."""
    try:
        value = _wire.decode_any(raw)
    except _wire.DecodeError as error:
        raise invalid(f"The request body is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise invalid("The request body must be a JSON object.")
    try:
        return _wire.convert(kind, _snake_keys(value))
    except _wire.ValidationError as error:
        raise invalid(f"The request body is invalid: {error}.") from error


def _snake_keys(value: dict[str, Any]) -> dict[str, Any]:
    # An explicit null means "not set" in protobuf's JSON.
    result = {snake(key): item for key, item in value.items() if item is not None}
    for key in _NESTED & result.keys():
        if isinstance(result[key], dict):
            result[key] = _snake_keys(result[key])
    return result


class _Ints(Body):
    values: list[int | str]


class _Strings(Body):
    values: list[str]


class _PredicateBody(Body):
    operation: int | str | None = None
    key: str = ""
    int_value: int | None = None
    long_value: int | str | None = None
    string_value: str | None = None
    timestamp_value: dt.datetime | None = None
    int_values: _Ints | None = None
    long_values: _Ints | None = None
    string_values: _Strings | None = None


class _FilterBody(Body):
    predicates: list[_PredicateBody] = []


OPERATIONS = {
    1: "EQUALS",
    2: "NOT_EQUALS",
    3: "GREATER_THAN",
    5: "GREATER_THAN_EQUALS",
    6: "LESS_THAN",
    7: "LESS_THAN_EQUALS",
    8: "IN",
    9: "IS_SUBSTRING",
}
"""Predicate.Operation by number (filter.proto)."""


def decode_filter(text: str) -> list[tuple[str, str, Any]]:
    """A filter's predicates as (key, operation, value). Raises RpcError.

    `kfp.Client` sends operations as numbers, `PipelinesClient` as names; some callers encode the JSON twice.
    """
    if not text:
        return []
    try:
        value = _wire.decode_any(text if text.lstrip().startswith("{") else unquote_plus(text))
        if not isinstance(value, dict):
            raise invalid("The filter must be a JSON object with predicates.")
        predicates = value.get("predicates") or []
        if not isinstance(predicates, list) or not all(isinstance(p, dict) for p in predicates):
            raise invalid("The filter's predicates must be a list of objects.")
        shaped = {**value, "predicates": [_v2(_snake_keys(p)) for p in predicates]}
        parsed = _wire.convert(_FilterBody, shaped)
    except _wire.DecodeError as error:
        raise invalid(f"The filter does not parse: {error}.") from error
    return [_predicate(p) for p in parsed.predicates]


def _v2(predicate: dict[str, Any]) -> dict[str, Any]:
    """A predicate of v1beta1, which calls its operation `op`."""
    if "op" not in predicate:
        return predicate
    return {"operation" if key == "op" else key: value for key, value in predicate.items()}


def _predicate(body: _PredicateBody) -> tuple[str, str, Any]:
    operation = OPERATIONS.get(body.operation) if isinstance(body.operation, int) else body.operation
    if operation is None or operation not in OPERATIONS.values():
        raise invalid(f"{body.operation!r} is not a filter operation; use one of {', '.join(OPERATIONS.values())}.")
    if not body.key:
        raise invalid("A filter predicate needs a key.")
    given = [
        value
        for value in (
            body.int_value,
            _integer(body.long_value),
            body.string_value,
            body.timestamp_value,
            [_integer(v) for v in body.int_values.values] if body.int_values else None,
            [_integer(v) for v in body.long_values.values] if body.long_values else None,
            body.string_values.values if body.string_values else None,
        )
        if value is not None
    ]
    if len(given) != 1:
        raise invalid(f"The predicate on {body.key!r} needs exactly one value, it has {len(given)}.")
    value = given[0]
    return body.key, operation, _aware(value) if isinstance(value, dt.datetime) else value


def _aware(moment: dt.datetime | None) -> dt.datetime | None:
    """In UTC, which is also what a moment without a zone means."""
    if moment is None or moment.tzinfo is None:
        return moment.replace(tzinfo=dt.UTC) if moment else None
    return moment.astimezone(dt.UTC)


def _integer(value: int | str | None) -> int | None:
    try:
        return None if value is None else int(value)
    except ValueError as error:
        raise invalid(f"{value!r} in a filter is not an integer.") from error

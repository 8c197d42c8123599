"""What a whole pipeline asks of the platform (dsl.PipelineConfig): workspace, time to live, deadline.

A time to live is about the run's objects (pods, workspace), as Argo's ttlStrategy is about the Workflow that owns them;
the run's record, its artifacts and its logs stay.
Source: backend/src/v2/compiler/argocompiler/argo.go (buildTTLStrategy, GetWorkspacePVC).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.api import _wire, quantity
from headrace.api.core import PersistentVolumeClaimSpec
from headrace.components.pipelines.policy.deadline import FIELD, deadline_seconds
from headrace.components.pipelines.store.models import RuntimeState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.components.pipelines.types.ir import PipelineSpec

_COMPLETION, _SUCCESS, _FAILURE = "resourceTtlOnCompletion", "resourceTtlOnSuccess", "resourceTtlOnFailure"
_FIRST_TTL = "resourceTtl"
"""What SDK 2.14 calls the time to live after completion."""
_WORKSPACE = "workspace"
_KNOWN = frozenset({FIELD, _COMPLETION, _SUCCESS, _FAILURE, _FIRST_TTL, _WORKSPACE})
_PATCHABLE = frozenset({"accessModes", "storageClassName", "resources", "volumeMode", "volumeName", "selector"})
DEFAULT_ACCESS_MODES = ("ReadWriteMany",)
"""Of a workspace that names none: its volume is a folder of the machine on which every step runs."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The volume that all steps of a run share."""

    claim: PersistentVolumeClaimSpec


@dataclass(frozen=True, slots=True)
class Configuration:
    """A pipeline's configuration."""

    workspace: Workspace | None = None
    keep_succeeded: int = 0
    """Seconds for which the objects of a run that succeeded stay; 0 means as long as any others."""
    keep_failed: int = 0
    unknown: tuple[str, ...] = field(default=())
    """Settings that are not honoured here: a pipeline that has one does not run."""

    def keep_seconds(self, state: RuntimeState) -> int:
        """For how long the objects of a run that ended like this stay; 0 means as long as any others."""
        return self.keep_succeeded if state is RuntimeState.SUCCEEDED else self.keep_failed


def configuration(spec: PipelineSpec) -> Configuration:
    """The checked configuration. Raises ValueError with what is wrong."""
    given = spec.pipeline_config
    deadline_seconds(spec)
    completion = max(_seconds(given, _COMPLETION), _seconds(given, _FIRST_TTL))
    return Configuration(
        workspace=_workspace(given[_WORKSPACE]) if given.get(_WORKSPACE) is not None else None,
        keep_succeeded=_seconds(given, _SUCCESS) or completion,
        keep_failed=_seconds(given, _FAILURE) or completion,
        unknown=tuple(sorted(given.keys() - _KNOWN)),
    )


def _seconds(given: Mapping[str, Any], name: str) -> int:
    value = given.get(name) or 0
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or abs(value) >= 1 << 31:
        raise ValueError(f"{name} must be a whole number of seconds, got {value!r}")
    return max(int(value), 0)


def _workspace(given: Any) -> Workspace:
    if not isinstance(given, dict) or not isinstance(size := given.get("size"), str) or not size:
        raise ValueError("workspace must have a size, such as 1Gi")
    try:
        amount = quantity.parse(size)
    except ValueError as error:
        raise ValueError(f"workspace.size {size!r} is no quantity of storage, such as 1Gi") from error
    if amount <= 0:
        raise ValueError(f"workspace.size {size!r} must be more than nothing")
    kubernetes = given.get("kubernetes") or {}
    patch = kubernetes.get("pvcSpecPatch") or {} if isinstance(kubernetes, dict) else None
    if not isinstance(patch, dict):
        problem = "workspace.kubernetes.pvcSpecPatch must be a mapping of fields of a claim's spec"
        raise ValueError(problem)  # noqa: TRY004 - the document is wrong, not a caller's type
    strange = sorted(patch.keys() - _PATCHABLE)
    if strange:
        raise ValueError(f"workspace.kubernetes.pvcSpecPatch has {', '.join(strange)}, which cannot be honoured here")
    if patch.get("storageClassName") == "":
        raise ValueError("workspace.kubernetes.pvcSpecPatch.storageClassName must be left out or not empty")
    claim = {"accessModes": list(DEFAULT_ACCESS_MODES), **patch}
    try:
        found = _wire.convert(PersistentVolumeClaimSpec, claim)
    except _wire.DecodeError as error:
        raise ValueError(f"workspace.kubernetes.pvcSpecPatch does not parse: {error}") from error
    found.resources.requests = {**found.resources.requests, "storage": size}
    return Workspace(found)

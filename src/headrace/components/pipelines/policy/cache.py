"""The cache key of a task: equal keys mean that an earlier task's outputs may stand for this one's.

The key is upstream's, bit for bit (backend/src/v2/cacheutils/cache.go, driver/cache.go): SHA-256 of the JSON of a
CacheKey message. Environment variables and resources are not in it; image, unresolved command line, inputs, the
declared outputs and the names of mounted claims are.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from headrace.components.pipelines.policy.values import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.components.pipelines.types.ir import ArtifactType, ComponentSpec, ContainerSpec

_GO_ESCAPES = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)


def custom_key(component: str, key: str) -> str:
    """The cache key of a task for which the author chose a key."""
    return hashlib.sha256(component.encode() + b"\0" + key.encode()).hexdigest()


def fingerprint(
    component: ComponentSpec,
    container: ContainerSpec,
    parameters: Mapping[str, Any],
    artifacts: Mapping[str, Sequence[str]],
    claims: Iterable[str] = (),
) -> str:
    """The cache key of a task with these input parameters, names of input artifacts, and mounted claims."""
    outputs = component.output_definitions
    return digest(
        {
            "inputArtifactNames": {name: _present(artifactNames=list(ids)) for name, ids in artifacts.items()},
            "inputParameterValues": dict(parameters),
            "outputArtifactsSpec": {
                name: _present(name=name, type=_type(spec.artifact_type))
                | ({"metadata": spec.metadata} if spec.metadata else {})
                for name, spec in outputs.artifacts.items()
            },
            "outputParametersSpec": {name: spec.parameter_type for name, spec in outputs.parameters.items()},
            "containerSpec": _present(
                image=container.image,
                cmdArgs=[*container.command, *container.args],
                pvcNames=sorted(set(claims)),
            ),
        }
    )


def digest(cache_key: Mapping[str, Any]) -> str:
    """SHA-256 over a CacheKey in the form that Go's encoding/json gives it."""
    present = {name: value for name, value in cache_key.items() if value}
    text = json.dumps(canonical(present), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.translate(_GO_ESCAPES).encode()).hexdigest()


def _type(kind: ArtifactType) -> dict[str, Any]:
    return _present(
        instanceSchema=kind.instance_schema, schemaTitle=kind.schema_title, schemaVersion=kind.schema_version
    )


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}

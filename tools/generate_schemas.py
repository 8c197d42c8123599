"""Extracts the schemas of the kinds that the API server knows from the official ones.

    pip install kubernetes-validate   # ships the definitions of every Kubernetes release
    python tools/generate_schemas.py [folder that holds kubernetes_validate]

Writes src/headrace/apiserver/schema/builtin.json.gz. The published definitions were made nullable for validation
by others; that is undone here, so that the file holds what a real API server publishes.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

VERSION = "1.32.0"
TARGET = Path(__file__).parent.parent / "src/headrace/apiserver/schema/builtin.json.gz"
GROUP_VERSIONS = {
    "api.core.v1",
    "api.apps.v1",
    "api.batch.v1",
    "api.rbac.v1",
    "api.storage.v1",
    "api.networking.v1",
    "api.policy.v1",
    "api.scheduling.v1",
    "api.coordination.v1",
    "api.discovery.v1",
    "api.events.v1",
    "api.node.v1",
    "api.autoscaling.v1",
    "api.autoscaling.v2",
    "api.admissionregistration.v1",
    "api.authentication.v1",
    "api.authorization.v1",
    "apiextensions-apiserver.pkg.apis.apiextensions.v1",
    "kube-aggregator.pkg.apis.apiregistration.v1",
}
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
EXTRA = [
    META + kind for kind in ("Status", "DeleteOptions", "WatchEvent", "APIResourceList", "APIGroup", "APIGroupList")
]
OVERRIDES: dict[str, dict[str, Any]] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string"},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": "string", "format": "int-or-string"},
}


def clean(schema: Any, *, properties: bool = False) -> Any:
    """A definition without null types and with references as Swagger writes them."""
    if isinstance(schema, list):
        return [clean(item) for item in schema]
    if not isinstance(schema, dict):
        return schema.replace("#/$defs/", "#/definitions/") if isinstance(schema, str) else schema
    if properties:
        return {name: clean(value) for name, value in schema.items()}
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "type" and isinstance(value, list):
            types = [t for t in value if t != "null"]
            out[key] = types[0] if len(types) == 1 else types
        elif key == "description":
            out[key] = value
        else:
            out[key] = clean(value, properties=key == "properties")
    return out


def references(schema: Any) -> set[str]:
    """Names of the definitions that a definition uses."""
    return set(re.findall(r'"#/definitions/([^"]+)"', json.dumps(schema)))


def main() -> None:
    """Read, select, clean, write."""
    if len(sys.argv) > 1:
        sys.path.insert(0, sys.argv[1])
    import kubernetes_validate  # type: ignore[import-not-found]

    source = Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/v{VERSION}-local/_definitions.json"
    everything = json.loads(source.read_text())["$defs"]
    definitions: dict[str, Any] = {}
    pending = list(EXTRA)
    for name, schema in everything.items():
        package = name.removeprefix("io.k8s.").rpartition(".")[0]
        if package in GROUP_VERSIONS and "x-kubernetes-group-version-kind" in schema:
            pending.append(name)
    while pending:
        name = pending.pop()
        if name in definitions:
            continue
        schema = clean(everything[name])
        if name in OVERRIDES:
            schema = {"description": schema.get("description", ""), **OVERRIDES[name]}
        for key in ("apiVersion", "kind"):
            schema.get("properties", {}).get(key, {}).pop("enum", None)
        definitions[name] = schema
        pending += references(schema)
    body = json.dumps(dict(sorted(definitions.items())), separators=(",", ":"), sort_keys=True).encode()
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(gzip.compress(body, 9, mtime=0))
    print(f"{TARGET.name}: {len(definitions)} definitions, {len(body)} bytes, {TARGET.stat().st_size} compressed")


if __name__ == "__main__":
    main()

"""Extracts what protobuf bodies of built-in kinds mean: field number to JSON name and type.

    python tools/generate_protobuf.py API APIMACHINERY

The arguments are checkouts of kubernetes/api and kubernetes/apimachinery at the release named below. Their Go types
say everything in struct tags: field number, JSON name, whether it is inline, whether zero is omitted. Writes
src/headrace/apiserver/http/protobuf_fields.json.gz: message -> {number: [name, type, flags]}.

Flags: `*` repeated, `%` map from string, `i` inline, `z` a zero value is sent on purpose and kept.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path

VERSION = "v0.32.4"
TARGET = Path(__file__).parent.parent / "src/headrace/apiserver/http/protobuf_fields.json.gz"
GROUPS = (
    "admissionregistration",
    "core",
    "apps",
    "batch",
    "rbac",
    "storage",
    "networking",
    "policy",
    "scheduling",
    "coordination",
    "discovery",
    "events",
    "autoscaling",
    "authentication",
    "authorization",
)
SPECIAL = {
    "meta.v1.Time": "time",
    "meta.v1.MicroTime": "time",
    "meta.v1.Duration": "duration",
    "meta.v1.FieldsV1": "raw",
    "meta.v1.Verbs": "strings",
    "runtime.RawExtension": "raw",
    "resource.Quantity": "quantity",
    "intstr.IntOrString": "intstr",
    "authentication.v1.ExtraValue": "strings",
    "authorization.v1.ExtraValue": "strings",
    "types.UID": "string",
    "types.NodeName": "string",
}
SCALARS = {
    "string": "string",
    "bool": "bool",
    "int32": "int",
    "int64": "int",
    "int": "int",
    "uint8": "int",
    "byte": "int",
    "float64": "double",
}
STRUCT = re.compile(r"^type (\w+) struct \{$(.*?)^\}$", re.MULTILINE | re.DOTALL)
ALIAS = re.compile(r"^type (\w+) (?!struct|interface|func)(\S+)$", re.MULTILINE)
FIELD = re.compile(r"^\s+(?:(\w+)\s+)?([\w.\[\]*]+)\s+`(.*)`", re.MULTILINE)
TAG = re.compile(r'(\w+):"([^"]*)"')
IMPORT = re.compile(r'^\s+(?:(\w+) )?"k8s\.io/(?:api|apimachinery/pkg/apis)/(\w+)/v1"$', re.MULTILINE)


class Extractor:
    """Collects messages over all packages, following references between them."""

    def __init__(self) -> None:
        self.structs: dict[str, list[tuple[str, str]]] = {}
        self.aliases: dict[str, str] = {}
        self.imports: dict[tuple[str, str], str] = {}

    def read(self, package: str, folder: Path) -> None:
        """All types of one Go package."""
        for path in sorted(folder.glob("*.go")):
            if path.name.startswith("zz_") or path.name.endswith("_test.go") or "generated" in path.name:
                continue
            text = re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.MULTILINE)
            for name, imported in IMPORT.findall(text):
                self.imports[package, name or "v1"] = f"{imported}.v1"
            for name, body in STRUCT.findall(text):
                self.structs[f"{package}.{name}"] = [(m[1], m[2]) for m in FIELD.findall(body)]
            for name, target in ALIAS.findall(text):
                self.aliases[f"{package}.{name}"] = target

    def resolve(self, go: str, package: str) -> tuple[str, str, bool]:
        """(type, flags, pointer) of a Go type."""
        if go.startswith("*"):
            kind, flags, _ = self.resolve(go[1:], package)
            return kind, flags, True
        if go == "[]byte":
            return "bytes", "", False
        if go.startswith("[]"):
            kind, _, _ = self.resolve(go[2:], package)
            return kind, "*", False
        if match := re.fullmatch(r"map\[[\w.]+\](.+)", go):
            kind, _, _ = self.resolve(match[1], package)
            return kind, "%", False
        if go in SCALARS:
            return SCALARS[go], "", False
        full = go if "." in go else f"{package}.{go}"
        prefix, _, name = full.rpartition(".")
        full = f"{self.imports.get((package, prefix), prefix)}.{name}"
        if full in SPECIAL:
            return SPECIAL[full], "", False
        if full in self.aliases:
            return self.resolve(self.aliases[full], full.rpartition(".")[0])
        return full, "", False

    def message(self, name: str) -> dict[str, list[str]]:
        """The fields of one message by number."""
        package = name.rpartition(".")[0]
        fields: dict[str, list[str]] = {}
        for go, tags in self.structs[name]:
            found = dict(TAG.findall(tags))
            if "protobuf" not in found or found["protobuf"] == "-":
                continue
            parts = found["protobuf"].split(",")
            json_name, *options = found["json"].split(",")
            kind, flags, pointer = self.resolve(go, package)
            if "inline" in options:
                flags += "i"
            if pointer or "omitempty" not in options:
                flags += "z"
            fields[parts[1]] = [json_name, kind, flags]
        return fields


def main() -> None:
    """Read, follow, write."""
    api, machinery = Path(sys.argv[1]), Path(sys.argv[2])
    extractor = Extractor()
    extractor.read("meta.v1", machinery / "pkg/apis/meta/v1")
    for group in GROUPS:
        extractor.read(f"{group}.v1", api / group / "v1")
    pending = [f"{g}.v1.{n.rpartition('.')[2]}" for g in GROUPS for n in extractor.structs if n.startswith(f"{g}.v1.")]
    pending = [n for n in pending if not n.endswith("List")] + ["meta.v1.DeleteOptions"]
    messages: dict[str, dict[str, list[str]]] = {}
    while pending:
        name = pending.pop()
        if name in messages:
            continue
        messages[name] = extractor.message(name)
        pending += [kind for _, kind, _ in messages[name].values() if "." in kind]
    messages = {name: fields for name, fields in sorted(messages.items()) if fields}
    body = json.dumps(messages, separators=(",", ":"), sort_keys=True).encode()
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(gzip.compress(body, 9, mtime=0))
    print(f"{TARGET.name}: {len(messages)} messages, {len(body)} bytes, {TARGET.stat().st_size} compressed")


if __name__ == "__main__":
    main()

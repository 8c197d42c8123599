"""Pipeline packages: YAML or JSON, bare or in a zip or tar.gz archive, with a platform spec as further documents."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

from headrace.components.pipelines.store.models import Spec
from headrace.components.pipelines.types.rest import invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.components.pipelines.types.ir import PipelineSpec

MAX_PACKAGE = 32 << 20
_MAX_NODES = 1_000_000
"""YAML aliases can name one value a million times; what they stand for is bounded too."""


def read_package(raw: bytes) -> tuple[Spec, PipelineSpec]:
    """The pipeline in a package, as it was sent and parsed. Raises RpcError (INVALID_ARGUMENT)."""
    if raw[:2] == b"PK":
        raw = _from_zip(raw)
    elif raw[:2] == b"\x1f\x8b":
        raw = _from_tar(raw)
    if len(raw) > MAX_PACKAGE:
        raise _too_large()
    spec = split(_load(raw))
    return spec, parse(spec)


def split(document: dict[str, Any]) -> Spec:
    """A document, bare or as `{pipeline_spec, platform_spec}`, as its two parts."""
    inner = document.get("pipeline_spec", document.get("pipelineSpec"))
    if not isinstance(inner, dict):
        return Spec(document)
    platform = document.get("platform_spec", document.get("platformSpec"))
    if platform is not None and not isinstance(platform, dict):
        raise invalid("The platform_spec must be an object.")
    return Spec(inner, platform or None)


def parse(spec: Spec) -> PipelineSpec:
    """The pipeline as the engine reads it. Raises RpcError (INVALID_ARGUMENT) with what is wrong."""
    from headrace.components.pipelines.types.ir import SpecError, parse_pipeline_spec  # noqa: PLC0415 - when needed

    try:
        return parse_pipeline_spec(spec.document)
    except SpecError as error:
        raise invalid(f"The pipeline does not parse: {error}") from error


def _load(raw: bytes) -> dict[str, Any]:
    from headrace.api import _yaml  # noqa: PLC0415 - only uploads need it

    try:
        documents = [document for document in _yaml.documents(raw) if document is not None]
    except (_yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        place = f" at line {where.line + 1}, column {where.column + 1}" if where else ""
        why = " ".join(str(getattr(error, "problem", None) or error).split())
        raise invalid(f"The pipeline is not valid YAML{place}: {why}.") from error
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise invalid("The package does not contain a pipeline: expected a YAML mapping with pipelineInfo and root.")
    _check_plain(documents)
    first, *more = documents
    if not more:
        return dict(first)
    platform: dict[str, Any] = {}
    for document in more:
        platform.update(document)
    return {"pipeline_spec": first, "platform_spec": platform}


def _check_plain(documents: list[Any]) -> None:
    """Only what JSON has, and not without bound."""
    left, stack = _MAX_NODES, list(documents)
    while stack:
        left -= 1
        if left < 0:
            raise invalid("The pipeline is too large once its YAML aliases are resolved.")
        value = stack.pop()
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise invalid("The pipeline has a key that is not a string; quote it.")
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
        elif value is not None and not isinstance(value, (str, int, float)):
            raise invalid(f"The pipeline holds a {type(value).__name__}, which JSON does not have.")


def _from_zip(raw: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            name = _choose(info.filename for info in archive.infolist() if not info.is_dir())
            with archive.open(name) as member:
                return _bounded(member.read(MAX_PACKAGE + 1))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise invalid(f"The zip archive cannot be read: {error}.") from error


def _from_tar(raw: bytes) -> bytes:
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as archive:
            name = _choose(member.name for member in archive if member.isfile())
            member = archive.extractfile(name)
            if member is None:
                raise invalid(f"{name} in the archive is not a file.")
            return _bounded(member.read(MAX_PACKAGE + 1))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise invalid(f"The tar.gz archive cannot be read: {error}.") from error


def _choose(names: Iterable[str]) -> str:
    found = [name for name in names if name.endswith((".yaml", ".yml"))]
    if "pipeline.yaml" in found:
        return "pipeline.yaml"
    if len(found) != 1:
        raise invalid("The archive must contain a file pipeline.yaml, or exactly one YAML file.")
    return found[0]


def _bounded(raw: bytes) -> bytes:
    if len(raw) > MAX_PACKAGE:
        raise _too_large()
    return raw


def _too_large() -> Exception:
    return invalid(f"The pipeline is larger than {MAX_PACKAGE >> 20} MiB; move embedded data into an object store.")

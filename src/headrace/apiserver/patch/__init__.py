"""Patches of JSON documents: merge (RFC 7386), JSON (RFC 6902) and strategic merge. All are pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api.errors import BadRequest, UnsupportedMediaType
from headrace.apiserver.patch.json_patch import apply_json
from headrace.apiserver.patch.merge import merge
from headrace.apiserver.patch.strategic import merge_strategic
from headrace.client.base import PatchType

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.apiserver.schema.document import Node

Json = dict[str, Any]


def bind(patch_type: PatchType, patch: Any, node: Node | None) -> Callable[[Json], Json]:
    """What turns a document into the patched one. Raises BadRequest, UnsupportedMediaType.

    `node` describes the types of a built-in kind; custom kinds have none and take no strategic merge patch.
    """
    match patch_type:
        case PatchType.JSON:
            if not isinstance(patch, list):
                raise BadRequest("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
            return lambda document: apply_json(document, patch)
        case PatchType.APPLY:
            raise UnsupportedMediaType("server-side apply is no patch of a document: it is a verb of its own here")
        case PatchType.STRATEGIC if node is None:
            raise UnsupportedMediaType(
                "the body of the request was in an unknown format - accepted media types include: "
                "application/json-patch+json, application/merge-patch+json"
            )
        case _:
            if not isinstance(patch, dict):
                raise BadRequest("a merge patch must be a JSON object")
            if patch_type is PatchType.STRATEGIC:
                return lambda document: merge_strategic(document, patch, node)
            return lambda document: merge(document, patch)


__all__ = ["apply_json", "bind", "merge", "merge_strategic"]

"""OpenAPI documents out of the schema catalog: v3 by group-version with a hash, v2 as a whole.

Enough for what clients do with them: `kubectl explain`, validation, and finding out which parameters and patch
types a kind takes. Documents are made when asked for and kept, compressed by nobody, until the kinds change.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from headrace.api import _wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.api.meta import KindInfo
    from headrace.apiserver.registry import KindCatalog
    from headrace.apiserver.registry.apiservices import ApiServices
    from headrace.apiserver.schema import SchemaCatalog

Json = dict[str, Any]

V2_REFERENCE = "#/definitions/"
V3_REFERENCE = "#/components/schemas/"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
STRATEGIC = "application/strategic-merge-patch+json"
PATCHES = ("application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json")
WRITE_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")
LIST_PARAMETERS = (
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "watch",
    "allowWatchBookmarks",
    "sendInitialEvents",
    "timeoutSeconds",
)
V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
V2_PROTOBUF_SENT = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""What is asked for has a character that a content type must not have; the answer is named without it."""
INTEGERS = frozenset({"limit", "timeoutSeconds", "gracePeriodSeconds"})
BOOLEANS = frozenset({"watch", "allowWatchBookmarks", "sendInitialEvents"})
DELETE_PARAMETERS = ("dryRun", "gracePeriodSeconds", "propagationPolicy")


class OpenAPI:
    """The documents."""

    def __init__(self, kinds: KindCatalog, schemas: SchemaCatalog, services: ApiServices, version: str) -> None:
        self._kinds, self._schemas, self._services, self._version = kinds, schemas, services, version
        self._documents: dict[str, bytes] = {}
        kinds.on_change(self._documents.clear)
        services.on_change(self._documents.clear)

    def index(self) -> bytes:
        """/openapi/v3."""
        if "" not in self._documents:
            paths = {
                path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._hash(infos)}"}
                for path, infos in self._by_path().items()
            }
            for group, version in self._services.remote:
                offer = self._services.offers.get((group, version))
                paths.pop(f"apis/{group}/{version}", None)
                if offer is not None and offer.openapi:
                    paths[f"apis/{group}/{version}"] = {"serverRelativeURL": offer.openapi}
            self._documents[""] = _wire.encode({"paths": paths})
        return self._documents[""]

    def v3(self, path: str) -> bytes | None:
        """/openapi/v3/PATH, such as `apis/apps/v1`; None when it is not served."""
        if path not in self._documents:
            infos = self._by_path().get(path)
            if infos is None:
                return None
            schemas = {name: modern(schema) for name, schema in self._schemas.definitions(infos[0].api_version).items()}
            document = {
                "openapi": "3.0.0",
                "info": self._info(),
                "paths": dict(item for info in infos for item in self._paths(info, schemas)),
                "components": {"schemas": schemas},
            }
            self._documents[path] = _wire.encode(document)
        return self._documents[path]

    def v2(self) -> bytes:
        """/openapi/v2: definitions of everything; paths are left to v3."""
        if "v2" not in self._documents:
            definitions: Json = {}
            for infos in self._by_path().values():
                definitions.update(self._schemas.definitions(infos[0].api_version))
            document = {"swagger": "2.0", "info": self._info(), "paths": {}, "definitions": definitions}
            self._documents["v2"] = _wire.encode(document)
        return self._documents["v2"]

    def v2_protobuf(self) -> bytes:
        """/openapi/v2 for kubectl, which takes it in protobuf only: a document without definitions.

        kubectl asks for it after v3 did not know a kind, or to see whether it knows more of a type than kubectl does
        itself; finding nothing there, it goes on as it should.
        """
        info = self._info()
        title, version = info["title"].encode(), info["version"].encode()
        return _field(1, b"2.0") + _field(2, _field(1, title) + _field(2, version))

    def _info(self) -> Json:
        return {"title": "Headrace", "version": self._version}

    def _by_path(self) -> dict[str, list[KindInfo]]:
        found: dict[str, list[KindInfo]] = {}
        for info in self._kinds.all():
            path = f"apis/{info.group}/{info.version}" if info.group else f"api/{info.version}"
            found.setdefault(path, []).append(info)
        return found

    def _hash(self, infos: list[KindInfo]) -> str:
        digest = hashlib.sha256(self._version.encode())
        for info in infos:
            served = self._kinds.served(info)
            digest.update(repr((info.api_version, info.kind, sorted(info.subresources))).encode())
            digest.update(_wire.encode(served.schema) if served.schema else b"")
        return digest.hexdigest()[:32].upper()

    def _paths(self, info: KindInfo, schemas: Json) -> Iterator[tuple[str, Json]]:
        gvk = {"group": info.group, "version": info.version, "kind": info.kind}
        name = next((n for n, s in schemas.items() if gvk in s.get("x-kubernetes-group-version-kind", ())), "")
        content = {"schema": {"$ref": f"{V3_REFERENCE}{name}"} if name else {"type": "object"}}
        patches = PATCHES if self._kinds.served(info).custom else (*PATCHES, STRATEGIC)

        def operation(action: str, parameters: tuple[str, ...], *, body: bool = False) -> Json:
            made: Json = {
                "operationId": f"{action}{info.kind}",
                "parameters": [parameter(p) for p in parameters],
                "responses": {"200": {"description": "OK", "content": {"application/json": content}}},
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": gvk,
            }
            if body:
                made["requestBody"] = {"required": True, "content": {"*/*": content}}
            return made

        patch = operation("patch", (*WRITE_PARAMETERS, "force"))
        any_object = {"schema": {"type": "object"}}
        patch["requestBody"] = {"required": True, "content": dict.fromkeys(patches, any_object)}
        collection = info.path("{namespace}")
        yield (
            collection,
            {
                "get": operation("list", LIST_PARAMETERS),
                "post": operation("post", WRITE_PARAMETERS, body=True),
                "delete": operation("deletecollection", (*LIST_PARAMETERS, *DELETE_PARAMETERS)),
            },
        )
        item: Json = {
            "get": operation("get", ()),
            "put": operation("put", WRITE_PARAMETERS, body=True),
            "patch": patch,
            "delete": operation("delete", DELETE_PARAMETERS),
        }
        yield f"{collection}/{{name}}", item
        if info.namespaced:
            yield info.path(), {"get": operation("list", LIST_PARAMETERS)}
        if "status" in info.subresources:
            yield f"{collection}/{{name}}/status", {k: item[k] for k in ("get", "put", "patch")}


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field; values here are short."""
    return bytes((number << 3 | 2, len(value))) + value


def parameter(name: str) -> Json:
    """A query parameter."""
    kind = "integer" if name in INTEGERS else "boolean" if name in BOOLEANS or name == "force" else "string"
    return {"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": True}}


def modern(schema: Any) -> Any:
    """A v2 schema in the form of v3: references point to components, and stand alone inside `allOf`."""
    if isinstance(schema, list):
        return [modern(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: modern(value) for key, value in schema.items()}
    reference = out.get("$ref")
    if isinstance(reference, str):
        out["$ref"] = V3_REFERENCE + reference.removeprefix(V2_REFERENCE)
        if len(out) > 1:
            out["allOf"] = [{"$ref": out.pop("$ref")}]
    return out

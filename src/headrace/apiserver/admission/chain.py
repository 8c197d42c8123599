"""The order of admission: decode (unknown fields, defaults), set what the server owns, then check everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.apiserver.registry import metadata

if TYPE_CHECKING:
    from headrace.api.identity import User
    from headrace.apiserver.registry.kinds import Served
    from headrace.client.base import Warnings

Json = dict[str, Any]


class Admission:
    """Called by the registry for every write."""

    def decode(self, served: Served, obj: Json, field_validation: str, warnings: Warnings | None) -> Json:
        """The object as its kind's types would hold it."""
        del served, field_validation, warnings
        return obj

    def create(self, user: User, served: Served, obj: Json, warnings: Warnings | None) -> Json:
        """A new object, named, ready to be stored. Raises Invalid, Forbidden, NotFound."""
        del user, warnings
        if served.has_status and served.info.kind != "Node":
            obj.pop("status", None)
        if served.info.kind == "Namespace" and not served.info.group:
            name = obj["metadata"]["name"]
            obj["metadata"]["labels"] = {**(obj["metadata"].get("labels") or {}), "kubernetes.io/metadata.name": name}
            obj["spec"] = {"finalizers": ["kubernetes"]}
            obj["status"] = {"phase": "Active"}
        if served.info.kind == "Pod" and not served.info.group:
            obj["status"] = {"phase": "Pending"}
        metadata.check(obj, served.info)
        return obj

    def update(
        self, user: User, served: Served, new: Json, old: Json, *, subresource: str, warnings: Warnings | None
    ) -> Json:
        """A changed object, ready to be stored. Raises Invalid, Forbidden."""
        del user, old, subresource, warnings
        metadata.check(new, served.info)
        return new

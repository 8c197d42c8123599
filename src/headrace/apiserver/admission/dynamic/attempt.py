"""One write as admission sees it, and the request that webhooks and expressions are told of."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.api.identity import User
    from headrace.api.meta import KindInfo
    from headrace.apiserver.registry.kinds import Served
    from headrace.client.base import Warnings

Json = dict[str, Any]

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"
_OPTIONS = {CREATE: "CreateOptions", UPDATE: "UpdateOptions", DELETE: "DeleteOptions"}


@dataclass(slots=True)
class Attempt:
    """A write that is about to happen."""

    user: User
    operation: str
    served: Served
    obj: Json | None
    old: Json | None = None
    subresource: str = ""
    dry_run: bool = False
    warnings: Warnings | None = None
    kind: KindInfo | None = None
    """What the objects are, when they are not of the resource's kind: a Scale."""
    place: Json | None = None
    """Metadata of the object whose part is asked for, where what is sent has none of its own."""
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def info(self) -> KindInfo:
        """The kind of the request."""
        return self.served.info

    @property
    def meta(self) -> Json:
        """Metadata of the newest object that there is."""
        if self.place is not None:
            return self.place
        found: Json = (self.obj or self.old or {}).get("metadata") or {}
        return found

    @property
    def name(self) -> str:
        """Empty while a name is still to be made."""
        return str(self.meta.get("name") or "")

    @property
    def namespace(self) -> str:
        """A Namespace is in itself."""
        if self.info.kind == "Namespace" and not self.info.group:
            return self.name
        return str(self.meta.get("namespace") or "")

    def warn(self, text: str) -> None:
        """Tell the client."""
        if self.warnings is not None and text not in self.warnings:
            self.warnings.append(text)

    def request(self, info: KindInfo | None = None) -> Json:
        """AdmissionRequest without objects; `info` is the version in which the objects are sent."""
        seen = info or self.info
        user: Json = {"username": self.user.name}
        if self.user.uid:
            user["uid"] = self.user.uid
        user["groups"] = list(self.user.groups)
        if self.user.extra:
            user["extra"] = {k: list(v) for k, v in self.user.extra.items()}
        out: Json = {"uid": self.uid, "kind": _kind(self.kind or seen), "resource": _resource(seen)}
        if self.subresource:
            out["subResource"] = self.subresource
        out |= {"requestKind": _kind(self.kind or self.info), "requestResource": _resource(self.info)}
        if self.subresource:
            out["requestSubResource"] = self.subresource
        if self.name:
            out["name"] = self.name
        if self.namespace:
            out["namespace"] = self.namespace
        options: Json | None = None
        if self.operation in _OPTIONS:
            options = {"kind": _OPTIONS[self.operation], "apiVersion": "meta.k8s.io/v1"}
            if self.dry_run:
                options["dryRun"] = ["All"]
        return out | {"operation": self.operation, "userInfo": user, "dryRun": self.dry_run, "options": options}


def _kind(info: KindInfo) -> Json:
    return {"group": info.group, "version": info.version, "kind": info.kind}


def _resource(info: KindInfo) -> Json:
    return {"group": info.group, "version": info.version, "resource": info.plural}

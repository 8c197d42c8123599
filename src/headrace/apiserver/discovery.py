"""What the server serves, as documents: API groups, resource lists, and both at once (aggregated discovery v2).

Documents are made from the kind catalog when asked for, and kept until it changes. Groups stand in the order of their
API services' priorities; of what other servers answer, their last word is shown, marked Stale when they are silent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.apiserver.aggregation.documents import described
from headrace.apiserver.registry.apiservices import Offer, priority_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.api.meta import KindInfo
    from headrace.apiserver.registry import KindCatalog
    from headrace.apiserver.registry.apiservices import ApiServices

Json = dict[str, Any]

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
PART_VERBS = ["get", "patch", "update"]
PROXY_VERBS = ["create", "delete", "get", "patch", "update"]

PARTS: dict[str, tuple[tuple[str, str, str] | None, list[str]]] = {
    "status": (None, PART_VERBS),
    "scale": (("autoscaling", "v1", "Scale"), PART_VERBS),
    "finalize": (None, ["update"]),
    "log": (None, ["get"]),
    "ephemeralcontainers": (None, PART_VERBS),
    "binding": (("", "v1", "Binding"), ["create"]),
    "eviction": (("policy", "v1", "Eviction"), ["create"]),
    "token": (("authentication.k8s.io", "v1", "TokenRequest"), ["create"]),
}
"""What answers a part of an object (None: the object's own kind), and its verbs."""
SESSIONS = {
    "attach": ("", "v1", "PodAttachOptions"),
    "exec": ("", "v1", "PodExecOptions"),
    "portforward": ("", "v1", "PodPortForwardOptions"),
}
SESSION_VERBS = ["create", "get"]
PROXIED = {"pods": ("", "v1", "PodProxyOptions"), "services": ("", "v1", "ServiceProxyOptions")}

_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")


def version_rank(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as Kubernetes does: v2, v1, v1beta2, v1beta1, v1alpha1, then anything else by name."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return (3, 0, 0, version)
    stage = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return (stage, -int(match[1]), -int(match[3] or 0), version)


class Discovery:
    """The discovery documents. `questions` are kinds that are created only (reviews), `views` are read only."""

    def __init__(
        self,
        kinds: KindCatalog,
        services: ApiServices,
        questions: Sequence[KindInfo],
        views: Sequence[KindInfo],
        address: str,
    ) -> None:
        self._kinds, self._services = kinds, services
        self._questions, self._views = tuple(questions), tuple(views)
        self.address = address
        self._documents: dict[str, bytes | None] = {}
        kinds.on_change(self._documents.clear)
        services.on_change(self._documents.clear)

    def api_versions(self) -> bytes:
        """/api."""

        def make() -> Json:
            return {
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": self.address}],
            }

        return self._kept("/api", make) or b""

    def group_list(self) -> bytes:
        """/apis."""

        def make() -> Json:
            groups = [self._group(g, v) for g, v in self._groups().items() if g]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

        return self._kept("/apis", make) or b""

    def group(self, name: str) -> bytes | None:
        """/apis/GROUP, None when there is no such group."""

        def make() -> Json | None:
            versions = self._groups().get(name)
            return (
                {"kind": "APIGroup", "apiVersion": "v1", **self._group(name, versions)} if versions and name else None
            )

        return self._kept(f"/apis/{name}", make)

    def resource_list(self, group: str, version: str) -> bytes | None:
        """/apis/GROUP/VERSION, None when it is not served."""

        def make() -> Json | None:
            infos = self._groups().get(group, {}).get(version)
            if not infos:
                return None
            resources = [r for info in infos for r in self._resources(info)]
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": infos[0].api_version,
                "resources": resources,
            }

        return self._kept(f"{group}/{version}", make)

    def aggregated(self, version: str, *, core: bool) -> bytes:
        """Everything at once, of the core group or of all others; `version` v2 or v2beta1."""

        def make() -> Json:
            items = [
                {
                    "metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None},
                    "versions": [
                        self._remote(group, v)
                        if (group, v) in self._services.remote
                        else {"version": v, "resources": [self._described(i) for i in infos], "freshness": "Current"}
                        for v, infos in versions.items()
                    ],
                }
                for group, versions in self._groups().items()
                if (not group) == core
            ]
            return {
                "kind": "APIGroupDiscoveryList",
                "apiVersion": f"apidiscovery.k8s.io/{version}",
                "metadata": {},
                "items": items,
            }

        return self._kept(f"aggregated {version} {core}", make) or b""

    def paths(self) -> list[str]:
        """Every group-version as a path: `api/v1`, `apis/apps/v1`."""
        return [
            f"apis/{group}/{version}" if group else f"api/{version}"
            for group, versions in self._groups().items()
            for version in versions
        ]

    def _kept(self, key: str, make: Callable[[], Json | None]) -> bytes | None:
        if key not in self._documents:
            made = make()
            self._documents[key] = None if made is None else _wire.encode(made)
        return self._documents[key]

    def _groups(self) -> dict[str, dict[str, list[KindInfo]]]:
        found: dict[str, dict[str, list[KindInfo]]] = {}
        for info in (*self._kinds.all(), *self._questions, *self._views):
            found.setdefault(info.group, {}).setdefault(info.version, []).append(info)
        for group, version in self._services.remote:
            found.setdefault(group, {})[version] = []
        places = {(g, v): self._place(g, v, infos) for g, versions in found.items() for v, infos in versions.items()}
        return {
            group: dict(sorted(versions.items(), key=lambda kv: (-places[group, kv[0]][1], version_rank(kv[0]))))
            for group, versions in sorted(
                found.items(), key=lambda kv: (-max(places[kv[0], v][0] for v in kv[1]), kv[0])
            )
        }

    def local(self) -> dict[tuple[str, str], tuple[tuple[int, int], bool]]:
        """The group versions that are answered here: their places, and whether they are custom kinds'."""
        found: dict[tuple[str, str], tuple[tuple[int, int], bool]] = {}
        for info in (*self._kinds.all(), *self._questions, *self._views):
            key, custom = (info.group, info.version), self._custom(info)
            if key not in found or not custom:
                found[key] = priority_of(*key, custom=custom), custom
        return found

    def _custom(self, info: KindInfo) -> bool:
        return info not in self._questions and info not in self._views and self._kinds.served(info).custom

    def _place(self, group: str, version: str, infos: list[KindInfo]) -> tuple[int, int]:
        known = self._services.priority(group, version)
        return known or priority_of(group, version, custom=all(map(self._custom, infos)))

    def _remote(self, group: str, version: str) -> Json:
        remote = self._services.remote[group, version]
        offer = self._services.offers.get((group, version)) or Offer()
        fresh = remote.available and offer.fresh
        resources = described(offer.resources, group, version)
        return {"version": version, "resources": resources, "freshness": "Current" if fresh else "Stale"}

    @staticmethod
    def _group(name: str, versions: dict[str, list[KindInfo]]) -> Json:
        listed = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
        return {"name": name, "versions": listed, "preferredVersion": listed[0]}

    def _verbs(self, info: KindInfo) -> list[str]:
        if info in self._questions:
            return ["create"]
        return ["get", "list"] if info in self._views else VERBS

    def _parts(self, info: KindInfo) -> list[tuple[str, tuple[str, str, str], list[str]]]:
        """(name, kind that answers, verbs) of each part."""
        own = (info.group, info.version, info.kind)
        parts = [(p, PARTS[p][0] or own, PARTS[p][1]) for p in sorted(info.subresources) if p in PARTS]
        if not info.group and info.plural in PROXIED:
            parts.append(("proxy", PROXIED[info.plural], PROXY_VERBS))
        if not info.group and info.plural == "pods":
            parts += [(part, kind, SESSION_VERBS) for part, kind in SESSIONS.items()]
        return parts

    def _resources(self, info: KindInfo) -> list[Json]:
        resource: Json = {
            "name": info.plural,
            "singularName": singular(info),
            "namespaced": info.namespaced,
            "kind": info.kind,
            "verbs": self._verbs(info),
        }
        if info.short_names:
            resource["shortNames"] = list(info.short_names)
        if info.categories:
            resource["categories"] = list(info.categories)
        out = [resource]
        for part, (group, version, kind), verbs in self._parts(info):
            entry: Json = {
                "name": f"{info.plural}/{part}",
                "singularName": "",
                "namespaced": info.namespaced,
                "kind": kind,
                "verbs": verbs,
            }
            if (group, version) != (info.group, info.version):
                entry["group"], entry["version"] = group, version
            out.append(entry)
        return out

    def _described(self, info: KindInfo) -> Json:
        resource: Json = {
            "resource": info.plural,
            "responseKind": {"group": info.group, "version": info.version, "kind": info.kind},
            "scope": "Namespaced" if info.namespaced else "Cluster",
            "singularResource": singular(info),
            "verbs": self._verbs(info),
        }
        if info.short_names:
            resource["shortNames"] = list(info.short_names)
        if info.categories:
            resource["categories"] = list(info.categories)
        parts = [
            {
                "subresource": part,
                "responseKind": {"group": group, "version": version, "kind": kind},
                "verbs": verbs,
            }
            for part, (group, version, kind), verbs in self._parts(info)
        ]
        if parts:
            resource["subresources"] = parts
        return resource


def singular(info: KindInfo) -> str:
    """The singular name, the kind in lower case where none is declared."""
    return info.singular or info.kind.lower()

"""The central dashboard's `/api`, after kubeflow/dashboard's centraldashboard/app/api.ts, and its ConfigMap.

ConfigMap `centraldashboard-config` in namespace `kubeflow` (keys `links` and `settings`, JSON) is as upstream's; its
menu and external links also stand in this dashboard's navigation. Unlike upstream, the namespaces that are listed are
those that the person may see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.core import ConfigMap, Event, Namespace
from headrace.api.errors import NotFound
from headrace.machinery.settings import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.api.identity import User
    from headrace.components.dashboard.controller import History, Sample
    from headrace.machinery.component import Context

CONFIG_MAP = "centraldashboard-config"
INTERVALS = {"Last5m": 5, "Last15m": 15, "Last30m": 30, "Last60m": 60, "Last180m": 180}
MINUTES = 15
SERIES = {"node": "cpu", "podcpu": "pods_cpu", "podmem": "pods_memory"}
MAX_LINKS = 40
Answer = tuple[int, Any]


class Central:
    """Answers GET below `/api`."""

    def __init__(self, context: Context, history: History) -> None:
        self._context, self._history = context, history

    async def answer(self, user: User, path: str, query: Mapping[str, str]) -> Answer:
        """Status and JSON."""
        match path.strip("/").split("/"):
            case ["api", "namespaces"]:
                return 200, await self._namespaces(user)
            case ["api", "activities", namespace]:
                return await self._activities(user, namespace)
            case ["api", "dashboard-links"]:
                return await self._configured("links", self._default_links(), "Cannot load dashboard menu link")
            case ["api", "dashboard-settings"]:
                default = {"DASHBOARD_FORCE_IFRAME": False}
                return await self._configured("settings", default, "Cannot load dashboard settings")
            case ["api", "metrics"]:
                return 200, {"resourceChartsLink": "/", "resourceChartsLinkText": "View in dashboard"}
            case ["api", "metrics", kind] if kind in SERIES:
                return 200, self._series(kind, INTERVALS.get(query.get("interval", ""), MINUTES))
        return 404, {"error": f"Nothing is served at {path!r}."}

    async def menu(self) -> list[tuple[str, str]]:
        """Words and addresses that the ConfigMap adds to the navigation; none when it cannot be read."""
        _status, found = await self._configured("links", {}, "")
        entries: list[Any] = []
        for key in ("menuLinks", "externalLinks"):
            listed = found.get(key) if isinstance(found, dict) else None
            for entry in listed if isinstance(listed, list) else ():
                inner = entry.get("items") if isinstance(entry, dict) else None
                entries += inner if isinstance(inner, list) else [entry]
        own = {page.path for page in self._context.site.pages}
        links = [
            (str(entry["text"]), str(entry["link"]))
            for entry in entries
            if isinstance(entry, dict) and entry.get("text") and entry.get("link")
        ]
        return [(words, link) for words, link in links if link.rstrip("/") not in own][:MAX_LINKS]

    async def _namespaces(self, user: User) -> list[Any]:
        client, found = self._context.client, (await self._context.site.cache(Namespace)).all()
        return [
            _wire.to_builtins(namespace)
            for namespace in sorted(found, key=lambda n: n.metadata.name)
            if await client.review_access(user, "list", resource="pods", namespace=namespace.metadata.name)
        ]

    async def _activities(self, user: User, namespace: str) -> Answer:
        if not await self._context.client.review_access(user, "list", resource="events", namespace=namespace):
            words = f"Access denied. You do not have permission to view activities for namespace '{namespace}'."
            return 403, {"error": words}
        events = (await self._context.site.cache(Event)).all(namespace)
        return 200, [_wire.to_builtins(event) for event in events]

    async def _configured(self, key: str, default: Any, wrong: str) -> Answer:
        try:
            found = await self._context.client.get(ConfigMap, CONFIG_MAP, SYSTEM_NAMESPACE)
        except NotFound:
            return 200, default
        if key not in found.data:
            return 200, default
        try:
            return 200, _wire.decode_any(found.data[key].encode())
        except _wire.DecodeError:
            return 500, {"error": wrong}

    def _default_links(self) -> dict[str, Any]:
        items = [
            {"type": "item", "link": page.path, "text": page.title, "icon": ""}
            for page in self._context.site.pages
            if page.section.strip() and page.listed is None
        ]
        return {"menuLinks": items, "externalLinks": [], "quickLinks": [], "documentationItems": []}

    def _series(self, kind: str, minutes: int) -> list[dict[str, Any]]:
        samples: list[Sample] = self._history.since(minutes * 60)
        return [{"timestamp": s.at, "label": kind, "value": getattr(s, SERIES[kind])} for s in samples]

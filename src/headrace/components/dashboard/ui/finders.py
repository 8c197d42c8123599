"""What the dashboard itself finds: pages, things to do, namespaces, pods."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from headrace.api.core import Namespace, Pod
from headrace.machinery import podlook
from headrace.machinery.offers import Hit
from headrace.machinery.pages import authorize
from headrace.machinery.words import _

if TYPE_CHECKING:
    from headrace.machinery.component import Context
    from headrace.machinery.offers import Finder
    from headrace.machinery.pages import Page, PageRequest

PODS = 200


def finders_of(context: Context) -> tuple[Finder, ...]:
    """The finders."""
    site, client = context.site, context.client

    async def pages(request: PageRequest, _text: str) -> list[Hit]:
        query = f"?{urlencode({'ns': request.query['ns']})}" if request.query.get("ns") else ""
        found = [
            Hit(_("Page") if page.section else _("Do"), _(page.title), page.path + query, page.path)
            for page in site.pages
            if _reachable(page) and (page.listed is None or await page.listed(request.user))
        ]
        found.append(Hit(_("Do"), _("Log out"), "/logout", "/logout", plain=True))
        return found

    async def pods(request: PageRequest, text: str) -> list[Hit]:
        if not text:
            return []
        await authorize(client, request, "list", "pods")
        first = max(text.split(), key=len)
        named = [p for p in (await site.cache(Pod)).all(request.namespace) if first in p.metadata.name]
        return [
            Hit(
                _("Pod"),
                pod.metadata.name,
                f"/workloads?{urlencode({'ns': request.namespace, 'pod': pod.metadata.name})}",
                podlook.state(pod)[1],
            )
            for pod in sorted(named, key=lambda p: p.metadata.name)[:PODS]
        ]

    async def namespaces(request: PageRequest, text: str) -> list[Hit]:
        if not text:
            return []
        found = []
        for namespace in (await site.cache(Namespace)).all():
            name = namespace.metadata.name
            if text in name and await client.review_access(request.user, "list", resource="pods", namespace=name):
                found.append(Hit(_("Namespace"), name, f"/?{urlencode({'ns': name})}"))
        return sorted(found, key=lambda hit: hit.title)

    return pages, pods, namespaces


def _reachable(page: Page) -> bool:
    """Pages of the navigation, and those that begin something."""
    return "{" not in page.path and bool(page.section or page.path.endswith("/new") or page.starts)

"""`/find?q=…&ns=…`: what the command palette shows, from every component's finders; JSON.

Each finder authorizes by itself; one that fails or refuses leaves its place to the others.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from headrace.machinery.offers import best
from headrace.machinery.pages import PageError

if TYPE_CHECKING:
    from headrace.machinery.offers import Finder, Hit
    from headrace.machinery.pages import PageRequest, Site

log = logging.getLogger(__name__)

COUNT, COUNT_OF_ALL = 14, 40
"""Of a search, and of everything that is worth a look before anything is typed."""
MAX_TEXT = 120


async def find(site: Site, request: PageRequest) -> dict[str, Any]:
    """The answer."""
    text = " ".join(request.query.get("q", "")[:MAX_TEXT].lower().split())
    found = await asyncio.gather(*(_ask(finder, request, text) for finder in site.finders))
    hits = best(text, [hit for each in found for hit in each], COUNT if text else COUNT_OF_ALL)
    return {"hits": [_shown(hit) for hit in hits]}


async def _ask(finder: Finder, request: PageRequest, text: str) -> list[Hit]:
    try:
        return await finder(request, text)
    except PageError as error:
        if error.status >= 500:
            log.info("a search found less: %s", error.message)
        return []
    except Exception:
        log.exception("a finder failed")
        return []


def _shown(hit: Hit) -> dict[str, Any]:
    return {"kind": hit.kind, "title": hit.title, "url": hit.url, "hint": hit.hint, "plain": hit.plain}

"""Whether a browser sends a request because another site made it.

The rule of Go's net/http CrossOriginProtection: `Sec-Fetch-Site` decides where the browser sends it; else `Origin`
must be the host that is asked; a request with neither does not come from a browser. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def foreign_site(scope: Mapping[str, Any]) -> bool:
    """Whether this ASGI request is another site's doing. A client that lies about it harms itself only."""
    host = origin = site = b""
    for name, value in scope["headers"]:
        if name == b"host":
            host = value
        elif name == b"origin":
            origin = value
        elif name == b"sec-fetch-site":
            site = value
    if site:
        return site not in {b"same-origin", b"none"}
    if not origin:
        return False
    try:
        return urlsplit(origin.decode("latin-1")).netloc.lower() != host.decode("latin-1").lower()
    except ValueError:
        return True

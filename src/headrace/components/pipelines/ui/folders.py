"""An artifact that is a folder, as a list of its files, each a way to its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from headrace.machinery import look
from headrace.machinery.html import Markup, el
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Mapping


def render(found: Mapping[str, Any], namespace: str) -> Markup:
    """What the API's preview of a folder says."""
    rows = []
    for file in found.get("files", []):
        bucket, _slash, key = str(file["uri"]).partition("://")[2].partition("/")
        query = {
            "ns": namespace,
            "tab": "buckets",
            "bucket": bucket,
            "prefix": f"{key.rpartition('/')[0]}/",
            "key": key,
        }
        rows.append(
            el(
                "tr",
                el("td", el("a", file["path"], href=f"/artifacts?{urlencode(query)}"), class_="wrap-any wide"),
                el("td", look.size(file["size"]), class_="num nowrap"),
            )
        )
    more = el("p", _("There are more files."), class_="dim") if found.get("truncated") else ""
    return Markup(el("table", el("tbody", rows), class_="dense") + more)

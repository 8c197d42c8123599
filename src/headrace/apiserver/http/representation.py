"""From the registry's bytes to the representation that was negotiated.

The plain case splices bytes: objects are decoded only for tables, for metadata alone and for YAML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from headrace.api import _wire
from headrace.apiserver.http.messages import JSON, YAML, Response
from headrace.apiserver.http.negotiation import Shape, Wanted
from headrace.apiserver.tables import custom, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.api.meta import KindInfo
    from headrace.apiserver.http.heads import Header
    from headrace.apiserver.registry import KindCatalog
    from headrace.apiserver.tables.base import Printer
    from headrace.client.base import Page, RawEvent
    from headrace.machinery.clock import Clock


class Representations:
    """Renders objects, lists and watch events."""

    def __init__(self, kinds: KindCatalog, clock: Clock) -> None:
        self._kinds, self._clock = kinds, clock
        self._custom: dict[tuple[str, str, str], Printer] = {}
        kinds.on_change(self._custom.clear)

    def printer(self, info: KindInfo) -> Printer:
        """How the kind is shown in tables."""
        known = (info.group, info.plural) in render.PRINTERS
        if known:
            return render.printer_for(info)
        key = (info.group, info.version, info.plural)
        found = self._custom.get(key)
        if found is None:
            found = self._custom[key] = custom.printer(self._kinds.served(info).columns)
        return found

    def one(
        self,
        info: KindInfo,
        raw: bytes,
        wanted: Wanted,
        *,
        include: str = "",
        status: int = 200,
        headers: tuple[Header, ...] = (),
    ) -> Response:
        """One object."""
        match wanted.shape:
            case Shape.TABLE:
                meta = _wire.decode_any(raw).get("metadata") or {}
                version = {"resourceVersion": meta.get("resourceVersion", "")}
                return self._finish(self._table(info, [raw], version, include), wanted, status, headers)
            case Shape.METADATA | Shape.METADATA_LIST:
                return self._finish(_wire.encode(_metadata(raw, wanted)), wanted, status, headers)
            case _:
                return self._finish(raw, wanted, status, headers)

    def page(self, info: KindInfo, page: Page, wanted: Wanted, *, include: str = "") -> Response:
        """A list."""
        meta: dict[str, Any] = {"resourceVersion": str(page.resource_version)}
        if page.continue_token:
            meta["continue"] = page.continue_token
        if page.remaining is not None:
            meta["remainingItemCount"] = page.remaining
        match wanted.shape:
            case Shape.TABLE:
                return self._finish(self._table(info, page.items, meta, include), wanted)
            case Shape.METADATA | Shape.METADATA_LIST:
                items = [_metadata(raw, wanted) for raw in page.items]
                body = {
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": f"meta.k8s.io/{wanted.version}",
                    "metadata": meta,
                    "items": items,
                }
                return self._finish(_wire.encode(body), wanted)
            case _:
                return self._finish(listed(info, page.items, meta), wanted)

    def event(self, info: KindInfo, event: RawEvent, wanted: Wanted, include: str, *, first: bool) -> bytes:
        """One line of a watch. Column headers come with the first event only."""
        match wanted.shape:
            case Shape.TABLE:
                version = {"resourceVersion": str(event.revision)}
                body = self._table(info, [event.object], version, include, headers=first)
            case Shape.METADATA | Shape.METADATA_LIST:
                body = _wire.encode(_metadata(event.object, wanted))
            case _:
                body = event.object
        return b'{"type":"%s","object":%s}\n' % (event.type.value.encode(), body)

    def _table(
        self, info: KindInfo, items: Sequence[bytes], meta: dict[str, Any], include: str, *, headers: bool = True
    ) -> bytes:
        return render.table(
            self.printer(info),
            items,
            self._clock.now(),
            list_meta=meta,
            include=include or "Metadata",
            headers=headers,
        )

    @staticmethod
    def _finish(body: bytes, wanted: Wanted, status: int = 200, headers: tuple[Header, ...] = ()) -> Response:
        if wanted.yaml:
            return Response(yaml.safe_dump(_wire.decode_any(body)).encode(), status, YAML, headers)
        return Response(body, status, JSON, headers)


def listed(info: KindInfo, items: Sequence[bytes], meta: dict[str, Any]) -> bytes:
    """A `…List` of objects as they are."""
    head = b'{"kind":"%sList","apiVersion":"%s","metadata":%s,"items":[' % (
        info.kind.encode(),
        info.api_version.encode(),
        _wire.encode(meta),
    )
    return b"".join((head, b",".join(items), b"]}"))


def _metadata(raw: bytes, wanted: Wanted) -> dict[str, Any]:
    partial = render.partial_metadata(_wire.decode_any(raw))
    return {**partial, "apiVersion": f"meta.k8s.io/{wanted.version}"}

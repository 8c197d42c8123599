"""Get, list and watch: answered from the store's memory, as bytes wherever no selector forces a decode."""

from __future__ import annotations

import asyncio
import base64
import binascii
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.api import _wire
from headrace.api.errors import BadRequest, Gone, Timeout
from headrace.apiserver.registry.selectors import Selector, selectable
from headrace.client.base import EventType, Page, RawEvent
from headrace.store.base import Compacted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from headrace.apiserver.registry.core import Core
    from headrace.apiserver.registry.kinds import Served
    from headrace.store.base import Change, Record

BOOKMARK_SECONDS = 60.0
_INITIAL_END = {"k8s.io/initial-events-end": "true"}
_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter."
)


Records = list["Record"]


class _Head(msgspec.Struct):
    metadata: dict[str, Any]


class _Labels(msgspec.Struct):
    labels: dict[str, str] | None = None


class _Labelled(msgspec.Struct):
    metadata: _Labels


@lru_cache(maxsize=256)
def _decode_cached(raw: bytes, *, whole: bool) -> dict[str, Any]:
    """Watchers with selectors look at the same few objects one after the other, mostly at their labels only."""
    if whole:
        decoded: dict[str, Any] = _wire.decode_any(raw)
        return decoded
    return {"metadata": {"labels": _wire.decode(_Labelled, raw).metadata.labels}}


def _chosen(selector: Selector, raw: bytes) -> bool:
    return selector.matches(_decode_cached(raw, whole=bool(selector.fields)))


class Token(msgspec.Struct):
    """A continue token: the list's revision and the last key that was sent, below the list's prefix."""

    rv: int
    start: str


def encode_token(token: Token) -> str:
    """Opaque text for clients."""
    return base64.urlsafe_b64encode(_wire.encode(token)).decode().rstrip("=")


def decode_token(text: str) -> Token:
    """Raises BadRequest."""
    try:
        return _wire.decode(Token, base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, _wire.DecodeError) as error:
        raise BadRequest(f"continue key is not valid: {error}") from error


def parse_version(text: str) -> int:
    """A resourceVersion that a client sent. Raises BadRequest."""
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        raise BadRequest(f'Invalid value: "{text}": resourceVersion must be a number')
    return int(text)


class Reads:
    """The reading verbs, after authorization."""

    def __init__(self, core: Core, *, bookmark_seconds: float = BOOKMARK_SECONDS) -> None:
        self._core = core
        self._bookmark_seconds = bookmark_seconds

    def selector(self, served: Served, labels: str, fields: str) -> Selector:
        """Both selectors, parsed. Raises BadRequest."""
        return Selector(labels, fields, lambda: selectable(served.info.group, served.info.kind, served.selectable))

    def prefix(self, served: Served, namespace: str) -> str:
        """The store's prefix of a list."""
        return f"{served.prefix}{namespace}/" if served.info.namespaced and namespace else served.prefix

    def list(
        self,
        served: Served,
        namespace: str,
        *,
        labels: str,
        fields: str,
        limit: int,
        continue_token: str,
        resource_version: str,
        match: str,
    ) -> Page:
        """A page of objects."""
        selector = self.selector(served, labels, fields)
        revision, after = self._where(served, namespace, continue_token, resource_version, match)
        if selector.name is not None and namespace and not continue_token and revision == self._core.store.revision:
            found = self._core.store.get(served.key(namespace, selector.name))
            records = [found] if found is not None else []
            return Page([self._core.present(served, r.value) for r in self._select(records, selector)], revision)
        try:
            return self._page(
                served, self.prefix(served, namespace), selector, revision=revision, after=after, limit=limit
            )
        except Compacted as error:
            raise Gone(_EXPIRED if continue_token else f"too old resource version: {resource_version}") from error

    def _where(
        self, served: Served, namespace: str, continue_token: str, resource_version: str, match: str
    ) -> tuple[int, str]:
        current = self._core.store.revision
        if continue_token:
            if resource_version and resource_version != "0":
                raise BadRequest("specifying resource version is not allowed when using continue")
            token = decode_token(continue_token)
            return token.rv, self.prefix(served, namespace) + token.start
        if match and not resource_version:
            raise BadRequest("resourceVersionMatch is forbidden unless resourceVersion is provided")
        version = parse_version(resource_version)
        if version > current:
            raise too_large(version, current)
        return (version if match == "Exact" and version else current), ""

    def _page(self, served: Served, prefix: str, selector: Selector, *, revision: int, after: str, limit: int) -> Page:
        store = self._core.store
        if not selector:
            records = store.range(prefix, after=after, limit=limit + 1 if limit else 0, revision=revision)
        else:
            records = self._select(store.range(prefix, after=after, revision=revision), selector)
        if not limit or len(records) <= limit:
            return Page([self._core.present(served, r.value) for r in records], revision)
        records = records[:limit]
        last = records[-1].key
        remaining = None
        if not selector:
            remaining = (
                store.count(prefix, after=last)
                if revision == store.revision
                else len(store.range(prefix, after=last, revision=revision))
            )
        token = encode_token(Token(revision, last.removeprefix(prefix)))
        return Page([self._core.present(served, r.value) for r in records], revision, token, remaining)

    def _select(self, records: Iterable[Record], selector: Selector) -> Records:
        if not selector:
            return list(records)
        if selector.fields:
            return [r for r in records if selector.matches(_wire.decode_any(r.value))]
        return [r for r in records if selector.matches({"metadata": _wire.decode(_Head, r.value).metadata})]

    def watch(
        self,
        served: Served,
        namespace: str,
        *,
        resource_version: str,
        labels: str,
        fields: str,
        bookmarks: bool,
        send_initial_events: bool,
    ) -> AsyncIterator[RawEvent]:
        """Changes; the subscription begins now. Raises Gone, BadRequest."""
        selector = self.selector(served, labels, fields)
        prefix = self.prefix(served, namespace)
        store = self._core.store
        after = parse_version(resource_version)
        if after > store.revision:
            raise too_large(after, store.revision)
        initial: list[RawEvent] = []
        if send_initial_events or after == 0:
            after = store.revision
            initial += [
                RawEvent(EventType.ADDED, self._core.present(served, record.value), record.revision)
                for record in self._select(store.range(prefix), selector)
            ]
            if send_initial_events and bookmarks:
                initial.append(self.bookmark(served, after, _INITIAL_END))
        try:
            changes = store.watch(prefix, after=after)
        except Compacted as error:
            raise Gone(f"too old resource version: {resource_version} ({store.revision})") from error
        return Watch(
            self,
            served,
            selector,
            initial=initial,
            changes=changes,
            bookmark_seconds=self._bookmark_seconds if bookmarks else None,
        )

    def event(self, served: Served, selector: Selector, change: Change) -> RawEvent | None:
        """The event that a watcher with this selector sees of a change, if any."""
        record, previous = change.record, change.previous
        if selector.name is not None and not record.key.endswith(selector.key_end):
            return None  # of most changes the key alone says it
        now = not change.deleted and (not selector or _chosen(selector, record.value))
        before = previous is not None and (not selector or _chosen(selector, previous.value))
        if not now and not before:
            return None
        if not now and previous is not None and not change.deleted:
            return RawEvent(EventType.DELETED, self._last_match(served, previous, record.revision), record.revision)
        kind = EventType.MODIFIED if now and before else EventType.ADDED if now else EventType.DELETED
        return RawEvent(kind, self._core.present(served, record.value), record.revision)

    def _last_match(self, served: Served, previous: Record, revision: int) -> bytes:
        """An object that a selector no longer matches, as it last did, at the revision of the change."""
        obj = _wire.decode_any(previous.value)
        obj["metadata"]["resourceVersion"] = str(revision)
        return self._core.present(served, _wire.encode(obj))

    def bookmark(self, served: Served, revision: int, annotations: dict[str, str] | None = None) -> RawEvent:
        """Where the watch is, when nothing else says so."""
        info = served.info
        meta: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            meta["annotations"] = annotations
        body = {"apiVersion": info.api_version, "kind": info.kind, "metadata": meta}
        return RawEvent(EventType.BOOKMARK, _wire.encode(body), revision)

    @property
    def revision(self) -> int:
        """The store's newest revision."""
        return self._core.store.revision


class Watch:
    """The event stream of one watch request; an iterator object, so that dropping it ends the subscription."""

    def __init__(
        self,
        reads: Reads,
        served: Served,
        selector: Selector,
        *,
        initial: list[RawEvent],
        changes: Any,
        bookmark_seconds: float | None,
    ) -> None:
        self._reads, self._served, self._selector = reads, served, selector
        self._initial = initial[::-1]
        self._changes = changes
        self._bookmark_seconds = bookmark_seconds
        self._bookmarked = 0

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> RawEvent:
        if self._initial:
            return self._initial.pop()
        while True:
            try:
                if self._bookmark_seconds is None or self._changes.ready():
                    change = await anext(self._changes)
                else:
                    async with asyncio.timeout(self._bookmark_seconds):
                        change = await anext(self._changes)
            except TimeoutError:
                revision = self._reads.revision
                if revision == self._bookmarked or self._changes.ready():
                    continue
                self._bookmarked = revision
                return self._reads.bookmark(self._served, revision)
            except Compacted as error:
                raise Gone("too old resource version: the watcher fell behind, list again") from error
            event = self._reads.event(self._served, self._selector, change)
            if event is not None:
                return event

    async def aclose(self) -> None:
        """End the watch."""
        self._changes.close()


def too_large(version: int, current: int) -> Timeout:
    """A client names a revision that this store never had (yet)."""
    return Timeout(f"Too large resource version: {version}, current: {current}", retry_after=1)

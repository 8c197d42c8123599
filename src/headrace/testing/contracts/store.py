"""What every store must do. A subclass gives the fixture `store`: an open, empty store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from headrace.store.base import Compacted, RevisionMismatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.store.base import Change, Store

PREFIX = "/registry/core/configmaps/"


def value(text: str) -> Callable[[int], bytes]:
    """An encoder that records the revision beside the text."""
    return lambda revision: f"{text}@{revision}".encode()


async def take(store: Store, prefix: str, after: int, count: int) -> list[Change]:
    """The next changes of a watch."""
    watch = store.watch(prefix, after=after)
    return [await anext(watch) for _ in range(count)]


class StoreContract:
    """The invariants of `store.base`, one test each."""

    async def test_a_new_store_is_empty(self, store: Store) -> None:
        """Revision 0, nothing there."""
        assert store.revision == 0
        assert store.get(PREFIX + "a") is None
        assert store.range(PREFIX) == []

    async def test_a_write_can_be_read_with_its_revision(self, store: Store) -> None:
        """`encode` gets the revision of the write, once."""
        record = await store.put(PREFIX + "a", value("x"), expected=0)
        assert record.revision == record.create_revision == store.revision == 1
        assert record.value == b"x@1"
        assert store.get(PREFIX + "a") == record

    async def test_revisions_grow_by_one(self, store: Store) -> None:
        """Over all keys, deletions included."""
        first = await store.put(PREFIX + "a", value("x"), expected=0)
        second = await store.put(PREFIX + "b", value("x"), expected=0)
        gone = await store.delete(PREFIX + "a", value("x"), expected=first.revision)
        third = await store.put(PREFIX + "b", value("y"), expected=second.revision)
        assert [r.revision for r in (first, second, gone, third)] == [1, 2, 3, 4]
        assert third.create_revision == second.revision

    async def test_optimistic_concurrency(self, store: Store) -> None:
        """Creating what is there, changing what moved on, deleting what is not there."""
        first = await store.put(PREFIX + "a", value("x"), expected=0)
        with pytest.raises(RevisionMismatch) as caught:
            await store.put(PREFIX + "a", value("y"), expected=0)
        assert caught.value.current == first
        await store.put(PREFIX + "a", value("y"), expected=first.revision)
        with pytest.raises(RevisionMismatch):
            await store.put(PREFIX + "a", value("z"), expected=first.revision)
        with pytest.raises(RevisionMismatch):
            await store.delete(PREFIX + "a", value("z"), expected=first.revision)
        with pytest.raises(RevisionMismatch):
            await store.delete(PREFIX + "b", value("z"), expected=0)
        with pytest.raises(RevisionMismatch):
            await store.put(PREFIX + "b", value("z"), expected=7)
        assert store.revision == 2

    async def test_of_two_racing_writers_one_wins(self, store: Store) -> None:
        """Both saw the same revision and write at the same time."""
        first = await store.put(PREFIX + "a", value("x"), expected=0)
        results = await asyncio.gather(
            *(store.put(PREFIX + "a", value(str(i)), expected=first.revision) for i in range(8)),
            return_exceptions=True,
        )
        won = [r for r in results if not isinstance(r, BaseException)]
        lost = [r for r in results if isinstance(r, RevisionMismatch)]
        assert (len(won), len(lost)) == (1, 7)
        assert all(error.current == won[0] for error in lost)
        assert store.get(PREFIX + "a") == won[0]

    async def test_many_writers_get_distinct_contiguous_revisions(self, store: Store) -> None:
        """Also when they share a transaction."""
        records = await asyncio.gather(*(store.put(f"{PREFIX}{i:03}", value("x"), expected=0) for i in range(300)))
        assert sorted(r.revision for r in records) == list(range(1, 301))
        assert [r.key for r in store.range(PREFIX)] == [f"{PREFIX}{i:03}" for i in range(300)]

    async def test_a_failing_encoder_hurts_nobody_else(self, store: Store) -> None:
        """Its writer hears of it; no revision is lost."""

        def broken(_revision: int) -> bytes:
            raise ValueError("no")

        results = await asyncio.gather(
            store.put(PREFIX + "a", value("x"), expected=0),
            store.put(PREFIX + "b", broken, expected=0),
            store.put(PREFIX + "c", value("x"), expected=0),
            return_exceptions=True,
        )
        assert isinstance(results[1], ValueError)
        assert store.revision == 2
        assert [r.key for r in store.range(PREFIX)] == [PREFIX + "a", PREFIX + "c"]

    async def test_range_pages_in_key_order(self, store: Store) -> None:
        """After a key, up to a limit; other prefixes are not seen."""
        for key in ("b", "a", "d", "c"):
            await store.put(PREFIX + key, value(key), expected=0)
        await store.put("/registry/core/configmapsX/z", value("z"), expected=0)
        assert [r.key[-1] for r in store.range(PREFIX)] == ["a", "b", "c", "d"]
        assert [r.key[-1] for r in store.range(PREFIX, limit=2)] == ["a", "b"]
        assert [r.key[-1] for r in store.range(PREFIX, after=PREFIX + "b", limit=2)] == ["c", "d"]
        assert [r.key[-1] for r in store.range(PREFIX, after=PREFIX + "bb")] == ["c", "d"]
        assert store.count(PREFIX) == 4
        assert store.count(PREFIX, after=PREFIX + "a") == 3

    async def test_range_at_an_earlier_revision(self, store: Store) -> None:
        """What is newer is undone: changes, creations and deletions."""
        a = await store.put(PREFIX + "a", value("x"), expected=0)
        b = await store.put(PREFIX + "b", value("x"), expected=0)
        then = store.revision
        await store.put(PREFIX + "a", value("y"), expected=a.revision)
        await store.delete(PREFIX + "b", value("x"), expected=b.revision)
        await store.put(PREFIX + "c", value("x"), expected=0)
        assert store.range(PREFIX, revision=then) == [a, b]
        assert store.range(PREFIX, revision=then, after=PREFIX + "a") == [b]
        assert store.range(PREFIX, revision=then, limit=1) == [a]

    async def test_a_deleted_key_can_be_created_again(self, store: Store) -> None:
        """With a new create revision, any number of times."""
        for _ in range(3):
            record = await store.put(PREFIX + "a", value("x"), expected=0)
            assert record.create_revision == record.revision
            await store.delete(PREFIX + "a", value("last"), expected=record.revision)
            assert store.get(PREFIX + "a") is None
        assert store.revision == 6

    async def test_watch_sees_everything_after_its_start_in_order(self, store: Store) -> None:
        """What the log holds, then what happens; other prefixes are not seen."""
        a = await store.put(PREFIX + "a", value("x"), expected=0)
        watch = store.watch(PREFIX, after=0)
        await store.put("/registry/core/secrets/s", value("x"), expected=0)
        changed = await store.put(PREFIX + "a", value("y"), expected=a.revision)
        gone = await store.delete(PREFIX + "a", value("bye"), expected=changed.revision)
        seen = [await anext(watch) for _ in range(3)]
        assert [c.record for c in seen] == [a, changed, gone]
        assert [c.previous for c in seen] == [None, a, changed]
        assert [c.deleted for c in seen] == [False, False, True]
        assert gone.value == b"bye@4"

    async def test_watch_resumes_without_gap(self, store: Store) -> None:
        """From any revision that the log holds."""
        for i in range(10):
            await store.put(f"{PREFIX}{i}", value("x"), expected=0)
        seen = await take(store, PREFIX, 4, 6)
        assert [c.record.revision for c in seen] == [5, 6, 7, 8, 9, 10]

    async def test_watch_behind_the_compaction_is_refused(self, store: Store) -> None:
        """Never a gap."""
        current = 0
        for i in range(20):
            current = (await store.put(PREFIX + "a", value(str(i)), expected=current)).revision
        oldest = await store.compact(5)
        assert oldest == 15
        with pytest.raises(Compacted):
            store.watch(PREFIX, after=14)
        with pytest.raises(Compacted):
            store.range(PREFIX, revision=14)
        seen = await take(store, PREFIX, 15, 5)
        assert [c.record.revision for c in seen] == [16, 17, 18, 19, 20]
        live = store.get(PREFIX + "a")
        assert live is not None
        assert live.revision == 20

    async def test_compaction_keeps_what_is_live(self, store: Store) -> None:
        """And lets deleted keys come back."""
        a = await store.put(PREFIX + "a", value("x"), expected=0)
        b = await store.put(PREFIX + "b", value("x"), expected=0)
        await store.delete(PREFIX + "b", value("x"), expected=b.revision)
        await store.compact(0)
        assert store.range(PREFIX) == [a]
        again = await store.put(PREFIX + "b", value("y"), expected=0)
        assert again.revision == 4

    async def test_a_dropped_watch_is_forgotten(self, store: Store) -> None:
        """A watch that is closed ends its iteration."""
        watch = store.watch(PREFIX, after=0)
        await store.put(PREFIX + "a", value("x"), expected=0)
        assert (await anext(watch)).record.key == PREFIX + "a"
        await store.close()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(watch), 1)


class SlowWatcherContract:
    """A subclass gives the fixture `narrow_store`, whose watchers may be four changes behind."""

    async def test_a_slow_watcher_is_cut_off_and_others_are_not(self, narrow_store: Store) -> None:
        """It hears Compacted, never a gap."""
        slow = narrow_store.watch(PREFIX, after=0)
        quick = narrow_store.watch(PREFIX, after=0)
        for i in range(6):
            await narrow_store.put(f"{PREFIX}{i}", value("x"), expected=0)
            assert (await anext(quick)).record.revision == i + 1
        with pytest.raises(Compacted):
            await anext(slow)

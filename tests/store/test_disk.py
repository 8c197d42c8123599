"""A disk that is full, or that fails: the writer hears of it, nothing is damaged, and it works again afterwards."""

import asyncio
import contextlib
import os
import sqlite3

import pytest

from headrace.store.base import DiskRefused, StoreError
from headrace.store.sqlite import SqliteStore
from headrace.testing.contracts.store import PREFIX


def big(revision: int) -> bytes:
    return b"%d " % revision + os.urandom(4000)


async def opened(path) -> SqliteStore:
    store = SqliteStore(path)
    await store.open()
    return store


async def write_until_refused(store) -> dict[str, bytes]:
    """The writes that were acknowledged, many at a time; some of a batch may be, or none."""
    kept: dict[str, bytes] = {}
    for batch in range(10_000):
        keys = [f"{PREFIX}{batch:05}-{i:02}" for i in range(20)]
        results = await asyncio.gather(*(store.put(k, big, expected=0) for k in keys), return_exceptions=True)
        kept |= {k: r.value for k, r in zip(keys, results, strict=True) if not isinstance(r, BaseException)}
        refused = [r for r in results if isinstance(r, BaseException)]
        if refused:
            assert all(isinstance(r, DiskRefused) for r in refused), refused
            return kept
    raise AssertionError("the disk does not fill up")


def check(path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # needs no file of its own on a full disk
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_full_disk_refuses_writes_and_keeps_what_it_has(small_disk):
    path = small_disk.path / "s.db"
    store = await opened(path)
    kept = await write_until_refused(store)
    revision = store.revision
    assert revision == len(kept)
    with pytest.raises(DiskRefused, match="full"):
        await store.put(PREFIX + "more", big, expected=0)
    assert {r.key: r.value for r in store.range(PREFIX)} == kept

    await store.close()
    check(path)
    store = await opened(path)
    assert {r.key: r.value for r in store.range(PREFIX)} == kept
    assert store.revision == revision
    await store.close()


async def test_when_there_is_room_again_writes_go_on_with_the_next_revision(small_disk):
    path = small_disk.path / "s.db"
    store = await opened(path)
    first = await store.put(PREFIX + "first", big, expected=0)
    seen = store.watch(PREFIX, after=0)
    small_disk.fill()
    kept = await write_until_refused(store)
    small_disk.empty()
    again = await store.put(PREFIX + "again", big, expected=0)
    assert again.revision == first.revision + len(kept) + 1
    watched = [(await anext(seen)).record.revision for _ in range(again.revision)]
    assert watched == list(range(1, again.revision + 1))
    await store.close()
    check(path)
    store = await opened(path)
    assert {r.key for r in store.range(PREFIX)} == {first.key, again.key, *kept}
    await store.close()


async def test_a_disk_that_fails_refuses_writes_and_when_it_is_mended_everything_is_there(mortal_disk):
    path = mortal_disk.path / "s.db"
    store = await opened(path)
    await store.put(PREFIX + "first", big, expected=0)
    mortal_disk.fail()
    for _ in range(3):
        with pytest.raises(DiskRefused):
            await store.put(PREFIX + "second", big, expected=0)
    assert [r.key for r in store.range(PREFIX)] == [PREFIX + "first"]
    await store.close()
    with pytest.raises(StoreError, match=r"s\.db cannot be opened"):
        await opened(path)
    mortal_disk.mend()
    store = await opened(path)
    assert [r.key for r in store.range(PREFIX)] == [PREFIX + "first"]
    second = await store.put(PREFIX + "second", big, expected=0)
    assert second.revision == 2
    await store.close()
    check(path)

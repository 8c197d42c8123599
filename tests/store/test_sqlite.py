"""What only the durable store must do: come back, survive kill -9, refuse what it cannot keep."""

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from headrace.store.base import Compacted, RevisionMismatch, StoreError
from headrace.store.sqlite import MIGRATIONS, InUse, SqliteStore
from headrace.testing.contracts.store import PREFIX, take, value


async def opened(path, **options) -> SqliteStore:
    store = SqliteStore(path, **options)
    await store.open()
    return store


async def test_everything_is_there_after_a_restart(tmp_path):
    path = tmp_path / "s.db"
    store = await opened(path)
    a = await store.put(PREFIX + "a", value("x"), expected=0)
    b = await store.put(PREFIX + "b", value("x"), expected=0)
    a2 = await store.put(PREFIX + "a", value("y"), expected=a.revision)
    await store.delete(PREFIX + "b", value("bye"), expected=b.revision)
    await store.close()

    store = await opened(path)
    assert store.revision == 4
    assert store.range(PREFIX) == [a2]
    assert store.range(PREFIX, revision=2) == [a, b]
    seen = await take(store, PREFIX, 0, 4)
    assert [(c.record.revision, c.previous, c.deleted) for c in seen] == [
        (1, None, False),
        (2, None, False),
        (3, a, False),
        (4, b, True),
    ]
    with pytest.raises(RevisionMismatch):
        await store.put(PREFIX + "a", value("z"), expected=a.revision)
    again = await store.put(PREFIX + "b", value("z"), expected=0)
    assert again.revision == again.create_revision == 5
    await store.close()


def rows(path) -> list[int]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return [found for (found,) in db.execute("SELECT id FROM log ORDER BY id")]


async def test_each_compaction_takes_what_was_superseded_since_the_last_one(tmp_path):
    """Entries that were superseded before it, in it and across it; deletions; what lives stays."""
    path = tmp_path / "s.db"

    async def compacted(keep: int) -> list[int]:
        store = await opened(path)
        await store.compact(keep)
        await store.close()
        return rows(path)

    store = await opened(path)
    a1 = await store.put(PREFIX + "a", value("1"), expected=0)
    await store.put(PREFIX + "b", value("1"), expected=0)
    a3 = await store.put(PREFIX + "a", value("2"), expected=a1.revision)
    c4 = await store.put(PREFIX + "c", value("1"), expected=0)
    await store.close()
    assert await compacted(2) == [1, 2, 3, 4]  # what supersedes the first entry is among the two that are kept
    assert await compacted(1) == [2, 3, 4]

    store = await opened(path)
    c5 = await store.put(PREFIX + "c", value("2"), expected=c4.revision)
    a6 = await store.put(PREFIX + "a", value("3"), expected=a3.revision)
    await store.delete(PREFIX + "c", value("bye"), expected=c5.revision)
    await store.close()
    assert await compacted(1) == [2, 5, 6, 7]  # 3 and 4 are superseded by 6 and 5, 5 by the deletion that is kept
    assert await compacted(0) == [2, 6]

    store = await opened(path)
    assert [r.revision for r in store.range(PREFIX)] == [6, 2]
    await store.put(PREFIX + "a", value("4"), expected=a6.revision)
    again = await store.put(PREFIX + "c", value("3"), expected=0)
    assert again.create_revision == again.revision == 9
    await store.close()
    assert await compacted(0) == [2, 8, 9]


async def test_a_store_that_is_closed_while_it_writes_finishes_that(tmp_path):
    path = tmp_path / "s.db"
    store = await opened(path, keep=2)
    writes = [asyncio.create_task(store.put(f"{PREFIX}{i:03}", value("x"), expected=0)) for i in range(300)]
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), *writes)
    with pytest.raises(StoreError):
        await store.put(PREFIX + "late", value("x"), expected=0)
    store = await opened(path)
    assert [r.key for r in store.range(PREFIX)] == [f"{PREFIX}{i:03}" for i in range(300)]
    await store.close()


async def test_a_revision_is_never_used_twice_even_when_its_row_is_gone(tmp_path):
    path = tmp_path / "s.db"
    store = await opened(path)
    a = await store.put(PREFIX + "a", value("x"), expected=0)
    await store.delete(PREFIX + "a", value("x"), expected=a.revision)
    await store.compact(0)
    await store.close()
    store = await opened(path)
    assert store.revision == 2
    assert (await store.put(PREFIX + "a", value("x"), expected=0)).revision == 3
    await store.close()


async def test_compaction_is_remembered_over_a_restart(tmp_path):
    path = tmp_path / "s.db"
    store = await opened(path)
    current = 0
    for i in range(10):
        current = (await store.put(PREFIX + "a", value(str(i)), expected=current)).revision
    assert await store.compact(3) == 7
    await store.close()
    store = await opened(path)
    with pytest.raises(Compacted):
        store.watch(PREFIX, after=6)
    seen = await take(store, PREFIX, 7, 3)
    assert [c.previous.value for c in seen] == [b"6@7", b"7@8", b"8@9"]
    await store.close()


async def test_the_log_compacts_itself(tmp_path):
    path = tmp_path / "s.db"
    store = await opened(path, keep=20)
    current = 0
    for i in range(100):
        current = (await store.put(PREFIX + "a", value(str(i)), expected=current)).revision
    await store.close()
    with sqlite3.connect(path) as db:
        (rows,) = db.execute("SELECT count(*) FROM log").fetchone()
    db.close()
    assert rows <= 42


async def test_a_second_process_is_refused(tmp_path):
    path = tmp_path / "s.db"
    store = await opened(path)
    code = textwrap.dedent(f"""
        import asyncio, pathlib
        from headrace.store.sqlite import SqliteStore, InUse
        async def main():
            try:
                await SqliteStore(pathlib.Path({str(path)!r})).open()
            except InUse as error:
                print("refused:", error)
        asyncio.run(main())
    """)
    ran = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True)
    assert "refused:" in ran.stdout, ran.stderr
    assert "in use by another process" in ran.stdout
    await store.close()
    await (await opened(path)).close()


async def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "s.db"
    await (await opened(path)).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(StoreError, match="written by a newer release"):
        await opened(path)


async def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "s.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        await opened(path)


async def test_the_file_is_private(tmp_path):
    path = tmp_path / "state" / "s.db"
    await (await opened(path)).close()
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_refused_write_loses_nothing_and_takes_no_revision(tmp_path):
    store = await opened(tmp_path / "s.db")
    first = await store.put(PREFIX + "a", value("x"), expected=0)
    limit = store._db
    await asyncio.get_running_loop().run_in_executor(
        store._thread, lambda: limit.execute("PRAGMA max_page_count = 8").fetchall()
    )
    with pytest.raises(StoreError, match="full"):
        await store.put(PREFIX + "big", lambda _: b"x" * 200_000, expected=0)
    assert store.revision == 1
    assert store.get(PREFIX + "big") is None
    await asyncio.get_running_loop().run_in_executor(
        store._thread, lambda: limit.execute("PRAGMA max_page_count = 100000").fetchall()
    )
    second = await store.put(PREFIX + "a", value("y"), expected=first.revision)
    assert second.revision == 2
    await store.close()


async def test_in_use_is_a_store_error():
    assert issubclass(InUse, StoreError)


WRITER = """
import asyncio, pathlib, sys
from headrace.store.sqlite import SqliteStore

async def write(store, name):
    current = 0
    for i in range(100000):
        record = await store.put(f"/k/{name}", lambda r: f"{i}".encode(), expected=current)
        current = record.revision
        sys.stdout.write(f"{name} {i} {record.revision}\\n")
        sys.stdout.flush()

async def main():
    store = SqliteStore(pathlib.Path(sys.argv[1]), keep=50)
    await store.open()
    await asyncio.gather(*(write(store, n) for n in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [20, 300, 900])
async def test_kill_9_loses_nothing_acknowledged(tmp_path, lines):
    path = tmp_path / "s.db"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    acknowledged = [process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.readlines()
    process.stdout.close()
    process.wait()

    newest: dict[str, tuple[int, int]] = {}
    highest = 0
    for line in acknowledged:
        if line.endswith("\n"):
            name, i, revision = line.split()
            newest[name] = (int(i), int(revision))
            highest = max(highest, int(revision))

    store = await opened(path, keep=50)
    assert store.revision >= highest
    for name, (i, revision) in newest.items():
        record = store.get(f"/k/{name}")
        assert record.revision >= revision
        assert int(record.value) >= i
    oldest = await store.compact(30)
    seen = await take(store, "/k/", oldest, store.revision - oldest)
    assert [c.record.revision for c in seen] == list(range(oldest + 1, store.revision + 1))
    following = await store.put("/k/after", value("x"), expected=0)
    assert following.revision == store.revision
    await store.close()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()

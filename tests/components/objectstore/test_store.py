"""The index and the content files: listings, shared content, garbage, what survives a kill."""

import asyncio
import datetime as dt
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from headrace.components.objectstore.store import objects
from headrace.components.objectstore.store.content import cut
from headrace.components.objectstore.store.objects import ObjectStore
from headrace.components.objectstore.types import ObjectRecord, Preconditions, S3Error, Segment, UploadRecord
from headrace.images.s3client import S3
from headrace.testing.eventually import eventually

from .conftest import serving

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
async def store(tmp_path):
    found = ObjectStore(tmp_path / "objectstore")
    found.open()
    await found.create_bucket("bucket", NOW)
    yield found
    await found.close()


async def put(store, key, data=b"x", **fields):
    writer = store.content.writer()
    await writer.feed(data)
    segments = await writer.finish(lambda: None)
    record = ObjectRecord("bucket", key, len(data), "etag", NOW, segments=segments)
    return await store.put(record, Preconditions(**fields))


async def files(store, count):
    """Wait until there are so many content files; removal happens behind the answer."""
    await eventually(lambda: len(list(store.content._root.glob("*/*"))) == count)


KEYS = ["a", "a/b", "a/b/x", "a/c/", "b/", "b/1", "b/2", "c", "d\U0001f600", "d\uffff", "é/1", "..", "/etc", "\x01"]


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("prefix", "delimiter"), [("", ""), ("", "/"), ("a", "/"), ("a/", "/"), ("b", ""), ("zz", "/"), ("", "b/")]
)
async def test_listing_in_pages_equals_the_definition(store, limit, prefix, delimiter):
    for key in KEYS:
        await put(store, key)
    keys, prefixes = [], []
    for key in sorted((k for k in KEYS if k.startswith(prefix)), key=str.encode):
        cut_at = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut_at < 0:
            keys.append(key)
        elif key[: cut_at + len(delimiter)] not in prefixes:
            prefixes.append(key[: cut_at + len(delimiter)])
    found_keys, found_prefixes, after = [], [], ""
    while True:
        page = store.list_objects("bucket", prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        assert len(page.keys) + len(page.prefixes) <= limit
        found_keys += [k.key for k in page.keys]
        found_prefixes += page.prefixes
        if not page.truncated:
            break
        after = page.next_marker
    assert (found_keys, found_prefixes) == (keys, prefixes)


async def test_a_listing_of_nothing(store):
    assert store.list_objects("bucket", limit=0).truncated is False
    with pytest.raises(S3Error, match="NoSuchBucket"):
        store.list_objects("other")


async def test_replaced_and_deleted_content_is_removed(store):
    await put(store, "k", b"one")
    await put(store, "k", b"two")
    await files(store, 1)
    await store.delete("bucket", "k")
    await files(store, 0)
    await store.delete("bucket", "k")


async def test_content_that_is_shared_stays_until_the_last_name(store):
    await put(store, "k", b"one")
    await store.copy(
        ("bucket", "k"), lambda r: ObjectRecord("bucket", "copy", r.size, r.etag, NOW, segments=r.segments)
    )
    await store.delete("bucket", "k")
    await files(store, 1)
    await store.delete("bucket", "copy")
    await files(store, 0)


async def test_a_refused_write_changes_nothing(store):
    await put(store, "k", b"one")
    with pytest.raises(S3Error, match="PreconditionFailed"):
        await put(store, "k", b"two", if_none_match="*")
    record = store.get("bucket", "k")
    assert b"".join([d async for d in store.content.read(record.segments, 0, 3)]) == b"one"


async def test_of_many_conditional_writers_one_wins(store):
    results = await asyncio.gather(
        *(put(store, "k", str(i).encode(), if_none_match="*") for i in range(20)), return_exceptions=True
    )
    assert sum(isinstance(r, ObjectRecord) for r in results) == 1
    assert all(isinstance(r, ObjectRecord | S3Error) for r in results)


async def test_a_reader_keeps_its_content(store):
    await put(store, "k", b"old" * 1_000_000)
    record = store.get("bucket", "k")
    release = store.content.pin(record.segments)
    reader = store.content.read(record.segments, 0, record.size)
    await store.delete("bucket", "k")
    assert len(b"".join([d async for d in reader])) == 3_000_000
    await files(store, 1)
    release()
    await files(store, 0)


async def test_content_that_nothing_names_is_collected_at_the_next_start(tmp_path):
    folder = tmp_path / "objectstore"
    first = ObjectStore(folder)
    first.open()
    await first.create_bucket("bucket", NOW)
    await put(first, "k", b"kept")
    writer = first.content.writer()
    await writer.feed(b"orphan")
    await writer.finish(lambda: None)
    await first.close()
    next((folder / "content").iterdir()).joinpath("README").write_text("not ours")

    second = ObjectStore(folder)
    second.open()
    writer = second.content.writer()
    await writer.feed(b"in the making")
    await writer.finish(lambda: None)
    assert await second.collect() == 1
    await files(second, 3)
    assert second.get("bucket", "k").size == 4
    await second.close()


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, 10, [("a", 5, 3), ("b", 0, 7)]),
        (0, 2, [("a", 5, 2)]),
        (2, 2, [("a", 7, 1), ("b", 0, 1)]),
        (3, 7, [("b", 0, 7)]),
        (9, 1, [("b", 6, 1)]),
        (4, 0, []),
    ],
)
def test_cutting_segments(start, length, expected):
    segments = (Segment("a", 5, 3), Segment("b", 0, 7))
    assert cut(segments, start, length) == [Segment(*e) for e in expected]


SERVER = """
    import asyncio, pathlib, sys
    from headrace.components.objectstore import policy
    from headrace.components.objectstore.api.app import App
    from headrace.components.objectstore.store.objects import ObjectStore
    from headrace.machinery.clock import SystemClock
    from headrace.machinery.serve import Server

    async def find(key):
        return policy.ADMINISTRATOR

    async def main():
        store = ObjectStore(pathlib.Path(sys.argv[1]))
        store.open()
        await store.create_bucket("mlpipeline", SystemClock().precise())
        server = Server(App(store, SystemClock(), find, ()), "127.0.0.1", 0)
        await server.start()
        print(server.address[1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
"""


def test_what_was_acknowledged_survives_a_kill(server, tmp_path):
    """A server killed in the middle of uploads loses nothing that it acknowledged and keeps no halves."""
    folder = tmp_path / "objectstore"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVER), str(folder)], stdout=subprocess.PIPE, text=True
    )
    acknowledged = {}
    try:
        port = int(process.stdout.readline())
        s3 = S3(f"http://127.0.0.1:{port}", "minio", "minio123", patience=0.0)
        for i in range(40):
            key, data = f"run/{i % 7}/{i}", os.urandom(1000 + 40_000 * (i % 5))
            s3.put("mlpipeline", key, data)
            acknowledged[key] = data
        body = s3._sign("PUT", "/mlpipeline/half", {}, {}, "UNSIGNED-PAYLOAD")
        connection = s3._connection()
        connection.putrequest("PUT", "/mlpipeline/half", skip_host=True, skip_accept_encoding=True)
        for name, value in {**body, "content-length": "9000000"}.items():
            connection.putheader(name, value)
        connection.endheaders(b"h" * 5_000_000)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        s3.close()

    with serving(server, folder) as again:
        s3 = again.s3()
        assert {key for key, _ in s3.list("mlpipeline", "")} == set(acknowledged)
        for key, data in acknowledged.items():
            assert s3.get("mlpipeline", key) == data
        deadline = time.monotonic() + 10
        while len(again.files) != len(acknowledged):
            assert time.monotonic() < deadline
            time.sleep(0.005)


async def test_everything_below_a_prefix_goes_and_nothing_beside_it(store, monkeypatch):
    monkeypatch.setattr(objects, "BATCH", 2)
    for key in ("artifacts/team/a", "artifacts/team/b/c", "artifacts/team/d", "artifacts/team-b/a", "artifacts/tea"):
        await put(store, key)
    upload = UploadRecord("", "bucket", "artifacts/team/e", NOW)
    await store.create_upload(upload)
    await files(store, 5)
    for _ in range(2):
        await store.delete_below("bucket", "artifacts/team/")
        assert [k.key for k in store.list_objects("bucket").keys] == ["artifacts/tea", "artifacts/team-b/a"]
        assert store.uploads("bucket") == []
        await files(store, 2)

"""Properties under concurrency, over any schedule that hypothesis thinks of: no update is lost under optimistic
concurrency, and a watch, cut off and taken up again as often as one likes, shows every change once and in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.api.core import ConfigMap
from headrace.api.errors import Conflict, Gone
from headrace.api.meta import ObjectMeta
from headrace.apiserver.pki.authority import ensure
from headrace.client.base import EventType
from headrace.client.http import HttpClient
from headrace.machinery.settings import Settings
from headrace.store.base import Compacted, RevisionMismatch
from headrace.store.memory import MemoryStore
from headrace.store.sqlite import SqliteStore
from headrace.testing.http import http_cluster

PREFIX = "/registry/core/configmaps/"
KEYS = [f"{PREFIX}{name}" for name in "abc"]
OFTEN = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
SELDOM = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


@contextlib.asynccontextmanager
async def opened(kind):
    with tempfile.TemporaryDirectory() as folder:
        store = MemoryStore() if kind == "memory" else SqliteStore(Path(folder) / "s.db")
        await store.open()
        try:
            yield store
        finally:
            await store.close()


steps = st.lists(st.tuples(st.sampled_from(["add", "delete"]), st.sampled_from(KEYS), st.integers(0, 3)), max_size=12)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@OFTEN
@given(writers=st.lists(steps, min_size=2, max_size=5), cuts=st.lists(st.integers(1, 5), max_size=10))
def test_a_store_loses_no_update_and_its_watches_show_all_of_them(kind, writers, cuts):
    async def run():
        async with opened(kind) as store:
            done: dict[int, tuple[str, int]] = {}
            """By revision, what its writer wanted: the key and the value, -1 for a deletion."""

            async def write(script):
                for action, key, pause in script:
                    while True:
                        record = store.get(key)
                        for _ in range(pause):
                            await asyncio.sleep(0)
                        seen = int(record.value.split(b"@")[0]) if record else 0
                        expected = record.revision if record else 0
                        if action == "delete" and record is None:
                            break
                        try:
                            if action == "delete":
                                written = await store.delete(key, lambda rv: b"-1@%d" % rv, expected=expected)
                                done[written.revision] = (key, -1)
                            else:
                                value = seen + 1
                                written = await store.put(
                                    key, lambda rv, v=value: b"%d@%d" % (v, rv), expected=expected
                                )
                                done[written.revision] = (key, value)
                        except RevisionMismatch:
                            continue
                        break

            shown: list[tuple[int, str, int]] = []

            async def watch(last):
                """Taken up again after every few changes, from what was seen last."""
                for count in itertools.cycle([*cuts, 3]):
                    changes = store.watch(PREFIX, after=shown[-1][0] if shown else 0)
                    for _ in range(count):
                        if shown and last.done() and shown[-1][0] >= last.result():
                            return
                        if last.done() and last.result() == 0:
                            return
                        waiting = asyncio.ensure_future(anext(changes))
                        await asyncio.wait([waiting, last], return_when=asyncio.FIRST_COMPLETED)
                        if not waiting.done() and (shown[-1][0] if shown else 0) >= last.result():
                            waiting.cancel()
                            return
                        change = await waiting
                        shown.append(
                            (change.record.revision, change.record.key, int(change.record.value.split(b"@")[0]))
                        )

            last = asyncio.get_running_loop().create_future()
            watching = asyncio.create_task(watch(last))
            await asyncio.gather(*(write(script) for script in writers))
            last.set_result(store.revision)
            await asyncio.wait_for(watching, 30)

            assert sorted(done) == list(range(1, store.revision + 1)), "every revision has one writer"
            assert shown == [(revision, *done[revision]) for revision in sorted(done)]
            now: dict[str, int] = {}
            for _, (key, value) in sorted(done.items()):
                assert value in {-1, now.get(key, 0) + 1}, "a writer has overwritten what it did not see"
                now[key] = max(value, 0)
            assert {r.key: int(r.value.split(b"@")[0]) for r in store.range(PREFIX)} == {
                k: v for k, v in now.items() if v
            }

    asyncio.run(run())


@OFTEN
@given(
    script=st.lists(st.sampled_from(["write", "read", "compact", "cut"]), min_size=1, max_size=60),
    keep=st.integers(0, 6),
)
def test_a_watch_that_fell_behind_is_told_and_never_skips(script, keep):
    """Its reader lists again when it hears Compacted; between lists there is no gap."""

    async def run():
        store = MemoryStore(keep=8, watcher_limit=4)
        await store.open()
        counter, position = 0, 0
        changes = store.watch(PREFIX, after=0)

        def again():
            """List, then watch from there."""
            nonlocal changes, position
            position = store.revision
            changes = store.watch(PREFIX, after=position)

        for action in script:
            match action:
                case "write":
                    record = store.get(KEYS[0])
                    counter += 1
                    await store.put(KEYS[0], lambda rv: b"%d" % rv, expected=record.revision if record else 0)
                case "compact":
                    await store.compact(keep)
                case "cut":
                    try:
                        changes = store.watch(PREFIX, after=position)
                    except Compacted:
                        again()
                case "read" if changes.ready():
                    try:
                        change = await anext(changes)
                    except Compacted:
                        again()
                    else:
                        assert change.record.revision == position + 1, "a gap"
                        position += 1
        assert store.revision == counter
        await store.close()

    asyncio.run(run())


class Relay:
    """A TCP relay to a port, whose connections can be cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task] = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, back}

        async def pump(source, target):
            with contextlib.suppress(ConnectionError):
                while data := await source.read(1 << 16):
                    target.write(data)
                    await target.drain()
            target.transport.abort()

        await asyncio.gather(pump(reader, back), pump(there, writer))
        self._writers -= {writer, back}


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return ensure(Settings(tmp_path_factory.mktemp("pki")))


@SELDOM
@given(writers=st.integers(2, 5), each=st.integers(1, 6), cuts=st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_over_http_no_increment_is_lost_and_a_watch_that_is_cut_goes_on_without_a_gap(pki, writers, each, cuts):
    async def run(home):
        async with (
            http_cluster(home, pki=pki) as cluster,
            Relay(cluster.server.port) as relay,
            HttpClient.from_kubeconfig(cluster.kubeconfig) as client,
        ):
            relayed = home / "relayed"
            text = cluster.kubeconfig.read_text().replace(f":{cluster.server.port}", f":{relay.port}")
            relayed.write_text(text)
            meta = ObjectMeta(name="counter", namespace="default")
            start = await client.create(ConfigMap(metadata=meta, data={"n": "0"}))
            conflicts = 0

            async def increment():
                nonlocal conflicts
                for _ in range(each):
                    while True:
                        found = await client.get(ConfigMap, "counter", "default")
                        found.data["n"] = str(int(found.data["n"]) + 1)
                        try:
                            await client.update(found)
                            break
                        except Conflict:
                            conflicts += 1

            async def watch(total):
                shown, cutting = [], itertools.cycle(cuts)
                until = next(cutting)
                async with HttpClient.from_kubeconfig(relayed) as watcher:
                    version = start.metadata.resource_version
                    async for event in watcher.watch(ConfigMap, "default", resource_version=version):
                        assert event.type is EventType.MODIFIED
                        shown.append((int(event.object.data["n"]), int(event.object.metadata.resource_version)))
                        if len(shown) == total:
                            return shown
                        until -= 1
                        if until == 0:
                            until = next(cutting)
                            relay.cut()
                return shown

            total = writers * each
            watching = asyncio.create_task(watch(total))
            await asyncio.gather(*(increment() for _ in range(writers)))
            shown = await asyncio.wait_for(watching, 60)
            assert [n for n, _ in shown] == list(range(1, total + 1))
            versions = [v for _, v in shown]
            assert versions == sorted(set(versions))
            assert (await client.get(ConfigMap, "counter", "default")).data == {"n": str(total)}

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


async def test_a_watch_over_http_from_a_version_that_is_forgotten_ends_with_gone(tmp_path, pki):
    async with (
        http_cluster(tmp_path, pki=pki, store=MemoryStore(keep=4)) as cluster,
        HttpClient.from_kubeconfig(cluster.kubeconfig) as client,
    ):
        first = await client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace="default")))
        for i in range(8):
            await client.patch(ConfigMap, "a", {"data": {"n": str(i)}}, "default")
        with pytest.raises(Gone):
            await anext(client.watch(ConfigMap, "default", resource_version=first.metadata.resource_version))

"""Both stores keep the store contract."""

import pytest

from headrace.store.memory import MemoryStore
from headrace.store.sqlite import SqliteStore
from headrace.testing.contracts.store import SlowWatcherContract, StoreContract


class TestMemory(StoreContract, SlowWatcherContract):
    @pytest.fixture
    async def store(self):
        store = MemoryStore()
        await store.open()
        yield store
        await store.close()

    @pytest.fixture
    async def narrow_store(self):
        store = MemoryStore(watcher_limit=4)
        await store.open()
        yield store
        await store.close()


class TestSqlite(StoreContract, SlowWatcherContract):
    @pytest.fixture
    async def store(self, tmp_path):
        store = SqliteStore(tmp_path / "store.db")
        await store.open()
        yield store
        await store.close()

    @pytest.fixture
    async def narrow_store(self, tmp_path):
        store = SqliteStore(tmp_path / "narrow.db", watcher_limit=4)
        await store.open()
        yield store
        await store.close()

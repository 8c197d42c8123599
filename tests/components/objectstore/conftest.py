"""A running store on an ephemeral port, in a thread of its own, so that synchronous clients can call it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from headrace.components.objectstore import policy
from headrace.components.objectstore.api.app import App
from headrace.components.objectstore.component import domains
from headrace.components.objectstore.store.objects import ObjectStore
from headrace.components.objectstore.types import Principal
from headrace.images.s3client import S3
from headrace.machinery.clock import SystemClock
from headrace.machinery.serve import Server

if TYPE_CHECKING:
    from pathlib import Path

PROFILE = Principal("team-a-key", "team-a-secret", "team-a")
PRINCIPALS = {p.access_key: p for p in (policy.ADMINISTRATOR, PROFILE)}


@dataclass
class Running:
    endpoint: str
    folder: Path
    store: ObjectStore
    clients: list[S3]

    @property
    def files(self) -> list[Path]:
        return sorted(p for p in (self.folder / "content").glob("*/*"))

    def s3(self, principal: Principal = policy.ADMINISTRATOR) -> S3:
        return self.client(principal.access_key, principal.secret_key)

    def client(self, access_key: str, secret_key: str) -> S3:
        self.clients.append(S3(self.endpoint, access_key, secret_key, patience=5.0))
        return self.clients[-1]


class Loop:
    """An event loop in a thread."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="store under test")
        self._thread.start()

    def run(self, coro):
        return asyncio.run_coroutine_threadsafe(coro, self._loop).result(20)

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def find(access_key: str) -> Principal | None:
    return PRINCIPALS.get(access_key)


@pytest.fixture(scope="session")
def server():
    """One listening server; each test gives it a store of its own."""
    loop = Loop()
    app = App(None, SystemClock(), find, domains())
    listening = Server(app, "127.0.0.1", 0)
    loop.run(listening.start())
    yield loop, app, f"http://127.0.0.1:{listening.address[1]}"
    loop.run(listening.stop())
    loop.close()


@contextlib.contextmanager
def serving(server, folder: Path):
    loop, app, endpoint = server
    app._store = store = ObjectStore(folder)
    clients: list[S3] = []

    async def start() -> None:
        store.open()
        await store.create_bucket(policy.DEFAULT_BUCKET, SystemClock().precise())
        await store.collect()

    loop.run(start())
    try:
        yield Running(endpoint, folder, store, clients)
    finally:
        for client in clients:
            client.close()
        loop.run(store.close())


@pytest.fixture
def running(server, tmp_path):
    with serving(server, tmp_path / "objectstore") as found:
        yield found

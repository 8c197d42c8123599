from __future__ import annotations

import pytest

from headrace.components.pipelines.migrations import upgrade
from headrace.components.pipelines.store.catalog import Catalog
from headrace.components.pipelines.store.repository import RunRepository
from headrace.machinery.sql import Database
from headrace.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def database(database_url):
    opened = Database(database_url)
    await opened.open(upgrade)
    yield opened
    await opened.close()


@pytest.fixture
def repository(database, clock) -> RunRepository:
    return RunRepository(database, clock)


@pytest.fixture
def catalog(database, clock) -> Catalog:
    return Catalog(database, clock)

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

NAME = "pipelines_harness"
"""The harness under a name that test modules can import, here and in tests/conformance/pipelines."""
if NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(NAME, Path(__file__).with_name("harness.py"))
    sys.modules[NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[NAME])


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """A migrated database, to be copied: migrating takes longer than most tests."""
    import sqlalchemy as sa

    from headrace.components.pipelines.migrations import upgrade

    path = tmp_path_factory.mktemp("pipelines") / "empty.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()
    return path


@pytest.fixture
def database_url(tmp_path, empty_database) -> str:
    return f"sqlite:///{shutil.copy(empty_database, tmp_path / 'pipelines.db')}"


@pytest.fixture
async def api(database_url):
    from pipelines_harness import serve

    async with serve(database_url) as running:
        yield running

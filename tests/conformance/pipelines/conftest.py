from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

COMPONENT = Path(__file__).parents[2] / "components" / "pipelines"
HARNESSES = {
    "pipelines_harness": COMPONENT / "harness.py",
    "pipelines_laboratory": COMPONENT / "engine" / "conftest.py",
}
"""Under names that test modules can import."""
for _name, _path in HARNESSES.items():
    if _name not in sys.modules:
        _spec = importlib.util.spec_from_file_location(_name, _path)
        sys.modules[_name] = importlib.util.module_from_spec(_spec)
        _spec.loader.exec_module(sys.modules[_name])

from pipelines_laboratory import lab  # noqa: E402, F401 - a fixture


@pytest.fixture
def database_url(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'pipelines.db'}"


@pytest.fixture
async def api(database_url):
    from pipelines_harness import serve

    async with serve(database_url) as running:
        yield running

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

NAME = "pipelines_harness"
if NAME not in sys.modules:
    _path = Path(__file__).parents[2] / "components" / "pipelines" / "harness.py"
    _spec = importlib.util.spec_from_file_location(NAME, _path)
    sys.modules[NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[NAME])


@pytest.fixture
async def api(tmp_path):
    from pipelines_harness import serve

    async with serve(f"sqlite:///{tmp_path / 'pipelines.db'}") as running:
        yield running

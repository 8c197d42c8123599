"""The control plane is killed again and again under a mixed load; see `faults.py` for what must hold."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest

from .faults import Storm

pytestmark = pytest.mark.node


@pytest.fixture
def home():
    # Not pytest's own folder: its name is too long for the sockets of pods.
    with tempfile.TemporaryDirectory(prefix="headrace-faults-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("sh") is None, reason="the Jobs need a shell")
def test_kills_cost_nothing_that_was_promised(home: Path) -> None:
    storm = Storm(home, seed=3)
    asyncio.run(storm.run(8))
    assert storm.counts["kills"] == 8
    assert storm.counts["acknowledged writes"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_kills_cost_nothing_that_was_promised(home: Path) -> None:
    storm = Storm(home, seed=200)
    asyncio.run(storm.run(200))
    assert storm.counts["kills"] == 200

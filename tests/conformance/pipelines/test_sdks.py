"""Every public method of the SDK's clients, called by a program of its own against the API, the engine and real steps.

The installed SDK drives it. Others do as well where HEADRACE_KFP_PYTHONS names interpreters that have them (a list as
in PATH); the versions that were tried are in `parity.yaml`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from pipelines_harness import HOME

pytestmark = pytest.mark.clients

SWEEP = Path(__file__).parent / "sdk" / "sweep.py"
PYTHONS = [sys.executable, *filter(None, os.environ.get("HEADRACE_KFP_PYTHONS", "").split(os.pathsep))]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.timeout(600)
async def test_every_public_method_of_the_clients(lab, python):
    process = await asyncio.create_subprocess_exec(
        python,
        str(SWEEP),
        lab.api.url,
        "editor",
        HOME,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    assert "every public method was called" in output.decode()

"""Every public method of the SDK's clients, called by a program of its own against the API, the engine and real steps.

The installed SDK drives it. Others do as well where HEADRACE_KFP_PYTHONS names interpreters that have them (a list as
in PATH), also one with kfp 1.8; the versions that were tried are in `parity.yaml`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from pipelines_harness import HOME

pytestmark = pytest.mark.clients

FOLDER = Path(__file__).parent / "sdk"
SWEEPS = {"1": FOLDER / "sweep_v1.py", "2": FOLDER / "sweep.py"}
"""By the SDK's major version."""
PYTHONS = [sys.executable, *filter(None, os.environ.get("HEADRACE_KFP_PYTHONS", "").split(os.pathsep))]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.timeout(600)
async def test_every_public_method_of_the_clients(lab, python):
    version = await said(python, "-W", "ignore", "-c", "import kfp; print(kfp.__version__)")
    sweep = SWEEPS[version.strip().splitlines()[-1].partition(".")[0]]
    output = await said(python, str(sweep), lab.api.url, "editor", HOME)
    assert "every public method was called" in output


async def said(*command: str) -> str:
    """What a program writes that ends well."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    return output.decode()

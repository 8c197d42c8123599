"""The compiled example that the dashboard starts is what the SDK makes of its source."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest
import yaml

from headrace.machinery.examples import DIGITS, example


@pytest.mark.clients
async def test_the_compiled_example_is_up_to_date(tmp_path):
    folder = example(DIGITS, "pipeline.yaml")
    assert folder is not None
    made = tmp_path / "made.yaml"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "ignore",
        str(folder / "pipeline.py"),
        str(made),
        env=environment,
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    _, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    kept, compiled = (yaml.safe_load(path.read_text()) for path in (folder / "pipeline.yaml", made))
    assert kept.pop("sdkVersion").startswith("kfp-")
    compiled.pop("sdkVersion")
    assert kept == compiled, "run `python pipeline.py pipeline.yaml` in examples/01-digits"


def test_an_example_that_is_missing():
    assert example("02-nothing", "pipeline.yaml") is None
    assert example(DIGITS, "nothing.yaml") is None

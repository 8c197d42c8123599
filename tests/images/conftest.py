"""Where programs for pods find the interpreter of their environment."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace.machinery.clock import SystemClock
from headrace.machinery.settings import Settings
from headrace.node.images.service import ImageError, Images

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGES = Path(__file__).parents[2] / "src" / "headrace" / "images"


@pytest.fixture(scope="session")
def images() -> Path:
    return IMAGES


async def _build(home: Path) -> str:
    resolver = Images(Settings(home=home), SystemClock())
    try:
        environment = await resolver.resolve("kserve/sklearnserver:v0.21.0")
    finally:
        await resolver.close()
    return str(environment.python)


@pytest.fixture(scope="session")
def sklearn_python() -> Iterator[str]:
    """The Python that a pod of image kserve/sklearnserver gets; HEADRACE_TEST_SKLEARN_PYTHON names a ready one."""
    given = os.environ.get("HEADRACE_TEST_SKLEARN_PYTHON")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="headrace-test-", ignore_cleanup_errors=True) as home:
        try:
            python = asyncio.run(_build(Path(home)))
        except ImageError as error:
            pytest.skip(f"the environment of kserve/sklearnserver cannot be built here: {error}")
        yield python

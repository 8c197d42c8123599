"""Where programs for pods find the interpreter of their environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

IMAGES = Path(__file__).parents[2] / "src" / "headrace" / "images"


@pytest.fixture(scope="session")
def images() -> Path:
    return IMAGES


@pytest.fixture(scope="session")
def sklearn_python() -> str:
    """The Python of the scikit-learn environment."""
    given = os.environ.get("HEADRACE_TEST_SKLEARN_PYTHON")
    if not given:
        pytest.skip("set HEADRACE_TEST_SKLEARN_PYTHON to a Python that has scikit-learn, pandas, uvicorn and msgspec")
    return given

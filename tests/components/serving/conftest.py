"""InferenceServices for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headrace.api import _wire
from headrace.components.serving.types import InferenceService

if TYPE_CHECKING:
    from collections.abc import Callable


def _make(predictor: dict[str, Any] | None = None, **metadata: Any) -> InferenceService:
    given = predictor if predictor is not None else {"sklearn": {"storageUri": "s3://mlpipeline/models/digits"}}
    meta = {"name": "digits", "namespace": "ml", **metadata}
    return _wire.convert(InferenceService, {"metadata": meta, "spec": {"predictor": given}})


@pytest.fixture
def make_isvc() -> Callable[..., InferenceService]:
    return _make

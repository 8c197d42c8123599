"""The one place that calls encoders."""

import pytest

from headrace.api import _wire
from headrace.api.core import Pod


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000], ids=["lists", "objects"])
def test_json_that_is_nested_without_end_is_not_json(body):
    """Every edge refuses DecodeError in its own dialect; RecursionError would be a fault of the server."""
    with pytest.raises(_wire.DecodeError, match="deep"):
        _wire.decode_any(body)
    with pytest.raises(_wire.DecodeError):
        _wire.decode(Pod, body)

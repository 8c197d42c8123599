"""The one place that calls encoders."""

import tracemalloc

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


def test_what_is_to_stay_takes_no_more_memory_than_it_needs():
    value, kept = {"text": "x" * 8000}, []
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept += [_wire.encode_to_keep(value) for _ in range(100)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept[0] == _wire.encode(value)
    assert after - before < sum(map(len, kept)) * 1.1

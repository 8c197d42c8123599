"""Canonical quantities, as the real server writes them back."""

import pytest

from headrace.api.quantity import canonical


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (1, "1"),
        (0.5, "500m"),
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1000Ki", "1000Ki"),
        ("100Mi", "100Mi"),
        ("1G", "1G"),
        ("1.5G", "1500M"),
        ("1000000", "1M"),
        (4000000000, "4G"),
        ("1e3", "1e3"),
        ("12e6", "12e6"),
        ("0", "0"),
        ("0Gi", "0"),
        ("0.1n", "1n"),
        ("1.23456789", "1234567890n"),
        ("-1500m", "-1500m"),
        ("nonsense", "nonsense"),
        (True, True),
    ],
)
def test_canonical(sent, stored):
    assert canonical(sent) == stored
    assert canonical(stored) == stored

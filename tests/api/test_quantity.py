"""Quantities: upstream's table (apimachinery, quantity_test.go) and what is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.quantity import parse

KI, MI, GI, TI = 1024, 1024**2, 1024**3, 1024**4
MAX = 2**63 - 1

ACCEPTED = {
    **dict.fromkeys(("0", "0n", "0u", "0m", "0Ki", "0k", "0Mi", "0M", "0Gi", "0G", "0Ti", "0T"), "0"),
    "1": "1",
    "1Ki": KI,
    "8Ki": 8 * KI,
    "7Mi": 7 * MI,
    "6Gi": 6 * GI,
    "5Ti": 5 * TI,
    "4Pi": 4 * 1024**5,
    "3Ei": 3 * 1024**6,
    "5n": "5e-9",
    "4u": "4e-6",
    "3m": "0.003",
    "500m": "0.5",
    "8k": 8000,
    "50k": 50_000,
    "7M": 7 * 10**6,
    "6G": 6 * 10**9,
    "40T": 4 * 10**13,
    "2P": 2 * 10**15,
    "1E": 10**18,
    "1E-3": "0.001",
    "1e3": 1000,
    "1E6": 10**6,
    "1e14": 10**14,
    "1.3E+6": 1_300_000,
    "1.53E12": 1_530_000_000_000,
    "100.035k": 100_035,
    "0.0005k": "0.5",
    "0.00050k": "0.5",
    "0.05000": "0.05",
    "0.5e-2": "0.005",
    "10.035M": 10_035_000,
    "9.01": "9.01",
    "1.01E": 101 * 10**16,
    # finer than a nano
    "3.001n": "4e-9",
    "1.1E-9": "2e-9",
    "0.0000000001": "1e-9",
    "0.5e-9": "1e-9",
    "0.9n": "1e-9",
    "0.00000012345": "124e-9",
    # beyond 2^63 - 1
    "9Ei": MAX,
    "9223372036854775807Ki": MAX,
    "12E": 12 * 10**18,
    # fractions of binary units
    "100.035Ki": "102435.84",
    "0.5Mi": MI // 2,
    "0.05Gi": "53687091.2",
    "0.025Ti": "27487790694.4",
    # written by trolls
    "0.000000000001Ki": "2e-9",
    ".001": "0.001",
    ".0001k": "0.1",
    "1.": 1,
    "1.G": 10**9,
}
REFUSED = (
    *("", "1.1.M", "1+1.0M", "0.1mi", "0.1am", "aoeu", ".5i", "1i", "-3.01i", "-3.01e-", " 1", "1 ", "1\n"),
    *("1K", "1KI", "1ki", "1mm", "1Mi0", "1e", "1e1.5", "--1", "+-1", "0x10", "1_000", "1,5", "nan", "Infinity"),
    *("\N{ARABIC-INDIC DIGIT THREE}", "\N{FULLWIDTH DIGIT ONE}", "1e100", "1e999999999999", "1e-1000", "9" * 101),
    # upstream takes these for zero; nobody means that
    *(".", "+", "-", "Ki", "+m"),
)


@pytest.mark.parametrize(("text", "number"), ACCEPTED.items())
def test_what_upstream_accepts_has_upstreams_value_with_any_sign(text, number):
    expected = Decimal(number)
    assert parse(text) == expected
    assert parse(f"+{text}") == expected
    assert parse(f"-{text}") == -expected


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_quantity_is_refused_with_a_sentence_that_has_it(text):
    with pytest.raises(ValueError, match="is not a quantity: ") as caught:
        parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("value", "number"), [(2, "2"), (0, "0"), (-1, "-1"), (0.5, "0.5"), (1e22, "1e22"), (1e-7, "1e-7"), (0.1, "0.1")]
)
def test_numbers_are_taken_as_they_are_written(value, number):
    assert parse(value) == Decimal(number)


@pytest.mark.parametrize("value", [True, False, float("nan"), float("inf"), float("-inf")])
def test_what_is_a_number_for_python_only_is_refused(value):
    with pytest.raises(ValueError, match="is not a quantity"):
        parse(value)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["", "n", "u", "m", "k", "M", "G", "Ki", "Mi"]))
def test_whole_numbers_are_exact_and_can_be_made_integers(number, suffix):
    scale = {"": 1, "n": "1e-9", "u": "1e-6", "m": "1e-3", "k": 10**3, "M": 10**6, "G": 10**9, "Ki": KI, "Mi": MI}
    parsed = parse(f"{number}{suffix}")
    assert parsed == Decimal(number) * Decimal(scale[suffix])
    assert int(parsed) == int(Decimal(number) * Decimal(scale[suffix]))


@given(st.text(alphabet="0123456789.+-eEinumkKMGTP ", max_size=12))
def test_anything_else_is_a_value_error_and_nothing_worse(text):
    try:
        parsed = parse(text)
    except ValueError:
        return
    assert parsed.is_finite()
    assert parsed.as_tuple().exponent >= -9 or parsed == 0

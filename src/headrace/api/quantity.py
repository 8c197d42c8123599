"""Resource quantities (k8s.io/apimachinery/pkg/api/resource): `500m`, `2`, `1.5Gi`, `1e3`.

As upstream: nothing is finer than a nano, what is finer is rounded away from zero; binary quantities end at
2^63 - 1. Stricter than upstream: a number has a digit, and an exponent is one that somebody could mean.
"""

from __future__ import annotations

import re
from decimal import ROUND_UP, Context, Decimal
from functools import lru_cache
from typing import Any

_PATTERN = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,18})?")
_SUFFIX = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    **{f"{letter}i": Decimal(1024 ** (i + 1)) for i, letter in enumerate("KMGTPE")},
}
_DECIMAL_SUFFIX = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_BINARY_SUFFIX = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_NANO = Decimal("1e-9")
_MAX_BINARY = Decimal(2**63 - 1)
_MAX_EXPONENT = 99
_MAX_DIGITS = 100
_EXACT = Context(prec=2 * (_MAX_DIGITS + _MAX_EXPONENT))


@lru_cache(maxsize=2048, typed=True)
def parse(value: str | float) -> Decimal:
    """The quantity's number: cores for cpu, bytes for memory. Raises ValueError with a sentence."""
    text = value if isinstance(value, str) else str(value)
    match = _PATTERN.fullmatch(text)
    if match is None or isinstance(value, bool) or len(text) > _MAX_DIGITS:
        raise ValueError(f"{value!r} is not a quantity: expected a number with an optional suffix such as m, Ki or G")
    number, suffix = match.groups(default="")
    if suffix[:1] in {"e", "E"} and len(suffix) > 1 and suffix != "Ei":
        exponent = int(suffix[1:])
        if abs(exponent) > _MAX_EXPONENT:
            raise ValueError(f"{value!r} is not a quantity: its exponent is beyond {_MAX_EXPONENT}")
        amount = Decimal(number).scaleb(exponent, _EXACT)
    else:
        amount = _EXACT.multiply(Decimal(number), _SUFFIX.get(suffix, Decimal(1)))
    if suffix.endswith("i"):
        amount = max(min(amount, _MAX_BINARY), -_MAX_BINARY)
    places = amount.as_tuple().exponent
    return amount.quantize(_NANO, ROUND_UP, _EXACT) if isinstance(places, int) and places < -9 else amount


def canonical(value: Any) -> Any:
    """The canonical text of a quantity; what is no quantity comes back as it is, for validation to name."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    try:
        number = parse(value)
    except ValueError:
        return value
    text = str(value).strip()
    if text.endswith("i") and abs(number) >= 1024:
        return _binary(number)
    if text[-1].isdigit() and ("e" in text or "E" in text):
        return _exponent(number)
    return _decimal(number)


def _decimal(number: Decimal) -> str:
    if number == 0:
        return "0"
    power = max(_power(number) // 3, -3)
    scaled = number / Decimal(1000) ** power
    if power == -3:
        scaled = scaled.to_integral_value(rounding="ROUND_UP")
    power = min(power, 6)
    return f"{_plain(number / Decimal(1000) ** power if power > -3 else scaled)}{_DECIMAL_SUFFIX[power + 3]}"


def _binary(number: Decimal) -> str:
    if number != number.to_integral_value():
        return _decimal(number)
    whole, power = int(number), 0
    while power < len(_BINARY_SUFFIX) - 1 and whole % 1024 == 0:
        whole //= 1024
        power += 1
    return f"{whole}{_BINARY_SUFFIX[power]}"


def _exponent(number: Decimal) -> str:
    power = _power(number) // 3 * 3 if number else 0
    return f"{_plain(number.scaleb(-power))}{f'e{power}' if power else ''}"


def _power(number: Decimal) -> int:
    """How many zeros end the number (negative: how many places it has)."""
    exponent = number.normalize().as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _plain(number: Decimal) -> str:
    return f"{number.quantize(Decimal(1)):f}"


def text(number: Decimal, *, binary: bool) -> str:
    """A number in canonical form: with binary suffixes where it is large and whole, else with decimal ones."""
    return _binary(number) if binary and abs(number) >= 1024 else _decimal(number)

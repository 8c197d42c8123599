"""Quantities in canonical form, as the real server writes them back: `0.5` becomes `500m`, `1024Mi` becomes `1Gi`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from headrace.api import quantity

_DECIMAL = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def canonical(value: Any) -> Any:
    """The canonical text of a quantity; what is no quantity comes back as it is, for validation to name."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    try:
        number = quantity.parse(value)
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
    return f"{_plain(number / Decimal(1000) ** power if power > -3 else scaled)}{_DECIMAL[power + 3]}"


def _binary(number: Decimal) -> str:
    if number != number.to_integral_value():
        return _decimal(number)
    whole, power = int(number), 0
    while power < len(_BINARY) - 1 and whole % 1024 == 0:
        whole //= 1024
        power += 1
    return f"{whole}{_BINARY[power]}"


def _exponent(number: Decimal) -> str:
    power = _power(number) // 3 * 3 if number else 0
    return f"{_plain(number.scaleb(-power))}{f'e{power}' if power else ''}"


def _power(number: Decimal) -> int:
    """How many zeros end the number (negative: how many places it has)."""
    exponent = number.normalize().as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _plain(number: Decimal) -> str:
    return f"{number.quantize(Decimal(1)):f}"


def canonical_list(resources: Any) -> None:
    """Every quantity of a resource list, in place."""
    if isinstance(resources, dict):
        for key, value in resources.items():
            resources[key] = canonical(value)

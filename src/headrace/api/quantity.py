"""Resource quantities (k8s.io/apimachinery/pkg/api/resource): `500m`, `2`, `1.5Gi`, `1e3`."""

from __future__ import annotations

import re
from decimal import Decimal

_PATTERN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
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


def parse(value: str | float) -> Decimal:
    """The quantity's number: cores for cpu, bytes for memory. Raises ValueError with a sentence."""
    if isinstance(value, int | float):
        return Decimal(str(value))
    match = _PATTERN.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a quantity: expected a number with an optional suffix such as m, Ki or G")
    number, suffix = match.groups()
    if not suffix:
        return Decimal(number)
    if suffix[0] in "eE" and len(suffix) > 1:
        return Decimal(number + suffix)
    return Decimal(number) * _SUFFIX[suffix]

"""Quantities in canonical form, as the real server writes them back: `0.5` becomes `500m`, `1024Mi` becomes `1Gi`."""

from __future__ import annotations

from typing import Any

from headrace.api.quantity import canonical


def canonical_list(resources: Any) -> None:
    """Every quantity of a resource list, in place."""
    if isinstance(resources, dict):
        for key, value in resources.items():
            resources[key] = canonical(value)

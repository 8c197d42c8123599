"""The metrics that a component of kfp 1 writes into a file (`mlpipeline-metrics`).

Upstream's persistence agent reads such files and reports what is in them; here they are read when the step reports.
"""

from __future__ import annotations

import json
import math
from typing import Any

from headrace.components.pipelines.store.models import Metric

OUTPUTS = frozenset({"mlpipeline-metrics", "mlpipeline_metrics"})
MAX_BYTES = 64 << 10
MAX_METRICS = 50
MAX_NAME = 191
_FORMATS = frozenset({"RAW", "PERCENTAGE"})


def parse(raw: bytes, node_id: str) -> list[Metric]:
    """What the file holds; entries that are no metrics are left out, as is a file that is not JSON."""
    try:
        document: Any = json.loads(raw)
    except ValueError:
        return []
    entries = document.get("metrics") if isinstance(document, dict) else None
    found: dict[str, Metric] = {}
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        name, value = entry.get("name"), entry.get("numberValue")
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            continue
        if isinstance(name, str) and 0 < len(name) <= MAX_NAME and len(found) < MAX_METRICS:
            kind = entry.get("format")
            found[name] = Metric(name, node_id, float(value), kind if kind in _FORMATS else "")
    return list(found.values())

"""Tables of metrics.k8s.io, with the columns of metrics-server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.apiserver.tables.base import NAME, Column, Printer, name

if TYPE_CHECKING:
    import datetime as dt

    from headrace.apiserver.tables.base import JSON


def _usage(obj: JSON, _now: dt.datetime) -> list[Any]:
    """What this API server writes: cpu in nanocores, memory in KiB."""
    used = [c.get("usage") or {} for c in obj.get("containers") or ()] or [obj.get("usage") or {}]
    nanocores = sum(int(u.get("cpu", "0n").removesuffix("n")) for u in used)
    memory = sum(int(u.get("memory", "0Ki").removesuffix("Ki")) for u in used)
    return [name(obj), f"{nanocores}n", f"{memory}Ki", obj.get("window", "")]


USAGE = Printer((NAME, Column("cpu"), Column("memory"), Column("Window", format="duration")), _usage)

"""Columns, and the small words that all printers share.

Objects come as plain JSON of any shape that the schema allows: printers never raise on absent fields.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

JSON = dict[str, Any]
NONE = "<none>"
UNKNOWN = "<unknown>"


@dataclass(frozen=True, slots=True)
class Column:
    """A column definition; priority 1 shows with `-o wide` only."""

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0

    def to_json(self) -> JSON:
        """As meta.k8s.io/v1 TableColumnDefinition."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


@dataclass(frozen=True, slots=True)
class Printer:
    """How one kind is shown: its columns, and a row's cells at a moment."""

    columns: tuple[Column, ...]
    cells: Callable[[JSON, dt.datetime], list[Any]]


NAME = Column("Name", format="name", description="Name must be unique within a namespace.")
AGE = Column("Age", description="How long ago the object was created.")
CREATED = Column("Created At", description="When the object was created.")
CONTAINERS = Column("Containers", description="Names of each container in the template.", priority=1)
IMAGES = Column("Images", description="Images referenced by each container in the template.", priority=1)
SELECTOR = Column("Selector", description="The label selector.", priority=1)


def meta(obj: JSON) -> JSON:
    """The object's metadata, {} when absent."""
    return obj.get("metadata") or {}


def spec(obj: JSON) -> JSON:
    """The object's spec, {} when absent."""
    return obj.get("spec") or {}


def status(obj: JSON) -> JSON:
    """The object's status, {} when absent."""
    return obj.get("status") or {}


def name(obj: JSON) -> str:
    """The object's name."""
    return str(meta(obj).get("name", ""))


def parse_time(value: object) -> dt.datetime | None:
    """An RFC 3339 time, None when it is not one."""
    if not isinstance(value, str) or not value:
        return None
    try:
        parsed = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.UTC)


def human_duration(seconds: float) -> str:
    """`5s`, `3m20s`, `2h`, `4d3h`, `1y30d`: two units at most, as kubectl writes ages."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours = whole // 60, whole // 3600
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 8 * 365:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(high: int, high_unit: str, low: int, low_unit: str) -> str:
    return f"{high}{high_unit}{low}{low_unit}" if low else f"{high}{high_unit}"


def since(value: object, now: dt.datetime) -> str:
    """The age of a timestamp; `<unknown>` when there is none."""
    moment = parse_time(value)
    return human_duration((now - moment).total_seconds()) if moment else UNKNOWN


def age(obj: JSON, now: dt.datetime) -> str:
    """The object's age."""
    return since(meta(obj).get("creationTimestamp"), now)


def created_at(obj: JSON) -> str:
    """The creation time in RFC 3339."""
    return str(meta(obj).get("creationTimestamp") or UNKNOWN)


def joined(values: Iterable[object]) -> str:
    """Comma-separated, or `<none>`."""
    return ",".join(str(v) for v in values) or NONE


def labels_text(labels: JSON | None) -> str:
    """`a=1,b=2`, or `<none>`."""
    return joined(f"{k}={v}" for k, v in sorted((labels or {}).items()))


def selector_text(selector: JSON | None) -> str:
    """A LabelSelector in kubectl's syntax."""
    if not selector:
        return NONE
    parts = [f"{k}={v}" for k, v in sorted((selector.get("matchLabels") or {}).items())]
    for requirement in selector.get("matchExpressions") or []:
        key, operator = requirement.get("key", ""), requirement.get("operator", "")
        values = ",".join(sorted(requirement.get("values") or []))
        match operator:
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(key)
            case "DoesNotExist":
                parts.append(f"!{key}")
            case _:
                parts.append(f"{key} {operator}")
    return ",".join(parts) or NONE


def template_cells(pod_spec: JSON) -> list[str]:
    """Container names and images of a pod template."""
    containers = pod_spec.get("containers") or []
    return [",".join(c.get("name", "") for c in containers), ",".join(c.get("image", "") for c in containers)]


def pod_template(obj: JSON) -> JSON:
    """`spec.template.spec`, {} when absent."""
    return (spec(obj).get("template") or {}).get("spec") or {}


def plain(obj: JSON, now: dt.datetime) -> list[Any]:
    """Name and age: what kinds without a printer of their own show."""
    return [name(obj), age(obj, now)]


DEFAULT = Printer((NAME, AGE), plain)

ACCESS_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def access_modes(modes: Iterable[str] | None) -> str:
    """`RWO,RWX`, in the order that Kubernetes uses, each once."""
    have = set(modes or ())
    return ",".join(short for mode, short in ACCESS_MODES.items() if mode in have)

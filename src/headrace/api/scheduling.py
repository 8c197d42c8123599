"""Classes that pods name: `scheduling.k8s.io/v1` PriorityClass and `node.k8s.io/v1` RuntimeClass."""

from __future__ import annotations

from typing import Any, ClassVar

from headrace.api.meta import KindInfo, Object


class PriorityClass(Object):
    """A name for a priority."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "scheduling.k8s.io",
        "v1",
        "PriorityClass",
        "priorityclasses",
        namespaced=False,
        short_names=("pc",),
        subresources=frozenset(),
    )
    value: int = 0
    global_default: bool = False
    description: str = ""
    preemption_policy: str | None = None


class RuntimeClass(Object):
    """A name for a way to run containers."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", namespaced=False, subresources=frozenset()
    )
    handler: str = ""
    overhead: dict[str, Any] | None = None
    scheduling: dict[str, Any] | None = None


KINDS: tuple[type[Object], ...] = (PriorityClass, RuntimeClass)

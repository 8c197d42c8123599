"""Pages that cost memory only where somebody looks at them: all of a component's are imported and made when the first
of them is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from headrace.machinery.pages import PageRequest


class Late:
    """What `make` returns, by its names, before it is made."""

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        self._make = make
        self._made: Mapping[str, Any] | None = None

    def call(self, name: str, method: str = "render") -> Callable[..., Awaitable[Any]]:
        """Stands for an asynchronous method of one."""

        async def late(*arguments: Any) -> Any:
            return await getattr(self._one(name), method)(*arguments)

        return late

    def calls(self, name: str, *methods: str) -> dict[str, Callable[..., Awaitable[Any]]]:
        """Stands for several, as a page has its actions."""
        return {method.replace("_", "-"): self.call(name, method) for method in methods}

    def follow(self, name: str) -> Callable[[PageRequest, Callable[[], None]], Callable[[], None]]:
        """Stands for what tells of changes."""

        def late(request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
            end: Callable[[], None] = self._one(name).follow(request, wake)
            return end

        return late

    def _one(self, name: str) -> Any:
        if self._made is None:
            self._made = self._make()
        return self._made[name]

"""Waiting in tests for a state of the world, not for time."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.api.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

R = TypeVar("R")


async def eventually(predicate: Callable[[], R | Awaitable[R]], *, timeout: float = 30.0, interval: float = 0.005) -> R:
    """Wait until `predicate` (a function or coroutine function) returns something true, and return that.

    AssertionError and NotFound count as "not yet"; the last of them explains a timeout.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    last: Any = None
    while True:
        try:
            last = predicate()
            if inspect.isawaitable(last):
                last = await last
            if last:
                return last  # type: ignore[no-any-return]
        except (AssertionError, NotFound) as error:
            last = error
        if loop.time() > deadline:
            reason = f"last: {last!r}"
            cause = last if isinstance(last, BaseException) else None
            raise AssertionError(f"not within {timeout} s; {reason}") from cause
        await asyncio.sleep(interval)

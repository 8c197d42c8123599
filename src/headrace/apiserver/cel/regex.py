"""Regular expressions as Go has them: RE2, whose matching time is linear, so that no pattern stops the server."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from headrace.apiserver.cel.values import EvalError

_MEMORY = 1 << 20


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """The pattern. Raises EvalError."""
    import re2  # noqa: PLC0415 - only rules with patterns need it

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0] if error.args else ""
        text = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
        raise EvalError(f"error parsing regexp: {text}") from error


def cost(text: str, pattern: str, *_: Any) -> int:
    """As upstream: the text's length times the pattern's, scaled."""
    return (len(text) // 10 + 1) * (len(pattern) // 4 + 1)


def matches(text: str, pattern: str) -> bool:
    """Whether the pattern is found anywhere."""
    return compiled(pattern).search(text) is not None


def find(text: str, pattern: str) -> str:
    """The first match, or nothing."""
    found = compiled(pattern).search(text)
    return str(found.group(0)) if found is not None else ""


def find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    """All matches, at most `limit`."""
    out: list[str] = []
    if not limit:
        return out
    for found in compiled(pattern).finditer(text):
        out.append(str(found.group(0)))
        if len(out) == limit:
            break
    return out

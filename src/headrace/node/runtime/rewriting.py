"""Paths in command lines and variables, moved from where a container would see them to where they are.

Only whole paths are moved: `/mnt/data/x` and `--dir=/mnt/data` are, when /mnt/data is a mount, `/mnt/database` and
`http://host/mnt/data` are not. This is text, not knowledge: a path that a program puts together itself is not found.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_BEFORE = r"(?:(?<![\w.\-/~])|(?<=file://))"
_AFTER = r"(?![\w.\-])"


def rewrite(text: str, moves: Mapping[str, str]) -> str:
    """The text with every path below a key of `moves` below its value instead; the longest key wins."""
    if not moves or "/" not in text:
        return text
    keys = sorted(moves, key=len, reverse=True)
    pattern = _BEFORE + "(" + "|".join(re.escape(key) for key in keys) + ")" + _AFTER
    return re.sub(pattern, lambda found: moves[found[1]], text)

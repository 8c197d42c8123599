"""`$(NAME)` in commands and variables (k8s.io/kubernetes/third_party/forked/golang/expansion).

`$(NAME)` becomes the variable's value; a name that is not defined stays as it is written; `$$` is one dollar.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, *variables: Mapping[str, str]) -> str:
    """The text with its references replaced; earlier mappings win."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        for mapping in variables:
            if name in mapping:
                return mapping[name]
        return match[0]

    return _TOKEN.sub(value, text)

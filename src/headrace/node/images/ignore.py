"""`.dockerignore`: which files of a folder do not belong to the build. Pure but for reading the file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = ".dockerignore"


def read(folder: Path) -> Callable[[str], bool]:
    """Whether a path relative to the folder is to be left out."""
    file = folder / NAME
    return matcher(file.read_text(encoding="utf-8").splitlines() if file.is_file() else [])


def matcher(lines: list[str]) -> Callable[[str], bool]:
    """The last pattern that matches decides; one that begins with `!` takes a path in again."""
    rules = []
    for raw in lines:
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        keep = line.startswith("!")
        rules.append((keep, re.compile(_pattern(line.lstrip("!").strip().strip("/")))))

    def ignored(path: str) -> bool:
        found = False
        for keep, pattern in rules:
            if pattern.match(path):
                found = not keep
        return found

    return ignored


def _pattern(text: str) -> str:
    """A path or anything below it."""
    made, index = "", 0
    while index < len(text):
        if text.startswith("**/", index):
            made, index = made + "(?:.*/)?", index + 3
        elif text.startswith("**", index):
            made, index = made + ".*", index + 2
        elif text[index] == "*":
            made, index = made + "[^/]*", index + 1
        elif text[index] == "?":
            made, index = made + "[^/]", index + 1
        else:
            made, index = made + re.escape(text[index]), index + 1
    return f"{made}(?:/.*)?$"

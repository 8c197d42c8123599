"""What components offer to the dashboard besides pages: things to start with one press, and answers to a search.

Both authorize by themselves, each time, as pages do: what a person may not see is not found, and what a person may not
start is not offered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.machinery.pages import PageRequest

NEVER = -1


@dataclass(frozen=True, slots=True)
class Start:
    """A card on the first page: its button posts `action` to the page at `path`, in the namespace that is shown;
    without an action it only leads there.
    """

    title: str
    words: str
    path: str
    action: str
    shown: Callable[[PageRequest], Awaitable[bool]]
    press: str = "Start"


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that a search finds: what it is (`kind`, a word), its name, where it is."""

    kind: str
    title: str
    url: str
    hint: str = ""
    plain: bool = False
    """Whether the browser has to load it as a document of its own."""


Finder = Callable[["PageRequest", str], Awaitable[list[Hit]]]
"""Answers a text in lower case; an empty one asks for what is worth a look without any."""


def score(text: str, hit: Hit) -> int:
    """How well a hit fits: higher is better, NEVER is not at all. All words must be found, somewhere."""
    title, rest = hit.title.lower(), f"{hit.kind} {hit.hint}".lower()
    if not text:
        return 0
    if title == text:
        return 100
    total = 60 if title.startswith(text) else 0
    for word in text.split():
        if title.startswith(word) or f" {word}" in title or f"-{word}" in title:
            total += 20
        elif word in title:
            total += 10
        elif word in rest:
            total += 4
        else:
            return NEVER
    return total


def best(text: str, hits: Iterable[Hit], count: int) -> list[Hit]:
    """The hits that fit, the best first; equal ones stay in their order."""
    found = [(each, hit) for hit in hits if (each := score(text, hit)) != NEVER]
    return [hit for _, hit in sorted(found, key=lambda each: -each[0])[:count]]

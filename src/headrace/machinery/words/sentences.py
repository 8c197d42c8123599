"""Sentences that the node, the engine and the API server write into objects and records, where they stay English.

A page shows them through `told`, which finds the sentence by its words and says it in the reader's language. They stand
here as they are written there, with places for what differs; a place holds anything, also another sentence.
"""

from __future__ import annotations

SENTENCES: tuple[str, ...] = (
    "installing {packages}",
    "installing {packages} and {n} more",
    "making an empty environment",
    "finding versions of {packages}",
    "finding versions of {packages} and {n} more",
    "{first}: {rest}",
)

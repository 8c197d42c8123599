"""What a build says of itself to all who wait for it: one sentence, drawn from the lines that uv prints on its way."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_BEGUN = re.compile(r"\s*(Downloading|Building) ([^\s@]+)(?: \(([\d.]+)\s*(\w+)\))?")
_DONE = re.compile(r"\s*(?:Downloaded|Built) ([^\s@]+)")
_ALL_HERE = re.compile(r"\s*Prepared \d+ packages?")
NAMED = 3
"""How many packages a sentence names; the others are counted."""


@dataclass(slots=True)
class Progress:
    """One build, which may have many who wait."""

    work: str
    """What it is about, such as `installing 7 packages`."""
    _now: dict[str, str] = field(default_factory=dict)
    """Packages on their way, and the words for each."""

    @property
    def sentence(self) -> str:
        """What goes on at this moment, without a full stop."""
        if not self._now:
            return self.work
        shown = list(self._now.values())
        more = [f"{len(shown) - NAMED} more"] if len(shown) > NAMED else []
        return f"{self.work}: {', '.join([*shown[:NAMED], *more])}"

    def hear(self, line: str) -> None:
        """Take in a line of uv's."""
        begun, done = _BEGUN.match(line), _DONE.match(line)
        if begun is not None:
            verb, name, amount, unit = begun.groups()
            size = f" ({amount} {unit})" if amount else ""
            self._now[name] = f"{verb.lower()} {name}{size}"
        elif done is not None:
            self._now.pop(done[1], None)
        elif _ALL_HERE.match(line):
            self._now.clear()


def listed(names: list[str]) -> str:
    """A few names, and how many others there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more

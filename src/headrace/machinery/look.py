"""How states, moments, durations, sizes and empty lists look, the same on every page.

One colour per state everywhere, and never the colour alone. Moments are written for the reader's zone by the
browser (`time.js`); what stands in the page is UTC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.machinery.html import Child, Markup, el
from headrace.machinery.words import _

if TYPE_CHECKING:
    import datetime as dt

OK, RUN, BAD, WARN, WAIT, HIT = "ok", "run", "bad", "warn", "wait", "hit"


def pill(kind: str, words: Child) -> Markup:
    """A state: a dot and a word."""
    return el("span", words, class_=f"pill {kind}")


def dot(kind: str, words: str) -> Markup:
    """A state where only a dot has room; the word is for those who do not see it."""
    return el("span", el("span", words, class_="sr"), class_=f"dot {kind}", title=words)


def moment(value: dt.datetime | None, *, date: bool = True) -> Markup:
    """A point in time."""
    if value is None:
        return Markup()
    stamp = value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    shown = value.strftime("%d %b %H:%M:%S" if date else "%H:%M:%S")
    return el("time", shown, datetime=stamp, data_form="full" if date else "clock", title=f"{stamp}")


def seconds(value: float) -> str:
    """A duration in the words that a person says."""
    if value < 0.0995:
        return f"{max(value, 0) * 1000:.0f} ms"
    if value < 9.995:
        return f"{value:.2f} s"
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def took(start: dt.datetime | None, end: dt.datetime | None) -> Markup:
    """How long something took; it goes on counting in the browser while there is no end."""
    if start is None:
        return Markup()
    if end is None:
        stamp = start.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return el("span", "…", class_="num", data_since=stamp)
    return el("span", seconds((end - start).total_seconds()), class_="num")


def size(count: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def command(line: str) -> Markup:
    """A command to copy."""
    told = _("Copy: {line}", line=line)
    copy = el("button", _("Copy"), class_="copy", type="button", data_copy=line, aria_label=told)
    return el("div", el("code", line), copy, class_="command")


def empty(words: Child, *commands: str) -> Markup:
    """Nothing is there; what to do about it."""
    return el("div", el("p", words), [command(line) for line in commands], class_="empty")


def tabs(entries: list[tuple[str, str, bool, Child]], label: str) -> Markup:
    """Links as tabs: words, address, whether this is the current one, a small count."""
    links = [
        el("a", words, el("small", " ", count) if count else None, href=href, aria_current="true" if here else None)
        for words, href, here, count in entries
    ]
    return el("nav", links, class_="tabs", aria_label=label)


def why(title: str, *words: Child) -> Markup:
    """What went wrong, in a sentence at the top."""
    return el("div", el("b", title), el("span", words), class_="why", role="status")

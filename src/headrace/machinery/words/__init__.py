"""The dashboard's words in the reader's language.

English stands in the code: `_("Runs")`, or with values `_("{n} of {all} tasks", n=3, all=5)`. Translations are gettext
catalogues beside this module, a folder a language and a file a room (`ko/runs.po`); a text that has none stays
English. Which language a request is answered in is a context variable that the dashboard sets, so that nothing needs
to be passed along.
"""

from __future__ import annotations

import contextlib
import contextvars
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENGLISH = "en"
LANGUAGES = {ENGLISH: "English", "zh-TW": "繁體中文", "ko": "한국어"}
"""By the tag that browsers send, each in its own words."""
LONGEST = 800
"""A longer text is nobody's sentence."""
DEPTH = 3
"""How deep sentences stand within sentences."""
LANGUAGE_COOKIE = "lang"
_CHOSEN = re.compile(rb"(?:^|;)\s*lang=([^;\s]*)")
_PLACE = re.compile(r"\{(\w+)\}")
_FOLDER = Path(__file__).parent
_current: contextvars.ContextVar[str] = contextvars.ContextVar("language", default=ENGLISH)


def _(text: str, /, **values: Any) -> str:
    """The text in the reader's language, with the values in their places."""
    language = _current.get()
    found = text if language == ENGLISH else catalogue(language).get(text, text)
    return found.format(**values) if values else found


def told(text: str) -> str:
    """A sentence that another part of the platform has made, in the reader's language, if it is one of `SENTENCES`."""
    return text if _current.get() == ENGLISH or not 0 < len(text) <= LONGEST else _told(_current.get(), text, 0)


@lru_cache(maxsize=4096)
def _told(tag: str, text: str, depth: int) -> str:
    for template, pattern in _patterns():
        found = pattern.fullmatch(text)
        if found is None:
            continue
        values = found.groupdict()
        if depth < DEPTH:
            values = {name: _told(tag, value, depth + 1) for name, value in values.items()}
        return catalogue(tag).get(template, template).format(**values)
    return text


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """The sentences as patterns, those with the most words first: theirs is the closest fit."""
    from headrace.machinery.words.sentences import SENTENCES  # noqa: PLC0415 - with the first reader of another language

    def words(template: str) -> int:
        return len(_PLACE.sub("", template))

    return [(each, _pattern(each)) for each in sorted(SENTENCES, key=words, reverse=True)]


def _pattern(template: str) -> re.Pattern[str]:
    parts = _PLACE.split(template)
    made = "".join(re.escape(part) if n % 2 == 0 else f"(?P<{part}>.+?)" for n, part in enumerate(parts))
    return re.compile(made, re.DOTALL)


def language() -> str:
    """The tag of the reader's language."""
    return _current.get()


@contextlib.contextmanager
def speaking(tag: str) -> Iterator[None]:
    """Answer in this language."""
    token = _current.set(tag if tag in LANGUAGES else ENGLISH)
    try:
        yield
    finally:
        _current.reset(token)


def preferred(accept: str) -> str:
    """The best of our languages for an Accept-Language header."""
    wanted: list[tuple[float, int, str]] = []
    for position, part in enumerate(accept.split(",")[:20]):
        tag, _semicolon, quality = part.strip().partition(";")
        try:
            weight = float(quality.strip().removeprefix("q=")) if quality else 1.0
        except ValueError:
            weight = 0.0
        if weight > 0:
            wanted.append((-weight, position, tag.lower()))
    for _weight, _position, tag in sorted(wanted):
        for ours in LANGUAGES:
            if tag == ours.lower() or tag.split("-")[0] == ours.split("-")[0].lower():
                return ours
    return ENGLISH


def of_request(scope: Mapping[str, Any]) -> str:
    """What the reader of an ASGI request has chosen (a cookie), else what the browser prefers."""
    accept = b""
    for name, value in scope["headers"]:
        if name == b"cookie" and (found := _CHOSEN.search(value)) is not None:
            tag = found[1].decode("latin-1")
            if tag in LANGUAGES:
                return tag
        elif name == b"accept-language":
            accept = value
    return preferred(accept.decode("latin-1"))


@cache
def catalogue(tag: str) -> Mapping[str, str]:
    """Every translated text of a language."""
    import polib  # noqa: PLC0415 - with the first reader of another language

    files = sorted((_FOLDER / tag.replace("-", "_")).glob("*.po"))
    entries = (entry for file in files for entry in polib.pofile(str(file)))
    return {entry.msgid: entry.msgstr for entry in entries if entry.msgstr and not entry.fuzzy}

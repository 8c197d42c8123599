"""Every text that pages say through `_` is translated, in every language, and nothing else is kept."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import polib
import pytest

from headrace.machinery.words import LANGUAGES, speaking, told
from headrace.machinery.words.sentences import SENTENCES

SRC = Path(__file__).parents[2] / "src" / "headrace"
WORDS = SRC / "machinery" / "words"
TAGS = sorted(tag.replace("-", "_") for tag in LANGUAGES if tag != "en")


def spoken() -> set[str]:
    """The first argument of every call of `_`, the titles of components, the titles and sections of pages, which the
    frame translates, and the sentences of other parts that pages show.
    """
    found: set[str] = set(SENTENCES)
    for path in SRC.rglob("*.py"):
        source = path.read_text()
        if not any(word in source for word in ("machinery.words", "Page(", "Component(", "Start(")):
            continue
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if node.func.id == "_" and texts:
                found.add(texts[0])
            elif node.func.id == "Component":
                found.update(
                    k.value.value for k in node.keywords if k.arg == "title" and isinstance(k.value, ast.Constant)
                )
            elif node.func.id == "Start":
                press = [k.value.value for k in node.keywords if k.arg == "press" and isinstance(k.value, ast.Constant)]
                found.update([*texts[:2], *press])
            elif node.func.id == "Page":
                named = [
                    k.value.value for k in node.keywords if k.arg == "section" and isinstance(k.value, ast.Constant)
                ]
                sections = [*texts[2:], *named]
                if any(s.strip() for s in sections) or " " in sections:
                    found.update(t for t in (texts[1:2] + sections) if t.strip())
    return found


@pytest.mark.parametrize("tag", TAGS)
def test_everything_that_is_said_is_translated(tag: str) -> None:
    entries = [entry for file in (WORDS / tag).glob("*.po") for entry in polib.pofile(str(file))]
    translated = {entry.msgid for entry in entries if entry.msgstr}
    assert spoken() - translated == set()


@pytest.mark.parametrize("tag", TAGS)
def test_no_text_is_translated_twice_differently(tag: str) -> None:
    seen: dict[str, str] = {}
    for file in sorted((WORDS / tag).glob("*.po")):
        for entry in polib.pofile(str(file)):
            assert seen.setdefault(entry.msgid, entry.msgstr) == entry.msgstr, entry.msgid


def test_sentences_of_others_are_found_by_their_words() -> None:
    with speaking("ko"):
        assert told("The run was terminated.") == "실행이 중지되었습니다."
        inner = "Waiting: its environment is being made: installing numpy."
        assert told(inner) == "대기 중: 환경을 만드는 중: numpy 설치 중."
        assert told("Nobody has written this sentence") == "Nobody has written this sentence"
        assert told("x" * 5000) == "x" * 5000
    assert told("The run was terminated.") == "The run was terminated."


def test_sentences_of_others_are_written_in_words_that_somebody_says() -> None:
    """Some are put together of parts; a word that stands nowhere else has lost its sentence."""
    said = {
        word
        for path in SRC.rglob("*.py")
        if WORDS not in path.parents
        for word in re.findall(r"[A-Za-z]{4,}", path.read_text())
    }
    for sentence in SENTENCES:
        words = set(re.findall(r"[A-Za-z]{4,}", re.sub(r"\{\w+\}", " ", sentence)))
        assert words <= said, (sentence, words - said)

"""Dockerfiles as text: lines, variables, words, and what is refused with its line."""

from __future__ import annotations

import pytest

from headrace.node.images import ignore
from headrace.node.images.dockerfile import BuildError, Instruction, exec_form, expand, flags, pairs, parse, words

SOURCE = """# syntax=docker/dockerfile:1
# a comment
FROM python:3.11 \\
    AS base

run pip install \\
    # within
    six

CMD ["a", "b c"]
"""


def test_lines():
    found = [(i.line, i.name, " ".join(i.text.split())) for i in parse(SOURCE)]
    assert found == [(3, "FROM", "python:3.11 AS base"), (6, "RUN", "pip install six"), (10, "CMD", '["a", "b c"]')]


def test_another_escape():
    found = parse("# escape=`\nFROM debian\nRUN echo `\n  C:\\x\n")
    assert found[1].text == "echo   C:\\x"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("", "has no FROM"),
        ("FROM x\nHEALTHCHECK CMD true\n", "line 2: HEALTHCHECK is not supported: write a livenessProbe"),
        ("FROM x\n\nVOLUME /data\n", "line 3: VOLUME is not supported: mount a volume"),
        ("FROM x\nFETCH y\n", "line 2: unknown instruction FETCH"),
        ("FROM x\nRUN <<EOF\necho\nEOF\n", "line 2: RUN with a here-document"),
        ("FROM x\nENV\n", "line 2: ENV needs an argument"),
    ],
)
def test_what_is_refused(source, sentence):
    with pytest.raises(BuildError) as caught:
        parse(source)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$A/${B}", "a/"),
        ("${A:-x}${B:-y}${E:-z}${E-w}", "ayz"),
        ("${A:+there}${B:+not}", "there"),
        (r"\$A", "$A"),
        ("${B:-$A}", "a"),
        ("$AB", ""),
        ("100%", "100%"),
    ],
)
def test_variables(text, wanted):
    assert expand(text, {"A": "a", "E": ""}) == wanted


def test_words_and_lists():
    assert exec_form('["a", "b c"]') == ["a", "b c"]
    assert exec_form("[ -f x ] && true") is None
    assert exec_form("[1]") is None
    assert words(Instruction(1, "COPY", "a 'b c' d")) == ["a", "b c", "d"]
    with pytest.raises(BuildError, match="line 7"):
        words(Instruction(7, "COPY", "a 'b"))


def test_pairs():
    assert pairs(Instruction(1, "ENV", 'A=1 B="two words" C=x\\ y')) == {"A": "1", "B": "two words", "C": "x y"}
    assert pairs(Instruction(1, "ENV", "A the whole rest")) == {"A": "the whole rest"}
    for text in ("A", "A=1 B"):
        with pytest.raises(BuildError, match="line 4"):
            pairs(Instruction(4, "ENV", text))


def test_flags():
    found, rest = flags(Instruction(1, "COPY", "--from=base --chown=1:2 a b"), frozenset({"from", "chown"}))
    assert (found, rest.text) == ({"from": "base", "chown": "1:2"}, "a b")
    with pytest.raises(BuildError, match="line 3: COPY --parents is not supported"):
        flags(Instruction(3, "COPY", "--parents a b"), frozenset())


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("a.log", True),
        ("deep/a.log", False),
        ("deep/b.tmp", True),
        ("keep.log", False),
        ("node_modules/x/y", True),
        ("src/node_modules", False),
        ("docs/x.md", True),
        ("docs/README.md", False),
    ],
)
def test_dockerignore(path, left_out):
    ignored = ignore.matcher(["# no", "*.log", "!keep.log", "**/*.tmp", "/node_modules/", "docs", "!docs/README.md"])
    assert ignored(path) is left_out


def test_dockerignore_is_a_file(tmp_path):
    assert not ignore.read(tmp_path)("x")
    (tmp_path / ".dockerignore").write_text("x\n")
    assert ignore.read(tmp_path)("x")

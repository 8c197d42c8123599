"""Markdown that a step wrote, as markup that is safe in a page of ours.

HTML in it is shown as text, an address that would run a script is no link, pictures are links (a page asks no other
host for anything), and nothing carries a style.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from headrace.machinery.html import Markup, el

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markdown_it import MarkdownIt
    from markdown_it.token import Token


def render(text: str) -> Markup:
    """The document."""
    parser = _parser()
    tokens = parser.parse(text)
    for token in _all(tokens):
        token.attrs.pop("style", None)
        if token.type == "link_open":
            token.attrs |= {"rel": "noopener noreferrer nofollow", "target": "_blank"}
    return el("div", Markup(parser.renderer.render(tokens, parser.options, {})), class_="markdown")


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt  # noqa: PLC0415 - with the first document

    return (
        MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"]).disable("image")
    )


def _all(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _all(token.children or ())

"""A pipeline's document as text: YAML as a person reads it, and what differs between two versions."""

from __future__ import annotations

import copy
import difflib
from itertools import islice
from typing import TYPE_CHECKING, Any

import yaml

from headrace.machinery.html import Markup, el
from headrace.machinery.pages import PageError
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LINES = 4000
"""Of a document that is shown or compared."""


def lines_of(document: dict[str, Any]) -> list[str]:
    """The document as lines of YAML."""
    text: str = yaml.dump(document, Dumper=_Readable, sort_keys=True, allow_unicode=True, width=120)
    return text.splitlines()


class _Readable(yaml.CSafeDumper if hasattr(yaml, "CSafeDumper") else yaml.SafeDumper):  # type: ignore[misc]
    """Text of several lines, such as a component's program, is written line by line where YAML can."""


def _lines(dumper: Any, text: str) -> Any:
    plain = "\n" in text and "\t" not in text and not any(line.endswith(" ") for line in text.split("\n"))
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if plain else None)


_Readable.add_representer(str, _lines)


def shown(lines: Sequence[str]) -> Markup:
    """The beginning of a document."""
    left = len(lines) - MAX_LINES
    more = el("p", _("{n} more lines are not shown.", n=left), class_="dim") if left > 0 else ""
    return Markup(el("pre", "\n".join(lines[:MAX_LINES]), class_="code", tabindex="0") + more)


def difference(old: Sequence[str], new: Sequence[str]) -> Markup:
    """What the new document takes away and adds, with lines around. Slow for long ones: not for the loop's thread."""
    if max(len(old), len(new)) > MAX_LINES:
        return el("p", _("These documents are too long to be compared here."), class_="empty")
    found = list(islice(difflib.unified_diff(old, new, lineterm="", n=3), 2, MAX_LINES))
    if not found:
        return el("p", _("The two versions have the same document."), class_="empty")
    kinds = {"+": "add", "-": "del", "@": "at"}
    parts = [el("span", f"{line}\n", class_=kinds.get(line[:1])) for line in found]
    return el("pre", parts, class_="code diff", tabindex="0")


def without_cache(document: dict[str, Any]) -> dict[str, Any]:
    """The same pipeline, in which no step takes outputs of an earlier run. Raises PageError."""
    changed = copy.deepcopy(document)
    spec = changed.get("pipeline_spec", changed.get("pipelineSpec", changed))
    if not isinstance(spec, dict) or "root" not in spec:
        words = _("A pipeline of kfp 1 says itself which steps are cached: leave the choice as it is.")
        raise PageError(422, _("That does not fit"), words)
    for component in [spec["root"], *spec.get("components", {}).values()]:
        for task in (component.get("dag") or {}).get("tasks", {}).values():
            task["cachingOptions"] = {}
    return changed

"""Colours: every text of the dashboard can be read on every ground on which it stands, light and dark."""

from __future__ import annotations

import re

import pytest

from headrace.components.dashboard.api.static import FOLDER

TOKENS = (FOLDER / "tokens.css").read_text()
ENOUGH = 4.5
"""WCAG 2.2, 1.4.3 (AA)."""
GROUNDS = ("bg", "panel", "sunken")
STATES = ("ok", "run", "bad", "warn", "wait", "hit")
PAIRS = [
    *((text, ground) for text in ("text", "text-2", "text-3") for ground in (*GROUNDS, "accent-soft")),
    *((state, ground) for state in STATES for ground in (f"{state}-soft", "panel")),
    *(("accent-text", ground) for ground in (*GROUNDS, "accent-soft")),
    ("on-accent", "accent"),
]


def scheme(selector: str) -> dict[str, str]:
    block = TOKENS.partition(selector)[2].partition("}")[0]
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", block))


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("selector", [":root {", ':root:not([data-theme="light"]) {', ':root[data-theme="dark"] {'])
def test_texts_have_contrast(selector):
    colours = scheme(selector)
    weak = {
        f"{text} on {ground}": round(found, 2)
        for text, ground in PAIRS
        if (found := contrast(colours[text], colours[ground])) < ENOUGH
    }
    assert weak == {}


def test_both_ways_to_the_dark_are_the_same():
    assert scheme(':root:not([data-theme="light"]) {') == scheme(':root[data-theme="dark"] {')

"""Where the examples are: in the installed package, or in the checkout that it runs from."""

from __future__ import annotations

from pathlib import Path

DIGITS = "01-digits"


def example(name: str, file: str) -> Path | None:
    """The folder of an example that holds this file; None where the installation has none."""
    package = Path(__file__).parents[1]
    for candidate in (package / "examples" / name, package.parents[1] / "examples" / name):
        if (candidate / file).is_file():
            return candidate
    return None

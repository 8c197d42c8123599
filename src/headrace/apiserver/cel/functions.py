"""The table of functions: signatures for the checker, and for each combination of kinds the code that runs.

A library is a list of `Row`s. Which row runs is found by the kinds of the arguments, once for each combination.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from headrace.apiserver.cel import types as t
from headrace.apiserver.cel.values import EvalError, kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.apiserver.cel.values import Spend

_ANYTHING = frozenset({"dyn"})


@dataclass(frozen=True, slots=True)
class Row:
    """One overload. Arguments include a method's target."""

    name: str
    args: str
    result: str
    code: Callable[..., Any]
    method: bool = False
    cost: Callable[..., int] | None = None
    """What a call costs beyond 1, told before it runs."""
    spends: bool = False
    """The code gets `spend` first, to tell what it costs as it runs."""

    @property
    def signature(self) -> tuple[tuple[t.Type, ...], t.Type]:
        """Argument types and the result's type."""
        wanted = t.parse(f"f<{self.args}>").params if self.args else ()
        return wanted, t.parse(self.result)


class Function:
    """All overloads of one name, called in one way."""

    def __init__(self, name: str, rows: Iterable[Row]) -> None:
        self.name, self.rows = name, list(rows)
        self.signatures = [row.signature for row in self.rows]
        self._found: dict[tuple[str, ...], Row | None] = {}

    def call(self, args: list[Any], spend: Spend) -> Any:
        """Run it. Raises EvalError."""
        kinds = tuple(map(kind, args))
        try:
            row = self._found[kinds]
        except KeyError:
            row = self._found[kinds] = self._row(kinds)
        if row is None:
            raise EvalError("no such overload")
        spend(1 + row.cost(*args) if row.cost else 1)
        try:
            return row.code(spend, *args) if row.spends else row.code(*args)
        except (TypeError, AttributeError) as error:
            # A value inside of a dyn argument is of another type than the function works on.
            raise EvalError("no such overload") from error

    def _row(self, kinds: tuple[str, ...]) -> Row | None:
        for row, (wanted, _) in zip(self.rows, self.signatures, strict=True):
            if len(wanted) == len(kinds) and all(
                w.name == k or w.name in _ANYTHING or t.is_variable(w) for w, k in zip(wanted, kinds, strict=True)
            ):
                return row
        return None


@cache
def table() -> dict[tuple[str, bool], Function]:
    """Every function, by name and whether it is a method."""
    from headrace.apiserver.cel import kubernetes, network, standard, text  # noqa: PLC0415 - only when CEL is used

    rows: dict[tuple[str, bool], list[Row]] = {}
    for row in (*standard.ROWS, *text.ROWS, *kubernetes.ROWS, *network.ROWS):
        rows.setdefault((row.name, row.method), []).append(row)
    return {key: Function(key[0], found) for key, found in rows.items()}

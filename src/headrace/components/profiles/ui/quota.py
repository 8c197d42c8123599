"""Quotas in words: "2 of 4 CPUs in use", with a bar. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from headrace.api import quantity
from headrace.machinery import look
from headrace.machinery.html import Markup, el
from headrace.machinery.words import _

if TYPE_CHECKING:
    from headrace.api.limits import ResourceQuota

FULL, NEARLY = Decimal(1), Decimal("0.85")


def bars(quotas: list[ResourceQuota]) -> Markup:
    """A line for each limit; nothing where there is none."""
    lines = [
        _line(words(name, used, hard), _share(used, hard))
        for quota in sorted(quotas, key=lambda q: q.metadata.name)
        for name, hard in sorted(quota.spec.hard.items())
        for used in [quota.status.used.get(name, "0")]
    ]
    return el("div", lines, class_="quota") if lines else Markup()


def words(name: str, used: str | float, hard: str | float) -> str:
    """How much of a limit is taken."""
    kind = name.removeprefix("requests.")
    limits, base = kind.startswith("limits."), kind.removeprefix("limits.")
    given = {"used": _amount(base, used), "all": _amount(base, hard)}
    match base:
        case "cpu":
            said = _("{used} of {all} CPUs in use", **given)
        case "memory":
            said = _("{used} of {all} of memory in use", **given)
        case "storage":
            said = _("{used} of {all} of volumes in use", **given)
        case "pods" | "count/pods":
            said = _("{used} of {all} pods", **given)
        case "persistentvolumeclaims":
            said = _("{used} of {all} volumes", **given)
        case _ if base.endswith("/gpu"):
            said = _("{used} of {all} GPUs in use", **given)
        case _:
            said = _("{used} of {all} {what}", what=base.removeprefix("count/"), **given)
    return _("{what} (as limits)", what=said) if limits else said


def _amount(base: str, value: str | float) -> str:
    number = _number(value)
    if base in {"memory", "storage", "ephemeral-storage"}:
        return look.size(float(number))
    return f"{number.normalize():f}" if number else "0"


def _number(value: str | float) -> Decimal:
    try:
        return quantity.parse(value)
    except ValueError:
        return Decimal(0)


def _share(used: str | float, hard: str | float) -> Decimal:
    bound, taken = _number(hard), _number(used)
    return taken / bound if bound else Decimal(1 if taken else 0)


def _line(said: str, share: Decimal) -> Markup:
    kind = look.BAD if share >= FULL else look.WARN if share >= NEARLY else "accent"
    bar = el(
        "svg",
        el("rect", class_="track", width="100%", height="6", rx="3"),
        el("rect", width=f"{min(float(share), 1.0) * 100:.1f}%", height="6", rx="3"),
        class_=f"gauge {kind}",
        aria_hidden="true",
    )
    return el("div", el("span", said), bar)

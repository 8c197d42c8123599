"""axe-core as scripts for a page: what it finds serious or critical, in sentences."""

from __future__ import annotations

import importlib.util
from pathlib import Path

# Only the file is used: the package around it is for another driver, which is not installed.
_spec = importlib.util.find_spec("axe_playwright_python")
assert _spec is not None
SCRIPT = Path(_spec.origin).with_name("axe.min.js").read_text()

_FIND = """(async () => {
  await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
  const options = { resultTypes: ["violations"], preload: false, OPTIONS };
  const { violations } = await axe.run(EXCEPT, options);
  const told = (rule, node) => `${rule.id} (${rule.impact}): ${node.html.slice(0, 160)}: ${node.failureSummary}`;
  return violations.filter((rule) => rule.impact === "serious" || rule.impact === "critical")
    .flatMap((rule) => rule.nodes.slice(0, 4).map((node) => told(rule, node)));
})()"""
_OPTIONS = {
    "everything": "",
    "structure": 'rules: { "color-contrast": { enabled: false } }',
    "colours": 'runOnly: { type: "rule", values: ["color-contrast", "link-in-text-block"] }',
}


def run(what: str, *, frame: bool) -> str:
    """A script that says what is wrong: of `everything`, `structure` or `colours`, which take most of the time.
    Without `frame`, the bar and the navigation, which are the same on every page, are left out.
    """
    context = "document" if frame else '{ exclude: [[".top"], [".nav"]] }'
    return _FIND.replace("OPTIONS", _OPTIONS[what]).replace("EXCEPT", context)

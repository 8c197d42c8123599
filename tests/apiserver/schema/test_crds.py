"""crds/ holds what the wire types of all components say."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_committed_definitions_are_those_of_the_types():
    drift = runpy.run_path(str(ROOT / "tools" / "generate_crds.py"))["drift"]
    assert drift() == [], "run python tools/generate_crds.py"

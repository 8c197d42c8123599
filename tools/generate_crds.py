"""Writes crds/<plural>.<group>.yaml for every custom kind of every component, from its wire type.

python tools/generate_crds.py           write
python tools/generate_crds.py --check   exit 1 when the folder differs from the types
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from headrace.apiserver.schema.crd import crd_for
from headrace.platform import load_components

FOLDER = Path(__file__).parent.parent / "crds"
HEADER = "# Generated from the component's wire types by tools/generate_crds.py; change the type, not this file.\n"


def documents() -> dict[str, str]:
    """File names and what they must hold."""
    out = {}
    for component in load_components():
        for kind in component.kinds:
            crd = crd_for(kind)
            text = yaml.safe_dump(crd, sort_keys=False, allow_unicode=True, width=120)
            out[f"{crd['metadata']['name']}.yaml"] = HEADER + text
    return out


def drift() -> list[str]:
    """Files that are missing, differ, or belong to no kind."""
    wanted = documents()
    present = {p.name: p.read_text() for p in FOLDER.glob("*.yaml")}
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def main() -> int:
    """Write or check."""
    wrong = drift()
    if "--check" in sys.argv[1:]:
        for name in wrong:
            print(f"crds/{name} differs from its type: run python tools/generate_crds.py")
        return bool(wrong)
    wanted = documents()
    for name in wrong:
        path = FOLDER / name
        if name in wanted:
            path.write_text(wanted[name])
        else:
            path.unlink()
        print(f"crds/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

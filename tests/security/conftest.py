from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

for _name in ("routes", "rules", "world"):
    # The parts of the matrix under names that its test modules can import.
    if f"security_{_name}" not in sys.modules:
        _spec = importlib.util.spec_from_file_location(f"security_{_name}", Path(__file__).with_name(f"{_name}.py"))
        sys.modules[f"security_{_name}"] = importlib.util.module_from_spec(_spec)
        _spec.loader.exec_module(sys.modules[f"security_{_name}"])

world = sys.modules["security_world"].world

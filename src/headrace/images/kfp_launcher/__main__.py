"""Entry point: `python3 /opt/headrace/kfp_launcher [TASK_FILE]`; without a file the task is in HEADRACE_TASK."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def _package() -> str:
    """The name of this folder's package, importable also when it was started by path.

    The folder itself leaves sys.path, so that its modules shadow nobody's; the package's own path finds them.
    """
    if __package__:
        return __package__
    here = Path(__file__).resolve().parent
    if str(here) in sys.path:
        sys.path.remove(str(here))
    sys.path.insert(0, str(here.parents[1]))
    try:
        name = f"{here.parent.name}.{here.name}"
        importlib.import_module(name)
    finally:
        del sys.path[0]
    return name


def run(arguments: list[str]) -> NoReturn:
    """Launch, and end the process. A warm interpreter that holds this module calls it at once."""
    package = _package()
    code = importlib.import_module(f"{package}.launch").main(arguments)
    importlib.import_module(f"{package}.inside").leave(code)
    raise AssertionError


if __name__ == "__main__":
    run(sys.argv[1:])

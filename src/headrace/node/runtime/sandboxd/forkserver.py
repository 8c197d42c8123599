"""What a fork server executes: `PYTHON forkserver.py PRELOAD-AS-JSON`, control socket on 3, its output on 4.

Everything that may fail is in warm.py. The container's program runs from the last line, with an empty stack
below it, and ends as any program ends.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    from types import ModuleType


_AT_START = frozenset(sys.modules)


def _load() -> ModuleType:
    package = os.path.dirname(os.path.abspath(__file__))
    parent = os.path.dirname(package)
    sys.path[0] = parent
    from sandboxd import warm  # type: ignore[import-not-found]  # noqa: PLC0415 - the path is set just above

    del sys.path[0]
    sys.path_importer_cache.pop(parent, None)
    module: ModuleType = warm
    return module


_warm = _load()
_warm.run(*_warm.serve(sys.argv[1], _AT_START))

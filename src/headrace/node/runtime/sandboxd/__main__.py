"""`python -I -S <this folder> HOME-RUN-FOLDER`: start the spawner of one home.

With -I the interpreter puts only this folder on the path, so the package is named by its parent for one import.
"""

from __future__ import annotations

import os
import sys


def _main() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(here), *[entry for entry in sys.path if entry != here]]
    from sandboxd import spawner  # type: ignore[import-not-found]  # noqa: PLC0415 - the path is set just above

    del sys.path[0]
    spawner.main(sys.argv[1:])


_main()

"""A writable layer over a Python environment without overlay file systems.

The layer is a virtual environment of its own that finds the packages of the one below through a `.pth` file. What is
installed goes into the layer and hides what lies below; the environment below is never changed. Its programs are also
told where their volumes are (see headrace.images.mounted_paths).
"""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

from headrace.images import mounted_paths

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


PATHS = "_headrace_paths"
"""What the module that knows the volumes is called in there."""


def tell(layer: Path, moves: Mapping[str, str]) -> None:
    """Have the programs of a layer find their volumes."""
    for own in (layer / "lib").glob("python*/site-packages"):
        shutil.copyfile(mounted_paths.__file__, own / f"{PATHS}.py")
        (own / f"{PATHS}.json").write_text(json.dumps(moves), encoding="utf-8")
        (own / f"{PATHS}.pth").write_text(f"import {PATHS}; {PATHS}.main()\n", encoding="utf-8")


def layered(below: Path, layer: Path) -> None:
    """Make `layer` over `below`. A folder that is no environment is copied, its files by reference where possible."""
    config = below / "pyvenv.cfg"
    if not config.is_file():
        shutil.copytree(below, layer, symlinks=True, dirs_exist_ok=True)
        return
    (layer / "bin").mkdir(parents=True)
    shutil.copyfile(config, layer / "pyvenv.cfg")
    for file in (below / "bin").iterdir():
        target = layer / "bin" / file.name
        if file.is_symlink():
            target.symlink_to(file.readlink())
        elif file.is_file():
            shutil.copy2(file, target)  # its first line finds the interpreter beside it
    for packages in (below / "lib").glob("python*/site-packages"):
        own = layer / packages.relative_to(below)
        own.mkdir(parents=True)
        line = f"import site; site.addsitedir({os.fspath(packages)!r})\n"
        (own / "_below.pth").write_text(line, encoding="utf-8")
    for name in ("share", "etc", "include"):
        if (below / name).is_dir() and not (layer / name).exists():
            (layer / name).symlink_to(below / name)

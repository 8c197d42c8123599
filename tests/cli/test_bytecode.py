"""A control plane keeps its compiled modules where the installation has none, and tells nobody of it."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import headrace

START = """
import json, os, sys
from pathlib import Path
from headrace.cli import bytecode
from headrace.machinery.settings import Settings
settings = Settings(home=Path(sys.argv[1]))
made = bytecode.environment(settings)
bytecode.keep(settings)
import headrace.machinery.component
names = (bytecode.PREFIX, bytecode.NOT_WRITTEN, "HEADRACE_NOT_WRITTEN_BEFORE")
print(json.dumps({
    "prefix": sys.pycache_prefix,
    "own": {n: os.environ.get(n) for n in names},
    "child": {n: made.get(n) for n in names},
}))
"""


def start(source: Path, home: Path, env: dict[str, str]) -> dict:
    """A process like the platform's, with a copy of the package of its own."""
    done = subprocess.run(
        [sys.executable, "-c", START, str(home)],
        env={**env, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def copy(folder: Path) -> Path:
    """The package without bytecode."""
    source = folder / "source"
    target = source / "headrace"
    shutil.copytree(Path(headrace.__file__).parent, target, ignore=shutil.ignore_patterns("__pycache__", "ui", "*.gz"))
    return source


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HEADRACE"))}
    return kept | more


def test_where_python_writes_nothing_the_home_has_it(tmp_path: Path) -> None:
    source, home = copy(tmp_path), tmp_path / "home"
    told = environment(PYTHONDONTWRITEBYTECODE="1")
    found = start(source, home, told)
    assert found["prefix"] == str(home / "state/bytecode")
    assert found["own"]["PYTHONDONTWRITEBYTECODE"] == "1", "what it starts is not concerned"
    assert found["own"]["PYTHONPYCACHEPREFIX"] is None
    assert list((home / "state/bytecode").rglob("component.*.pyc"))
    assert not list(source.rglob("*.pyc")), "the installation stays as it is"
    assert stat.S_IMODE((home / "state").stat().st_mode) == 0o700

    # The control plane that `--detach` starts is told by its environment, and passes nothing of it on.
    child = {k: v for k, v in found["child"].items() if v is not None}
    assert child["PYTHONPYCACHEPREFIX"] == str(home / "state/bytecode")
    assert "PYTHONDONTWRITEBYTECODE" not in child
    again = start(source, home, environment(**child))
    assert again["prefix"] == str(home / "state/bytecode")
    assert again["own"]["PYTHONDONTWRITEBYTECODE"] == "1"
    assert again["own"]["PYTHONPYCACHEPREFIX"] is None
    assert again["own"]["HEADRACE_NOT_WRITTEN_BEFORE"] is None


def test_bytecode_beside_the_modules_is_used(tmp_path: Path) -> None:
    source, home = copy(tmp_path), tmp_path / "home"
    found = start(source, home, environment())
    assert found["prefix"] is None
    assert found["child"]["PYTHONPYCACHEPREFIX"] is None
    assert not (home / "state").exists()

"""The same tests once more as an ordinary user, when this run is root's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.node

ROOT = Path(__file__).parents[3]
NOBODY = 65534


def _python(path: str) -> str | None:
    """An interpreter that an ordinary user can run, with this one's packages."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        try:
            done = subprocess.run(
                [candidate, "-c", "import headrace.machinery.settings, pytest, pytest_asyncio, msgspec"],
                env={"PYTHONPATH": path},
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    return None


@pytest.mark.skipif(os.getuid() != 0, reason="this run is an ordinary user's already")
@pytest.mark.timeout(600)
def test_everything_as_an_ordinary_user():
    base = Path(tempfile.mkdtemp(prefix="headrace-rootless-"))
    try:
        base.chmod(0o755)
        for part in ("src/headrace", "tests/node/runtime", "tests/node/network", "pyproject.toml"):
            source, target = ROOT / part, base / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        for path in base.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (base / "tmp").mkdir()
        os.chown(base / "tmp", NOBODY, NOBODY)
        path = f"{base}/src:{sysconfig.get_path('purelib')}"
        python = _python(path)
        if python is None:
            pytest.skip("no interpreter with our packages that an ordinary user may run")
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": path,
            "HOME": str(base / "tmp"),
            "TMPDIR": str(base / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "node", "tests/node"]
        done = subprocess.run(
            command,
            cwd=base,
            env=environment,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert " passed" in done.stdout
    finally:
        shutil.rmtree(base, ignore_errors=True)

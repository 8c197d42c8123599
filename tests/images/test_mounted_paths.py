"""Programs in Python find volumes by the paths that they have built in."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.images import mounted_paths
from headrace.images.mounted_paths import Paths


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/data", "/R"),
        ("/data/a/b", "/R/a/b"),
        ("/data/deep/c", "/S/c"),
        (b"/data/a", b"/R/a"),
        (Path("/data/a"), "/R/a"),
        ("/database", "/database"),
        ("data", "data"),
        (3, 3),
        (None, None),
        (1.5, 1.5),
    ],
)
def test_what_is_meant(path, meant):
    assert Paths({"/data": "/R", "/data/deep": "/S"}).meant(path) == meant


PROGRAM = """
import os, pathlib, shutil
os.mkdir("/no-such-mount/folder")
with open("/no-such-mount/folder/file", "w") as file:
    file.write("text")
path = pathlib.Path("/no-such-mount/folder")
print(path.is_dir(), os.listdir("/no-such-mount"), (path / "file").read_text(), os.path.isfile(path / "file"))
os.rename("/no-such-mount/folder/file", "/no-such-mount/folder/other")
shutil.rmtree(path)
print(os.path.exists(path), os.path.exists("/etc/passwd"), open("/etc/passwd").read() != "", os.stat in os.supports_fd)
import ssl
print(len(ssl.create_default_context(cafile="/no-such-mount/ca.crt").get_ca_certs()))
"""


def test_a_program(tmp_path):
    volume, site = tmp_path / "volume", tmp_path / "site"
    volume.mkdir()
    site.mkdir()
    known = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    if not Path(known).is_file():
        pytest.skip("this machine has no certificates")
    shutil.copyfile(known, volume / "ca.crt")
    shutil.copyfile(mounted_paths.__file__, site / "_paths.py")
    (site / "_paths.json").write_text(f'{{"/no-such-mount": "{volume}"}}')
    done = subprocess.run(
        [sys.executable, "-c", f"import _paths; _paths.main()\n{PROGRAM}"],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    listed = [first.replace("['folder', 'ca.crt']", "['ca.crt', 'folder']"), second]
    assert listed == ["True ['ca.crt', 'folder'] text True", "False True True True"]
    assert int(third) > 0
    assert [p.name for p in volume.iterdir()] == ["ca.crt"]

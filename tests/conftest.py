"""What tests of every part may use: a key, small disks that fill up or fail, and the switch for slow tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take many minutes as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes many minutes: ask for it with --slow"))


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key with which the API server signs tokens; making one takes long, so there is one for all tests."""
    key = tmp_path_factory.mktemp("pki") / "key.pem"
    key.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return key


class Disk:
    """A file system of its own, mounted at `path`."""

    def __init__(self, path: Path, image: Path = Path()) -> None:
        self.path, self._image = path, image
        self._filler = path / "filler"

    def fill(self) -> None:
        """Take all of its room."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def empty(self) -> None:
        """Give it back."""
        self._filler.unlink()

    def fail(self) -> None:
        """Let the kernel find a fault: it takes no writes from now on."""
        found = subprocess.run(["findmnt", "-no", "SOURCE", self.path], check=True, capture_output=True, text=True)
        device = Path(found.stdout.strip()).resolve()
        try:
            Path(f"/sys/fs/ext4/{device.name}/trigger_fs_error").write_text("a test")
        except OSError as error:
            pytest.skip(f"no disk can be made to fail here: {error}")
        with contextlib.suppress(OSError):
            (self.path / "probe").touch()
            pytest.skip("a disk that failed is still written to here")

    def mend(self) -> None:
        """Check it and mount it again. No file of it may be open."""
        subprocess.run(["umount", self.path], check=True, capture_output=True)
        subprocess.run(["e2fsck", "-fy", self._image], check=False, capture_output=True)
        subprocess.run(["mount", "-o", "loop,errors=remount-ro", self._image, self.path], check=True)


def _mount(where: Path, *command: str) -> None:
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("only root can mount a disk for this test")
    where.mkdir()
    done = subprocess.run(["mount", *command, str(where)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path):
    """Four megabytes of memory."""
    where = tmp_path / "disk"
    _mount(where, "-t", "tmpfs", "-o", "size=4m", "tmpfs")
    yield Disk(where)
    subprocess.run(["umount", "-l", where], check=True)


@pytest.fixture
def mortal_disk(tmp_path: Path):
    """A real file system in a file; it becomes read-only when it finds a fault."""
    image, where = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    if shutil.which("mkfs.ext4") is None or shutil.which("findmnt") is None:
        pytest.skip("mkfs.ext4 and findmnt are not on this machine")
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, capture_output=True)
    _mount(where, "-o", "loop,errors=remount-ro", str(image))
    yield Disk(where, image)
    subprocess.run(["umount", "-l", where], check=True)

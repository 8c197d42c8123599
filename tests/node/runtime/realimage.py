"""Images for podman, made here: there need be no registry."""

from __future__ import annotations

import functools
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

_PREFIX = str(Path(os.path.realpath(sys.executable)).parent.parent)
_LINKS = ("bin", "sbin", "lib", "lib64")
SHOWN = (
    "/usr",
    *(f"/{name}" for name in _LINKS if Path("/", name).is_dir() and not Path("/", name).is_symlink()),
    *(() if _PREFIX.startswith("/usr") else (_PREFIX,)),
)
"""Folders of the machine that containers of the skeleton are shown, so that they have its programs."""
_LEFT_OUT = frozenset({"test", "tests", "idlelib", "lib2to3", "tkinter", "ensurepip", "site-packages", "dist-packages"})
_ACCOUNTS = {"passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n", "group": "root:x:0:\n"}


@functools.cache
def skeleton() -> str:
    """An image of folders alone; its name."""
    links = {name: str(Path("/", name).readlink()) for name in _LINKS if Path("/", name).is_symlink()}
    return load(f"localhost/headrace-test-skeleton-{os.getpid()}:1", links, {})


def busybox(
    name: str, *changes: str, files: dict[str, bytes] | None = None, links: dict[str, str] | None = None
) -> str:
    """An image of busybox alone, whose configuration is changed by these lines of a Dockerfile; and of these files."""
    program = shutil.which("busybox") or "busybox"
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    found = {f"bin/{applet}": "busybox" for applet in applets if applet != "busybox"}
    return load(
        name, {**found, **(links or {})}, {"bin/busybox": Path(program).read_bytes(), **(files or {})}, *changes
    )


def python(name: str, *packages: Path) -> str:
    """An image of busybox and of this Python with its standard library and these packages, which need no others."""
    program = os.path.realpath(sys.executable)
    stdlib = Path(sysconfig.get_path("stdlib"))
    files = {program.lstrip("/"): Path(program).read_bytes()}
    for folder, target in ((stdlib, stdlib), *((p, stdlib / p.name) for p in packages)):
        for file in folder.rglob("*"):
            inner = file.relative_to(folder)
            if file.is_file() and file.suffix in {".py", ".so"} and not _LEFT_OUT.intersection(inner.parts):
                files[str(target / inner).lstrip("/")] = file.read_bytes()
    needed = subprocess.run(
        ["ldd", program, *stdlib.glob("lib-dynload/*.so")], capture_output=True, text=True, check=False
    ).stdout
    for library in set(re.findall(r"(/[^\s:]+\.so[^\s:]*)(?= \()", needed)):
        files[library.lstrip("/")] = Path(library).read_bytes()
    return busybox(name, f'ENV PATH="/bin:{Path(program).parent}"', files=files, links={"bin/python3": program})


def load(name: str, links: dict[str, str], files: dict[str, bytes], *changes: str) -> str:
    """Give podman an image."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for folder, mode in (("tmp", 0o1777), ("etc", 0o755), ("root", 0o700), ("usr", 0o755), ("proc", 0o555)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        for path, target in links.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
        for path, data in {**files, **{f"etc/{k}": v.encode() for k, v in _ACCOUNTS.items()}}.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o644 if path.startswith("etc/") else 0o755
            tar.addfile(entry, io.BytesIO(data))
    options = [f"--change={line}" for line in changes]
    words = ["podman", "import", "--quiet", *options, "-", name]
    subprocess.run(words, input=archive.getvalue(), capture_output=True, check=True)
    return name


def forget() -> None:
    """Remove the skeleton, if it was made."""
    if skeleton.cache_info().currsize:
        remove(skeleton())
        skeleton.cache_clear()


def remove(name: str) -> None:
    """Take an image from podman again, with what still runs of it."""
    listed = subprocess.run(
        ["podman", "ps", "--all", "--quiet", f"--filter=ancestor={name}"], capture_output=True, text=True, check=False
    )
    for words in (["rm", "--force", "--time=0", *listed.stdout.split()], ["rmi", "--force", name]):
        subprocess.run(["podman", *words], capture_output=True, check=False)

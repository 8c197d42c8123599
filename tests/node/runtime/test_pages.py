"""Huge pages for what forks often: only what is in use is gathered, and nothing changes by it."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.node.runtime.sandboxd import pages

pytestmark = pytest.mark.skipif(os.sysconf("SC_PAGE_SIZE") != 4096, reason="other pages than the usual ones")
GATHER = """
import sys
sys.path.insert(0, sys.argv[1])
from sandboxd import pages
held = [bytes([n % 251]) * 400 for n in range(30_000)]
gathered = pages.gather()
assert all(one == bytes([n % 251]) * 400 for n, one in enumerate(held))
print(gathered)
"""


def test_only_what_is_nearly_full_is_gathered() -> None:
    blocks = 4
    area = mmap.mmap(-1, blocks * pages.HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    held = ctypes.c_char.from_buffer(area)
    first = -(-ctypes.addressof(held) // pages.HUGE) * pages.HUGE
    offset = first - ctypes.addressof(held)
    del held
    area[offset : offset + pages.HUGE] = b"x" * pages.HUGE  # a full one, and of the next a page
    area[offset + pages.HUGE] = 1
    try:
        found = list(pages.in_use())
        assert first in found
        assert first + pages.HUGE not in found
        assert first + 2 * pages.HUGE not in found
    finally:
        area.close()


def test_gathering_changes_nothing() -> None:
    package = str(Path(pages.__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", GATHER, package], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 0

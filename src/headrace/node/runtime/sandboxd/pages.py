"""The memory of a process that forks often, in huge pages.

A fork copies an entry for each page that it shares, and the end of a child lets go of each: for an interpreter with a
hundred megabytes of modules that is most of what a fork costs. A huge page is one entry. What a child then writes to
is still copied in small pages.

It is a matter of time only: where the kernel has no such pages, or no room for them, all stays as it is.
"""

from __future__ import annotations

import os

from . import linux

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    from collections.abc import Iterator

HUGE = 2 << 20
"""The size on every machine whose small pages have the usual 4 KiB; on others nothing is done."""
_SMALL = 4096
_ENTRY, _PRESENT = 8, 0x80
"""An entry of pagemap, and the bit of its last byte that says that the page is there."""
_FULL = 0.75
"""So much of a huge page must be in use already: the rest of it is memory that nobody asked for."""


def gather() -> int:
    """Have the kernel gather what this process has written in huge pages; how many there are then."""
    if os.sysconf("SC_PAGE_SIZE") != _SMALL:
        return 0
    gathered = 0
    try:
        for address in in_use():
            linux.collapse(address, HUGE)
            gathered += 1
    except OSError:
        pass  # the kernel cannot, or not now
    return gathered


def in_use() -> Iterator[int]:
    """Where huge pages would be nearly full."""
    with open("/proc/self/maps", "rb") as file:
        areas = [line.split() for line in file]
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for area in areas:
            if area[1] != b"rw-p" or (len(area) > 5 and area[5] != b"[heap]"):
                continue
            begin, end = (int(part, 16) for part in area[0].split(b"-"))
            for address in range(-(-begin // HUGE) * HUGE, end - HUGE + 1, HUGE):
                entries = os.pread(pagemap, HUGE // _SMALL * _ENTRY, address // _SMALL * _ENTRY)
                present = sum(last >= _PRESENT for last in entries[_ENTRY - 1 :: _ENTRY])
                if present >= _FULL * (HUGE // _SMALL):
                    yield address
    finally:
        os.close(pagemap)

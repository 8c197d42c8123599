"""The system calls that the profile RuntimeDefault takes away: those that manage the machine and its namespaces.

A list of what is refused, where container engines list what is allowed: pods have no capability for most of these
anyway. Programs of another architecture than the machine's cannot run under it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
"""Offsets in struct seccomp_data."""
_X32 = 0x40000000
_NEW_NAMESPACES = 0x7E020000
_NO_SUCH = 0xFFFFFFFF

# clone, clone3 are apart; the rest in the order of their names: acct … vhangup.
_COMMON = (425, 426, 427, 428, 429, 430, 431, 432, 433, 442, 443)
"""io_uring_*, open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr, quotactl_fd"""
_X86_64 = (
    *(163, 248, 321, 305, 227, 174, 176, 313, 175, 173, 172, 320, 246, 250, 212, 165, 180, 304, 298, 155, 179),
    *(169, 249, 171, 170, 308, 164, 168, 167, 103, 166, 272, 323, 153),
)
_AARCH64 = (
    *(89, 217, 280, 266, 112, 106, 273, 105, 294, 104, 219, 18, 40, 42, 265, 241, 41, 60, 142, 218, 162, 161, 268),
    *(170, 225, 224, 116, 39, 97, 282, 58),
)
_MACHINES = {
    "x86_64": (0xC000003E, 56, _X86_64),
    "aarch64": (0xC00000B7, 220, _AARCH64),
}
"""Audit number of the architecture, number of clone, numbers that are refused."""
_CLONE3 = 435


def program(machine: str) -> bytes:
    """The filter. Raises OSError where there is none for the machine."""
    if machine not in _MACHINES:
        raise OSError(errno.ENOTSUP, f"there is no seccomp profile for {machine}: leave seccompProfile out")
    architecture, clone, refused = _MACHINES[machine]
    refuse = _step(_RETURN, _ERRNO | errno.EPERM)
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, architecture, 1, 0),
        refuse,
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _X32 if machine == "x86_64" else _NO_SUCH, 0, 1),
        refuse,
        # The C library does without clone3, whose flags a filter cannot see.
        _step(_EQUAL, _CLONE3, 0, 1),
        _step(_RETURN, _ERRNO | errno.ENOSYS),
        _step(_EQUAL, clone, 0, 4),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_ANY_BIT, _NEW_NAMESPACES, 0, 1),
        refuse,
        _step(_RETURN, _ALLOW),
    ]
    for number in (*refused, *_COMMON):
        steps += [_step(_EQUAL, number, 0, 1), refuse]
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def apply() -> None:
    """Filter this process and all that it will be and start; no_new_privs must be set."""
    raw = program(os.uname().machine)
    held = ctypes.create_string_buffer(raw, len(raw))
    head = struct.pack("HxxxxxxP", len(raw) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.c_char_p(head), 0, 0) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"seccomp: {os.strerror(code)}")

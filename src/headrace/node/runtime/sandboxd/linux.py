"""The kernel calls that Python does not offer, by ctypes. Every failure is an OSError that names the call."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

from . import seccomp

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .wire import Message

CLONE_NEWNS = 0x20000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_SLAVE = 4096, 16384, 1 << 19

MOUNT_ATTR_RDONLY = 1
_READ_ONLY = struct.pack("QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0)
_WRITABLE = struct.pack("QQQQ", 0, MOUNT_ATTR_RDONLY, 0, 0)
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_AT_EMPTY_PATH = 0x1000
_MNT_DETACH = 2

_NS_GET_USERNS, _NS_GET_NSTYPE = 0xB701, 0xB703
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS, _FS_TOPDIR_FL = 0x80086601, 0x40086602, 0x20000

_SYS_MOUNT_SETATTR = 442
_SYS_CLOSE_RANGE = 436
_SYS_OPENAT2 = 437
_SYS_PIDFD_OPEN = 434

_RESOLVE_NO_MAGICLINKS = 2
_RESOLVE_NO_SYMLINKS = 4
_RESOLVE_BENEATH = 8

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_SECUREBITS = 28
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _AMBIENT_RAISE = 47, 2
_CAPABILITIES = 41
_SECBIT_NOROOT_AND_LOCKED = 3
_LINUX_CAPABILITY_VERSION_3 = 0x20080522

_MADV_COLLAPSE = 25

_libc = ctypes.CDLL(None, use_errno=True)
# Looked up once, here: in a fresh fork every lookup would copy pages, and there a page costs microseconds.
_mount, _umount2, _pivot_root = _libc.mount, _libc.umount2, _libc.pivot_root
_unshare, _setns, _sethostname = _libc.unshare, _libc.setns, _libc.sethostname
_prctl_call, _capset, _syscall, _madvise = _libc.prctl, _libc.capset, _libc.syscall, _libc.madvise
_c_ulong, _c_uint, _c_size_t, _c_void_p = ctypes.c_ulong, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p
_get_errno = ctypes.get_errno


def _fail(what: str) -> None:
    code = _get_errno()
    raise OSError(code, f"{what}: {os.strerror(code)}")


def _check(result: int, what: str) -> int:
    if result < 0:
        _fail(what)
    return result


def unshare(flags: int) -> None:
    """Move into new namespaces (for PID: the next child)."""
    _check(_unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    """Join the namespaces behind a namespace descriptor, or several behind a pidfd."""
    _check(_setns(fd, flags), "setns")


def network_namespace(path: str) -> int:
    """A descriptor of the network namespace behind a path of /proc; -1 when there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return -1
    try:
        if fcntl.ioctl(fd, _NS_GET_NSTYPE) == CLONE_NEWNET:
            return fd
    except OSError:
        pass  # a file of another kind
    os.close(fd)
    return -1


def owner_of(namespace: int) -> int:
    """A descriptor of the user namespace that owns another namespace."""
    return fcntl.ioctl(namespace, _NS_GET_USERNS)


def _raw(value: str | None) -> bytes | None:
    return None if value is None else value.encode("utf-8", "surrogateescape")


def mount(source: str | None, target: str, fstype: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """Mount a file system or change a mount, as the system call does."""
    if _mount(_raw(source), _raw(target), _raw(fstype), _c_ulong(flags), _raw(data)) < 0:
        _fail(f"mount {fstype or source} on {target}")


def bind(source: str, target: str, *, read_only: bool = False) -> None:
    """Show a file or a directory, with all that is mounted below it, at another place too."""
    mount(source, target, None, MS_BIND | MS_REC)
    if read_only:
        set_read_only(target)


def set_read_only(path: str, *, recursive: bool = True, on: bool = True) -> None:
    """Make the mount at `path` read-only, with all below it; or writable again."""
    flags = _AT_RECURSIVE if recursive else 0
    attributes = _READ_ONLY if on else _WRITABLE
    if _syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, _raw(path), flags, attributes, len(attributes)) < 0:
        _fail(f"mount_setattr {path}")


def pivot_root(new: str) -> None:
    """Make `new` the root of this mount namespace and let go of the old one."""
    os.chdir(new)
    _check(_pivot_root(b".", b"."), "pivot_root")
    _check(_umount2(b".", _MNT_DETACH), "umount2")
    os.chdir("/")


def open_beneath(root: int, path: str, flags: int) -> int:
    """Open `path` below the directory `root`, following no symlink at all."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)
    return _check(_syscall(_SYS_OPENAT2, root, os.fsencode(path), how, len(how)), f"open {path}")


def pidfd_open(pid: int) -> int:
    """A descriptor of a process; it becomes readable when the process ends."""
    return _check(_syscall(_SYS_PIDFD_OPEN, pid, 0), "pidfd_open")


def set_hostname(name: str) -> None:
    """The hostname of this UTS namespace."""
    raw = name.encode()
    _check(_sethostname(raw, _c_size_t(len(raw))), "sethostname")


def _prctl(option: int, argument: int) -> int:
    return int(_prctl_call(option, _c_ulong(argument), 0, 0, 0))


def die_with_parent(signal: int) -> None:
    """Get this signal when the parent ends; 0 for none. Changing the uid forgets it."""
    _check(_prctl(_PR_SET_PDEATHSIG, signal), "prctl")


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent ends."""
    _check(_prctl(_PR_SET_CHILD_SUBREAPER, 1), "prctl")


def set_process_name(name: str) -> None:
    """What `ps -o comm` shows."""
    _prctl_call(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def drop_privileges(who: Message, *, isolated: bool) -> None:
    """Give up every capability but those of `who` for good, also for what will be executed, and take the uid, gid
    and groups of `who` where they are given; in a user namespace of its own the process has them already. Then the
    system calls that `who` goes without are refused.
    """
    _prctl(_PR_SET_SECUREBITS, _SECBIT_NOROOT_AND_LOCKED)
    uid, gid = (None, None) if isolated else (who["uid"], who["gid"])
    if not isolated and (uid is not None or gid is not None or who["groups"]):
        os.setgroups(who["groups"])
    if gid is not None:
        os.setresgid(gid, gid, gid)
    if uid is not None:
        os.setresuid(uid, uid, uid)
    mask = who["capabilities"] if os.getuid() == 0 else 0
    if mask:
        for number in range(_CAPABILITIES):
            if not mask >> number & 1:
                _prctl(_PR_CAPBSET_DROP, number)  # fails for those that this kernel does not have
    header = struct.pack("Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    _check(_capset(header, struct.pack("IIIIII", mask, mask, mask, 0, 0, 0)), "capset")
    for number in range(_CAPABILITIES if mask else 0):
        if mask >> number & 1:
            _check(int(_prctl_call(_PR_CAP_AMBIENT, _c_ulong(_AMBIENT_RAISE), _c_ulong(number), 0, 0)), "prctl")
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "prctl")
    if who.get("filtered"):
        seccomp.apply()


def spread(folder: str) -> None:
    """Have the file system keep the subfolders of this one apart. Where many come and go side by side, ext4 looks at
    each inode that was freed lately before it takes another one: a tenth of a millisecond for each file.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = struct.unpack("l", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(struct.calcsize("l"))))[0]
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("l", flags | _FS_TOPDIR_FL))
    except OSError:
        pass  # another file system
    finally:
        os.close(fd)


def collapse(address: int, length: int) -> None:
    """Gather a part of this process's memory in huge pages (Linux 6.1 and newer)."""
    _check(_madvise(_c_void_p(address), _c_size_t(length), _MADV_COLLAPSE), "madvise")


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor from 3 on but these."""
    low = 3
    for fd in [*sorted(k for k in keep if k >= low), 1 << 31]:
        if fd > low and _syscall(_SYS_CLOSE_RANGE, _c_uint(low), _c_uint(fd - 1), 0) < 0:
            os.closerange(low, min(fd, 65536))
        low = fd + 1


def write_control(path: str, text: str) -> None:
    """Write to a file of /proc or /sys. A text file object would import a codec in every child: milliseconds."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def read_control(path: str) -> bytes:
    """Read a small file of /proc or /sys."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536)
    finally:
        os.close(fd)


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: with the pid, a name for it. None when it is gone."""
    try:
        fields = read_control(f"/proc/{pid}/stat").rsplit(b")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])

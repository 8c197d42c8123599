"""The file tree that a container sees: the host, read-only, without what is nobody's business.

Built in a fresh mount namespace below an empty folder, then made the root. The new root is a tmpfs whose
entries are the host's top-level folders, so a mount point that the host lacks costs nothing at the top level;
deeper down, the read-only folder above it is replaced by a tmpfs that shows the same entries.

Invariants: sources are host paths and are resolved on the host; targets are resolved inside the new root and
never lead out of it, whatever symlinks lie there.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from . import linux
from .trash import remove_tree

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable

    from .wire import Message

_OWN = frozenset({"proc", "dev", "tmp", "run", "home", "root", "mnt", "media", "lost+found"})
"""Top-level folders of which a container gets its own, or none."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
_PROC_READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus", "fs")
_PROC_HIDDEN = ("kcore", "keys", "timer_list", "sched_debug")
_ON_DISK = ("scratch", "layers")
"""What a container has in its folder besides the records of its supervisor."""
_TMPFS = linux.MS_NOSUID | linux.MS_NODEV
_MAX_SYMLINKS = 40


class MountFailed(Exception):
    """A mount of the container's specification cannot be made; the message says why."""


class Root:
    """The tree under construction."""

    def __init__(self, path: str, *, user_namespace: bool) -> None:
        self.path = path
        self._user_namespace = user_namespace
        self._layers = 0
        self._folder = ""
        """Where on the disk its temporary files and layers are."""
        self._own: list[str] = []
        """Writable mounts that belong to the image, not to a volume."""
        self._volumes: set[str] = set()
        """Where volumes are mounted, perhaps over what is the image's: on /tmp, say."""

    def begin(self, like: Message) -> None:
        """In the container's first process: all that does not depend on which container it is. Where that is not known
        yet, `dir` is a folder for what it needs on the disk.
        """
        os.umask(0o022)
        if not self._user_namespace:
            linux.mount(None, "/", None, linux.MS_REC | linux.MS_SLAVE)
        self._host()
        self._devices()
        self._folder = like["dir"]
        self._scratch()
        for path in like["hide"]:
            self._hide(path)
        for path in like["expose"]:
            self._expose(path)
        for path in like["writable"]:
            self._layer(path, like)
        for mount in like["everywhere"]:
            self._mount(mount)
        self._proc()

    def finish(self, spec: Message) -> None:
        """The rest: what it was specified to have. `spec` has what `begin` was told, and more."""
        if self._folder != spec["dir"]:
            self._move(spec)
        home = spec["env"].get("HOME", "")
        if home.startswith("/"):
            self._own_folder(home, spec)
        for path, sources in spec.get("layers", ()):
            self._image(path, sources, spec)
        for mount in sorted(spec["mounts"], key=lambda m: m["target"].rstrip("/").count("/")):
            if mount not in spec["everywhere"]:
                self._mount(mount)
        try:
            self.place(spec["cwd"], folder=True)
        except MountFailed as error:
            raise MountFailed(f"working directory {spec['cwd']}: {error}") from None
        if spec["read_only_root"]:
            for path in (self.path, *(own for own in self._own if own not in self._volumes)):
                linux.set_read_only(path, recursive=False)

    def _host(self) -> None:
        root = self.path
        linux.mount("tmpfs", root, "tmpfs", _TMPFS, "mode=755")
        for entry in os.scandir("/"):
            target = root + "/" + entry.name
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), target)
            elif entry.is_dir() and entry.name not in _OWN:
                os.mkdir(target)
                linux.mount(entry.path, target, None, linux.MS_BIND | linux.MS_REC)
        linux.set_read_only(root)
        linux.set_read_only(root, recursive=False, on=False)
        for name in _OWN - {"lost+found"}:
            if not os.path.lexists(f"{root}/{name}"):
                os.mkdir(f"{root}/{name}")
        os.mkdir(root + "/run/lock")

    def _devices(self) -> None:
        dev = self.path + "/dev"
        linux.mount("tmpfs", dev, "tmpfs", linux.MS_NOSUID | linux.MS_NOEXEC, "mode=755")
        for name in _DEVICES:
            target = f"{dev}/{name}"
            _touch(target)
            linux.mount("/dev/" + name, target, None, linux.MS_BIND)
        for name, destination in _DEVICE_LINKS:
            os.symlink(destination, f"{dev}/{name}")
        os.mkdir(dev + "/pts")
        linux.mount(
            "devpts",
            dev + "/pts",
            "devpts",
            linux.MS_NOSUID | linux.MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620",
        )
        os.mkdir(dev + "/shm")
        linux.mount("tmpfs", dev + "/shm", "tmpfs", _TMPFS, "mode=1777")

    def _move(self, spec: Message) -> None:
        """What was made ahead is this container's now."""
        folder, self._folder = self._folder, spec["dir"]
        try:
            os.rename(folder, self._folder)  # it is empty
        except OSError:
            _clear(self._folder)
            for name in os.listdir(folder):
                os.rename(f"{folder}/{name}", f"{self._folder}/{name}")
            os.rmdir(folder)
        if spec["uid"] is not None or spec["gid"] is not None:
            for path in spec["writable"]:
                place = self.place(path, folder=True)
                _give(place, spec, os.stat(place))

    def _scratch(self) -> None:
        """A folder of its own for temporary files, on disk: training data does not belong into memory."""
        _clear(self._folder)
        source = self._folder + "/scratch"
        os.mkdir(source)
        os.chmod(source, 0o1777)  # noqa: S103 - what /tmp is
        for name in ("tmp", "var/tmp"):
            target = f"{self.path}/{name}"
            if os.path.isdir(target) and not os.path.islink(target):
                linux.mount(source, target, None, linux.MS_BIND)
                self._own.append(target)

    def _hide(self, path: str) -> None:
        target = self.path + path
        if os.path.isdir(target):
            linux.mount("tmpfs", target, "tmpfs", _TMPFS, "mode=755")
            self._own.append(target)
        elif os.path.exists(target):
            linux.mount("/dev/null", target, None, linux.MS_BIND)

    def _expose(self, path: str) -> None:
        try:
            there = os.stat(path)
        except OSError:
            return
        try:
            here = os.stat(self.path + path)
        except OSError:
            pass
        else:
            if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                return
        linux.bind(path, self.place(path, folder=stat.S_ISDIR(there.st_mode)), read_only=True)

    def _own_folder(self, path: str, spec: Message) -> None:
        """Make sure that $HOME exists where that costs nothing, and belongs to the container's user."""
        target = self.path + path
        if os.path.isdir(target):
            return
        try:
            os.makedirs(target)
        except OSError:
            return  # below a read-only folder of the host: an image may well lack its user's home
        if spec["uid"] is not None and not self._user_namespace:
            os.chown(target, spec["uid"], -1 if spec["gid"] is None else spec["gid"])

    def _layer(self, path: str, spec: Message) -> None:
        """A throw-away writable layer over a folder of the host."""
        lower = os.path.realpath(path)
        target = self.place(path, folder=True)
        if os.path.isdir(lower):
            self._overlay(path, target, [lower], spec)

    def _image(self, path: str, sources: list[str], spec: Message) -> None:
        """A folder of the image, over the host's of the same name if there is one."""
        target = self.place(path, folder=True)
        self._overlay(path, target, [os.path.realpath(source) for source in sources], spec)
        self._own.append(target)

    def _overlay(self, path: str, target: str, lowers: list[str], spec: Message) -> None:
        if any(mark in lower for mark in ":,\\" for lower in lowers):
            raise MountFailed(f"{path} cannot get a writable layer: its path has a colon, a comma or a backslash")
        kind = os.stat(lowers[0])
        self._layers += 1
        errors = []
        for place in (f"{self._folder}/layers/{self._layers}", f"{self.path}/.layers/{self._layers}"):
            os.makedirs(place + "/upper")
            os.makedirs(place + "/work")
            if not self._user_namespace:
                _give(place + "/upper", spec, kind)
            os.chmod(place + "/upper", stat.S_IMODE(kind.st_mode) | stat.S_IWUSR)
            # Volatile, as it is thrown away: without that, the end of a container would wait until all that anybody has
            # written to that disk is on it.
            options = f"lowerdir={':'.join(lowers)},upperdir={place}/upper,workdir={place}/work,volatile"
            try:
                linux.mount(
                    "overlay", target, "overlay", _TMPFS, options + (",userxattr" if self._user_namespace else "")
                )
            except OSError as error:  # a file system that cannot hold a layer: use memory
                errors.append(str(error.strerror))
            else:
                return
        raise MountFailed(f"{path} cannot get a writable layer: {'; '.join(errors)}")

    def _mount(self, mount: Message) -> None:
        target, source = mount["target"], mount["source"]
        try:
            if mount["kind"] == "tmpfs":
                place = self._volume(target, folder=True)
                size = f",size={mount['size']}" if mount["size"] is not None else ""
                self._on(place, lambda path: linux.mount("tmpfs", path, "tmpfs", _TMPFS, "mode=1777" + size))
            else:
                place = self._volume(target, folder=os.path.isdir(source))
                self._on(place, lambda path: linux.bind(source, path))
                if mount["read_only"]:
                    self._on(place, linux.set_read_only)
        except FileNotFoundError:
            raise MountFailed(f"mount {target}: {source} does not exist on the node") from None
        except OSError as error:
            raise MountFailed(f"mount {target}: {error.strerror}") from None
        except MountFailed as error:
            raise MountFailed(f"mount {target}: {error}") from None

    def _volume(self, target: str, *, folder: bool) -> str:
        place = self.place(target, folder=folder)
        self._volumes.add(place)
        return place

    def _on(self, place: str, action: Callable[[str], None]) -> None:
        """Do something to a place, held by descriptor so that nobody can swap it meanwhile."""
        root = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            held = linux.open_beneath(root, place[len(self.path) + 1 :] or ".", os.O_PATH)
        finally:
            os.close(root)
        try:
            action(f"/proc/self/fd/{held}")
        finally:
            os.close(held)

    def place(self, target: str, *, folder: bool) -> str:
        """The path of a target below the new root, symlinks resolved as the container will; made when missing."""
        todo = [part for part in target.split("/") if part not in {"", "."}][::-1]
        current = self.path
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                current = current if current == self.path else os.path.dirname(current)
                continue
            following = f"{current}/{part}"
            try:
                mode = os.lstat(following).st_mode
            except FileNotFoundError:
                self._make(current, following, folder=folder or bool(todo))
                current = following
                continue
            if stat.S_ISLNK(mode):
                links += 1
                if links > _MAX_SYMLINKS:
                    raise MountFailed("too many symbolic links")
                link = os.readlink(following)
                if link.startswith("/"):
                    current = self.path
                todo += [piece for piece in link.split("/") if piece not in {"", "."}][::-1]
                continue
            if todo and not stat.S_ISDIR(mode):
                raise MountFailed(f"{following[len(self.path) :]} is not a directory")
            current = following
        if os.path.isdir(current) != folder:
            raise MountFailed(f"{current[len(self.path) :] or '/'} is {'not ' if folder else ''}a directory")
        return current

    def _make(self, parent: str, path: str, *, folder: bool) -> None:
        make = os.mkdir if folder else _touch
        try:
            make(path)
        except OSError as error:
            if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
                raise
            self._splice(parent)
            make(path)

    def _splice(self, folder: str) -> None:
        """Put a tmpfs over a read-only folder that shows the same entries, so that one can be added."""
        keep = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mode = stat.S_IMODE(os.stat(keep).st_mode)
            linux.mount("tmpfs", folder, "tmpfs", _TMPFS, f"mode={mode:o}")
            self._own.append(folder)
            for name in os.listdir(f"/proc/self/fd/{keep}"):
                source, target = f"/proc/self/fd/{keep}/{name}", f"{folder}/{name}"
                kind = os.lstat(source).st_mode
                if stat.S_ISLNK(kind):
                    os.symlink(os.readlink(source), target)
                    continue
                if stat.S_ISDIR(kind):
                    os.mkdir(target)
                else:
                    _touch(target)
                linux.bind(source, target)
        finally:
            os.close(keep)

    def _proc(self) -> None:
        proc = self.path + "/proc"
        try:
            linux.mount("proc", proc, "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        except PermissionError:
            # Somebody hides parts of /proc from us (a container around us): only the outer one can be shown.
            linux.mount("/proc", proc, None, linux.MS_BIND | linux.MS_REC)
        if not self._user_namespace:  # the kernel lets uid 0 write to these without any capability
            for name in _PROC_READ_ONLY:
                if os.path.exists(f"{proc}/{name}"):
                    linux.bind(f"{proc}/{name}", f"{proc}/{name}", read_only=True)
            for name in _PROC_HIDDEN:
                if os.path.exists(f"{proc}/{name}"):
                    linux.mount("/dev/null", f"{proc}/{name}", None, linux.MS_BIND)

    def enter(self) -> None:
        """Make the tree the root."""
        linux.pivot_root(self.path)


def folder_in(ahead: str) -> str:
    """A new folder for a container that is made ahead."""
    if not os.path.isdir(ahead):
        os.makedirs(ahead, mode=0o700, exist_ok=True)
        linux.spread(ahead)
    folder = f"{ahead}/{time.monotonic_ns():x}"
    os.mkdir(folder, 0o700)
    return folder


def _clear(folder: str) -> None:
    """Remove what is left of a start that came to nothing: one that was too slow and was given up for another."""
    for name in _ON_DISK:
        remove_tree(f"{folder}/{name}")


def _give(path: str, spec: Message, kind: os.stat_result) -> None:
    """Have it belong to the container's user, if that is said, else to whom the original belongs."""
    owner = kind.st_uid if spec.get("uid") is None else spec["uid"]
    os.chown(path, owner, kind.st_gid if spec.get("gid") is None else spec["gid"])


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))

"""A warm interpreter: imports modules once, then forks containers that start as if freshly executed.

Single-threaded and import-only: whatever importing leaves behind that a fork cannot carry (threads, open
files, output) makes the server refuse service. The Python environment variables that importing has read are
noted; a container for which one of them differs is left to a cold start.
"""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import json
import os
import runpy
import select
import signal
import site
import socket
import sys
import time

from . import linux, pages, wire
from .program import execute, restore_signals
from .spare import make
from .supervisor import supervise

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from .wire import Message

CONTROL, OUTPUT = 3, 4
_CANARY_SECONDS = 10.0
_PAUSE = 0.005
"""Seconds without a request before a spare is made: what has just been started goes first."""
_EVERYTHING = "*"
_PROGRAMS = "headrace"
_ENTRY, _REHEARSAL = "__main__", "rehearsal"
"""Modules of the platform's programs: `run` of the first one is the program, `rehearse` of the second one goes through
it before there are forks.
"""
_VIEWS = ("_collections_abc.py", "<frozen _collections_abc>", "/os.py", "<frozen os>")
"""Where `items`, `keys` and `copy` of the environment are implemented."""
_COPIER = "wsgiref.handlers"
"""Of the standard library, copies the environment when imported; its copy is renewed after the fork."""


_entries: dict[tuple[int, int], Any] = {}
"""Of the platform's programs that are here, the module that runs each, by the file that it was read from."""


class Unfit(Exception):
    """These modules cannot be kept warm; the message says why."""


class _Recorder(os._Environ):  # type: ignore[type-arg]  # to see what imports read
    """os.environ while modules are imported."""

    read: set[str] = set()

    def __getitem__(self, key: Any) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def __iter__(self) -> Any:
        caller = sys._getframe(1)
        while caller.f_back is not None and caller.f_code.co_filename.endswith(_VIEWS):
            caller = caller.f_back
        if caller.f_globals.get("__name__") != _COPIER:
            self.read.add(_EVERYTHING)
        return super().__iter__()


def serve(preload: str, at_start: frozenset[str]) -> tuple[Message, frozenset[str]]:
    """Import, then fork for every request. Returns in the first process of a container, with its specification and the
    modules that are here although its program has not imported them; `at_start` every interpreter has.
    """
    control = socket.socket(fileno=CONTROL)
    linux.die_with_parent(signal.SIGKILL)
    initial = dict(os.environ)
    try:
        read = _prepare(json.loads(preload))
    except Unfit as error:
        wire.send(control, {"unfit": str(error)})
        sys.exit(1)
    except BaseException as error:  # noqa: BLE001 - importing may raise anything
        wire.send(control, {"unfit": f"importing failed: {error!r}"})
        sys.exit(1)
    _forget_imports()
    loaded = frozenset(name for name in sys.modules if "." not in name) - at_start - set(sys.builtin_module_names)
    gc.collect()
    gc.freeze()
    pages.gather()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the supervisors
    # The interpreter's own start may set LC_CTYPE, imports other variables; a cold start would do the same.
    initial.pop("LC_CTYPE", None)
    changes = {name: value for name, value in os.environ.items() if initial.get(name) != value}
    wire.send(control, {"ready": True, "read": {name: initial.get(name) for name in read}})
    ahead, like = False, None

    def forked() -> None:
        os.close(control.detach())
        os.close(OUTPUT)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def end(spec: Message) -> tuple[Message, frozenset[str]]:
        return {**spec, "env": {**changes, **spec["env"]}}, loaded

    while True:
        try:
            if not ahead and like is not None and not select.select([control], [], [], _PAUSE)[0]:
                made = make(like, forked)
                if isinstance(made, dict):
                    return end(made)
                ahead = True
                made.hand_over(control)
            message, fds = wire.receive(control)
        except (EOFError, OSError):
            os._exit(0)
        like = message["like"]
        ahead = ahead and not message["taken"]
        spec: Message | None = message.get("spec")
        if spec is not None and os.fork() == 0:
            forked()
            supervise(spec, fds[0], fds[1:], warm=True)
            return end(spec)
        for fd in fds:
            os.close(fd)


def _prepare(preload: list[str]) -> set[str]:
    """Import; the environment variables that this has read."""
    if not hasattr(os, "waitstatus_to_exitcode"):
        raise Unfit("it needs Python 3.9 or newer")
    if site.ENABLE_USER_SITE and os.path.isdir(site.getusersitepackages()):
        raise Unfit("the user's own site-packages would be imported from")
    plain = type(os.environ)
    os.environ.__class__ = _Recorder
    for name in preload:
        if name.startswith(f"{_PROGRAMS}."):
            _know_programs()
        importlib.import_module(name)
    os.environ.__class__ = plain
    for name in [name for name in preload if name.startswith(f"{_PROGRAMS}.")]:
        module = sys.modules[name]
        if name.endswith(f".{_ENTRY}"):
            found = os.stat(module.__file__ or "")
            _entries[found.st_dev, found.st_ino] = module
        elif name.endswith(f".{_REHEARSAL}"):
            module.rehearse()
    read = _Recorder.read - {"LC_CTYPE"}
    if _EVERYTHING in read:
        raise Unfit("a module copies the whole environment when it is imported")
    sys.stdout.flush()
    sys.stderr.flush()
    if select.select([OUTPUT], [], [], 0)[0]:
        text = os.read(OUTPUT, 300).decode(errors="replace").strip()
        raise Unfit(f"importing writes output: {text}")
    _canary()
    if len(os.listdir("/proc/self/task")) > 1:
        raise Unfit("importing starts threads")
    opened = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue  # the descriptor of the listing itself
        if int(entry) > OUTPUT:
            opened.append(path)
    if opened:
        raise Unfit(f"importing opens {', '.join(opened)}")
    return read


def _know_programs() -> None:
    """The programs that containers find below /opt/headrace are a package of that name."""
    if _PROGRAMS not in sys.modules:
        package = type(sys)(_PROGRAMS)
        above = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
        package.__path__ = [os.path.join(above, "images")]
        sys.modules[_PROGRAMS] = package


def _canary() -> None:
    """Fork once for the test: hooks of native libraries may hang, and computing in the child must work."""
    pid = os.fork()
    if pid == 0:
        try:
            numpy = sys.modules.get("numpy")
            if numpy is not None:
                square = numpy.ones((64, 64))
                square @ square  # it is the computing that counts
            os._exit(0)
        finally:
            os._exit(1)
    deadline = time.monotonic() + _CANARY_SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if status != 0:
                raise Unfit("computing after a fork crashes")
            return
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise Unfit("computing after a fork hangs")


def run(spec: Message, loaded: frozenset[str]) -> None:
    """Be the program `python SCRIPT ARGS`, as its interpreter would have started it."""
    argv, env = spec["argv"], spec["env"]
    known = _known_program(argv[1])
    if known is None and _shadows(argv[1], loaded):
        restore_signals()
        execute(argv, env)
    for name in list(os.environ):  # `clear` and `update` do twice as much
        del os.environ[name]
    for name, value in env.items():
        os.environ[name] = value
    _forget_the_server(argv)
    try:
        if known is not None:
            known.run(argv[2:])
        _run_script(argv[1])
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - it is the program's
        _report(error)
        sys.exit(130 if isinstance(error, KeyboardInterrupt) else 1)


def _known_program(script: str) -> Any:
    """The module to run when this folder is a program of the platform's that is here already, the very same."""
    try:
        found = os.stat(f"{script}/{_ENTRY}.py")
    except OSError:
        return None
    return _entries.get((found.st_dev, found.st_ino))


def _shadows(script: str, loaded: frozenset[str]) -> bool:
    """Whether a file beside the script would have been imported instead of a module that is here already."""
    folder = script if os.path.isdir(script) else os.path.dirname(os.path.realpath(script))
    try:
        return any(name.partition(".")[0] in loaded for name in os.listdir(folder))
    except OSError:
        return False


def _forget_imports() -> None:
    """Undo what importing has left behind, as far as forks do not need it."""
    for name in [name for name in sys.modules if name == "sandboxd" or name.startswith("sandboxd.")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    for module, name in (("tempfile", "tempdir"), ("platform", "_uname_cache")):
        if module in sys.modules:
            setattr(sys.modules[module], name, None)


def _forget_the_server(argv: list[str]) -> None:
    """Undo what differs between a process that has waited and a fresh one."""
    sys.argv = argv[1:]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = list(argv)
    time.tzset()
    site.USER_BASE = site.USER_SITE = None
    site.getusersitepackages()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    copier: Any = sys.modules.get(_COPIER)
    if copier is not None:
        copier.BaseHandler.os_environ = copier.read_environ()
    logging: Any = sys.modules.get("logging")
    if logging is not None:
        logging._startTime = time.time_ns() if sys.version_info >= (3, 13) else time.time()


def _run_script(script: str) -> None:
    """What the interpreter does with its first argument."""
    main = type(sys)("__main__")
    sys.modules["__main__"] = main
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    if os.path.isdir(script) or _is_archive(script):
        sys.path.insert(0, script)
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        return
    try:
        with open(script, "rb") as file:
            source = file.read()
    except OSError as error:
        sys.stderr.write(f"{sys.executable}: can't open file {script!r}: [Errno {error.errno}] {error.strerror}\n")
        sys.exit(2)
    sys.path.insert(0, os.path.dirname(os.path.realpath(script)))
    loader = importlib.machinery.SourceFileLoader("__main__", script)
    main.__dict__.update(__file__=script, __cached__=None, __loader__=loader, __annotations__={})
    exec(compile(source, script, "exec", dont_inherit=True), main.__dict__)  # noqa: S102 - it is the program


def _is_archive(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def _report(error: BaseException) -> None:
    """Print the traceback, without the frames of this file."""
    here = os.path.dirname(os.path.abspath(__file__))
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None and os.path.dirname(traceback.tb_frame.f_code.co_filename) == here:
        traceback = traceback.tb_next
    error.__traceback__ = traceback
    vars(sys)["last_exc"] = error  # read by debuggers from Python 3.12 on
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, traceback
    sys.excepthook(type(error), error, traceback)

"""Run a lightweight component inside of the launcher's own interpreter: no fork, no second interpreter.

Whatever way the author's program ends, the launcher must be able to report it. What ends a process at once is therefore
caught here: `os._exit`, `os.abort` and a signal that the program sends to itself conclude the step first (the first
process of a container could not be ended by its own signals anyway). What cannot be caught (a crash in native code, the
kernel's killing it) ends the container, and the platform learns the reason from the pod.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import gc
import importlib
import importlib.util
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .task import say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from importlib.machinery import ModuleSpec
    from types import CodeType, FrameType

    from .task import Task

LONGEST_REASON = 1000
COMPONENT = "ephemeral_component"
"""The module that kfp's command line makes of the author's source."""
_ENDING = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGPIPE", "SIGALRM", "SIGABRT", "SIGKILL")
"""Signals that end a program which has not said otherwise."""
_PREFIXES = {
    "_GCS_LOCAL_MOUNT_PREFIX": "/gcs/",
    "_MINIO_LOCAL_MOUNT_PREFIX": "/minio/",
    "_S3_LOCAL_MOUNT_PREFIX": "/s3/",
}


def run_inside(
    task: Task, source: str, arguments: list[str], env: Mapping[str, str], conclude: Callable[[int, str], int]
) -> NoReturn:
    """What `sh -ec` and kfp's runner would do, then `conclude`, then the end of this process."""
    ways_out = _WaysOut(conclude)
    ways_out.watch()
    gc.freeze()  # what is here already is not the program's
    _change_environment({**env, "_KFP_RUNTIME": "true"})
    path = write_down(source, os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - the container's own
    _forget_the_launcher()
    move_local_paths(task.scratch)
    code: object = 0
    reason = ""
    try:
        run_as_main(task.module, path, arguments)
    except SystemExit as ended:
        code = ended.code
        reason = _last_line(code) if isinstance(code, str) else ""
    except BaseException as error:  # noqa: BLE001 - this is the top of the author's program
        import traceback

        _show(error, task.module)
        reason = _last_line("".join(traceback.format_exception_only(type(error), error)))
        code = 1
    ways_out.end(end_program(code), reason)


def run_as_main(module: str, path: str, arguments: list[str]) -> None:
    """`python3 -m MODULE --component_module_path PATH ARGUMENTS`."""
    # A warm interpreter may have imported it; it must run anew as __main__.
    _forgotten.append(sys.modules.pop(module, None))
    sys.dont_write_bytecode = True  # nobody will ever import it again
    here = os.getcwd()  # noqa: PTH109
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    spec, code = _CODE.get(module) or _find_code(module)
    sys.argv = [str(spec.origin), "--component_module_path", path, *arguments]
    main = type(sys)("__main__")
    vars(main).update(
        __file__=spec.origin,
        __cached__=spec.cached,
        __loader__=spec.loader,
        __package__=spec.parent,
        __spec__=spec,
        __builtins__=builtins,
    )
    sys.modules["__main__"] = main
    exec(code, vars(main))  # noqa: S102 - it is what runpy does


_CODE: dict[str, tuple[ModuleSpec, CodeType]] = {}
"""What a warm interpreter has found already."""


def _find_code(module: str) -> tuple[ModuleSpec, CodeType]:
    spec = importlib.util.find_spec(module)
    loader: Any = None if spec is None else spec.loader
    if spec is None or loader is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    found = _CODE[module] = spec, loader.get_code(module)
    return found


def _change_environment(env: Mapping[str, str]) -> None:
    """Each variable that need not be written saves time."""
    for name in [name for name in os.environ if name not in env]:
        del os.environ[name]
    for name, value in env.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


class _WaysOut:
    """The ends of this process: each concludes the step, once."""

    def __init__(self, conclude: Callable[[int, str], int]) -> None:
        self._conclude, self._process = conclude, os.getpid()
        self._exit, self._kill = os._exit, os.kill
        self._once = threading.Lock()

    def watch(self) -> None:
        """From now on."""

        def leave(status: int) -> NoReturn:
            self.end(status & 0xFF, "")

        def kill(pid: int, number: int) -> None:
            if pid == self._process == os.getpid() and _ends(number):
                self.end(-number, "")
            self._kill(pid, number)

        def told(number: int, _frame: FrameType | None) -> None:
            self._exit(128 + number)  # somebody has the pod ended, and knows

        os._exit = leave
        os.kill = kill
        os.abort = lambda: self.end(-signal.SIGABRT, "")
        for name in _ENDING[:4]:
            signal.signal(getattr(signal, name), told)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def end(self, code: int, reason: str) -> NoReturn:
        """In a process that the program has forked: only that one's end."""
        if os.getpid() != self._process:
            self._exit(code if code >= 0 else 128 - code)
        self._once.acquire()  # never released: who comes second waits for the first one's end
        with contextlib.suppress(ValueError):  # in another thread than the main one
            signal.setitimer(signal.ITIMER_REAL, 0)
        status = 1
        try:
            status = self._conclude(code, reason)
        except BaseException:  # noqa: BLE001 - nobody above would show it
            import traceback

            say(traceback.format_exc())
        finally:
            self._exit(status)


def _ends(number: int) -> bool:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return False
    return name == "SIGKILL" or (name in _ENDING and signal.getsignal(number) is signal.SIG_DFL)


def leave(code: object) -> NoReturn:
    """End as sys.exit would, but for taking the interpreter apart."""
    os._exit(end_program(code))


def end_program(code: object) -> int:
    """What people can see of a program's end happens: threads are waited for, exit handlers run, files that were left
    open get what was written to them. In a fork of a large interpreter, taking it apart would copy all of its memory
    and take longer than most steps. The exit status.
    """
    import io

    status = 0 if code is None else code if isinstance(code, int) else 1
    if not isinstance(code, (int, type(None))):
        print(code, file=sys.stderr)
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - as the interpreter does at its end
    atexit._run_exitfuncs()  # noqa: SLF001
    files = io.IOBase.__base__ or io.IOBase  # asking the abstract class itself would look at every type's ancestors
    for found in gc.get_objects():
        if issubclass(type(found), files):
            with contextlib.suppress(Exception):
                found.flush()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    return status & 0xFF


def _last_line(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "")[:LONGEST_REASON]


def write_down(source: str, where: str) -> str:
    """As `mktemp -d` and a file in it."""
    folder = f"{where.rstrip('/')}/tmp.{os.urandom(5).hex()}"  # noqa: S108 - its name is nobody's guess
    os.mkdir(folder, 0o700)  # noqa: PTH102
    path = f"{folder}/{COMPONENT}.py"
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(source.encode())
    return path


_forgotten: list[object] = []
"""Modules that nobody shall find. They stay alive: taking them apart would only take time."""


def _forget_the_launcher() -> None:
    """The author's code must not find the launcher's modules."""
    root = __name__.rpartition(".")[0]
    above = root.partition(".")[0]
    found = [name for name in sys.modules if name in (root, above) or name.startswith(f"{above}.")]
    _forgotten.extend(sys.modules.pop(name) for name in found if name != "__main__")


def move_local_paths(scratch: str) -> None:
    """Where the platform cannot put a volume at /minio, kfp's artifacts have their paths below `scratch`."""
    if not scratch:
        return
    artifact_types = importlib.import_module("kfp.dsl.types.artifact_types")
    for name, mount in _PREFIXES.items():
        setattr(artifact_types, name, scratch + mount)


def _show(error: BaseException, module: str) -> None:
    """The traceback as the component's own run would show it: without the launcher's frames."""
    import traceback

    tail = module.rpartition(".")[2] + ".py"
    frames = error.__traceback__
    while frames is not None and Path(frames.tb_frame.f_code.co_filename).name != tail:
        frames = frames.tb_next
    sys.stdout.flush()
    traceback.print_exception(type(error), error, frames or error.__traceback__)
    sys.stderr.flush()

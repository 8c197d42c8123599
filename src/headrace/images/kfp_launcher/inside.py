"""Run a lightweight component inside of the launcher's own interpreter: no fork, no second interpreter.

Whatever way the author's program ends, the launcher must be able to report it. What ends a process at once is therefore
caught here: `os._exit`, `os.abort` and a signal that the program sends to itself conclude the step first (the first
process of a container could not be ended by its own signals anyway). What cannot be caught (a crash in native code, the
kernel's killing it) ends the container, and the platform learns the reason from the pod.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .task import say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    from .task import Task

LONGEST_REASON = 1000
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
    os.environ.clear()
    os.environ.update(env)
    os.environ["_KFP_RUNTIME"] = "true"
    path = _write_down(source)
    _forget_the_launcher()
    _move_local_paths(task.scratch)
    import runpy

    sys.modules.pop(task.module, None)  # a warm interpreter may have imported it; it must run anew as __main__
    sys.dont_write_bytecode = True  # nobody will ever import it again
    sys.argv = [task.module, "--component_module_path", str(path), *arguments]
    here = str(Path.cwd())
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)  # as `python3 -m` does
    code: object = 0
    reason = ""
    try:
        runpy.run_module(task.module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
        reason = _last_line(code) if isinstance(code, str) else ""
    except BaseException as error:  # noqa: BLE001 - this is the top of the author's program
        import traceback

        _show(error, task.module)
        reason = _last_line("".join(traceback.format_exception_only(type(error), error)))
        code = 1
    ways_out.end(end_program(code), reason)


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
    for found in gc.get_objects():
        if issubclass(type(found), io.IOBase):
            with contextlib.suppress(Exception):
                found.flush()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    return status & 0xFF


def _last_line(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "")[:LONGEST_REASON]


def _write_down(source: str) -> Path:
    """As `mktemp -d` and a file in it."""
    folder = Path(os.environ.get("TMPDIR") or "/tmp") / f"tmp.{os.urandom(5).hex()}"  # noqa: S108 - the container's own
    folder.mkdir(0o700)
    path = folder / "ephemeral_component.py"
    path.write_text(source, encoding="utf-8")
    return path


def _forget_the_launcher() -> None:
    """The author's code must not find the launcher's modules; this function's own globals stay alive."""
    root = __name__.rpartition(".")[0]
    above = root.partition(".")[0]
    for name in [n for n in sys.modules if n in (root, above) or n.startswith(f"{above}.")]:
        if name != "__main__":
            del sys.modules[name]


def _move_local_paths(scratch: str) -> None:
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

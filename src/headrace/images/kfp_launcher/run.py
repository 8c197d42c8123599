"""Run the author's program, as a child of the launcher.

Two ways with one result: a lightweight component runs in a fork of this interpreter (which may hold its imports
already); anything else, and a component whose environment lacks kfp, runs as the command line says. In both the program
is a process of its own, so that a crash, an os._exit or the kernel's killing it leave the launcher to report.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.util
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .task import StepError, Task, user_env

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
LONGEST_REASON = 1000
_PREFIXES = {
    "_GCS_LOCAL_MOUNT_PREFIX": "/gcs/",
    "_MINIO_LOCAL_MOUNT_PREFIX": "/minio/",
    "_S3_LOCAL_MOUNT_PREFIX": "/s3/",
}


def run(task: Task, line: list[str], env: Mapping[str, str]) -> tuple[int, str]:
    """Run and wait. The exit code, or the signal's number as a negative one; and the exception that ended a component,
    on one line. Raises StepError when nothing can run.
    """
    if not line:
        raise StepError("The step has no command to run.")
    if task.module and can_run_in_process(task.module):
        source, arguments = task.command[-1], line[len(task.command) :]
        reader, writer = os.pipe()
        code = _wait(_fork(lambda: _component(task, source, arguments, user_env(env), writer)))
        os.close(writer)
        return code, _read_now(reader)
    return _wait(_fork(lambda: _program(line, user_env(env)))), ""


def can_run_in_process(module: str) -> bool:
    """Whether this interpreter has kfp's executor."""
    if module in sys.modules:
        return True
    top = module.partition(".")[0]
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _fork(body: Callable[[], None]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        gc.freeze()  # what is here already is not the program's
        code: object = 0
        try:
            body()
        except SystemExit as ended:
            code = ended.code
        leave(code)
    return pid


def leave(code: object) -> NoReturn:
    """End as sys.exit would, but for taking the interpreter apart: in a fork of a large interpreter that copies all of
    its memory and takes longer than most steps. What people can see of an end happens: threads are waited for, exit
    handlers run, files that were left open get what was written to them.
    """
    import io
    import threading

    status = 0 if code is None else code if isinstance(code, int) else 1
    if not isinstance(code, int | None):
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
    os._exit(status & 0xFF)


def _wait(pid: int) -> int:
    """Wait for the child, handing on the signals that ask this process to end."""

    def hand_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    before = {number: signal.signal(number, hand_on) for number in _SIGNALS}
    try:
        _, status = os.waitpid(pid, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return os.waitstatus_to_exitcode(status)


def _program(line: list[str], env: Mapping[str, str]) -> NoReturn:
    try:
        os.execvpe(line[0], line, dict(env))  # noqa: S606 - a command line is words, and no shell is asked for
    except OSError as error:
        sys.stderr.write(f"The command {line[0]!r} cannot be run: {error.strerror}.\n")
        sys.stderr.flush()
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _component(task: Task, source: str, arguments: list[str], env: Mapping[str, str], reason: int) -> None:
    """What `sh -ec` and kfp's runner would do: the source in a temporary file, the executor module as `__main__`."""
    os.environ.clear()
    os.environ.update(env)
    path = Path(tempfile.mkdtemp(prefix="tmp.")) / "ephemeral_component.py"
    path.write_text(source, encoding="utf-8")
    os.environ["_KFP_RUNTIME"] = "true"
    _forget_the_launcher()
    _move_local_paths(task.scratch)
    import runpy
    import traceback

    sys.modules.pop(task.module, None)  # a warm interpreter may have imported it; it must run anew as __main__
    sys.argv = [task.module, "--component_module_path", str(path), *arguments]
    here = str(Path.cwd())
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)  # as `python3 -m` does
    try:
        runpy.run_module(task.module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            _tell(reason, ended.code)
        raise
    except BaseException as error:  # noqa: BLE001 - this is the top of the author's program
        _show(error, task.module)
        _tell(reason, "".join(traceback.format_exception_only(type(error), error)))
        sys.exit(1)


def _tell(reason: int, text: str) -> None:
    """The last line of what is said goes to the launcher."""
    lines = text.strip().splitlines()
    os.write(reason, (lines[-1] if lines else "").encode(errors="replace")[:LONGEST_REASON])


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


def _read_now(reader: int) -> str:
    """What is in a pipe, without waiting for processes that may still hold its other end."""
    os.set_blocking(reader, False)
    try:
        return os.read(reader, LONGEST_REASON).decode(errors="replace")
    except BlockingIOError:
        return ""
    finally:
        os.close(reader)


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

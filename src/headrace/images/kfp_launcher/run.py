"""Run the author's program.

Two ways with one result: a lightweight component runs in this interpreter, which may hold its imports already (see
`inside`); anything else, and a component whose environment lacks kfp, runs as the command line says, as a child of the
launcher, so that a crash or the kernel's killing it leave the launcher to report.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
from typing import TYPE_CHECKING

from .inside import run_inside
from .task import StepError, Task, user_env

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def run(task: Task, line: list[str], env: Mapping[str, str], conclude: Callable[[int, str], int]) -> int:
    """Run, then `conclude` with the exit code (a signal's number as a negative one) and, on one line, the exception
    that ended a component; what that returns. After a component, this process has ended. Raises StepError when nothing
    can run.
    """
    if not line:
        raise StepError("The step has no command to run.")
    if task.module and can_run_in_process(task.module):
        run_inside(task, task.command[-1], line[len(task.command) :], user_env(env), conclude)
    return conclude(_wait(_start(line, user_env(env))), "")


def can_run_in_process(module: str) -> bool:
    """Whether this interpreter has kfp's executor."""
    if module in sys.modules:
        return True
    top = module.partition(".")[0]
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _start(line: list[str], env: dict[str, str]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execvpe(line[0], line, env)  # noqa: S606 - a command line is words, and no shell is asked for
        except OSError as error:
            sys.stderr.write(f"The command {line[0]!r} cannot be run: {error.strerror}.\n")
            sys.stderr.flush()
            os._exit(127 if isinstance(error, FileNotFoundError) else 126)
    return pid


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

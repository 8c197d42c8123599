"""Finding a program and becoming it, with failures in the words of container runtimes."""

from __future__ import annotations

import errno
import os
import signal
import stat

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CannotExecute(Exception):
    """The program is not there or may not be run."""


def restore_signals() -> None:
    """In a fork of Python: what a program expects that was not started by Python."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def execute(argv: list[str], env: dict[str, str]) -> None:
    """Become this program. Raises CannotExecute, in the words of container runtimes."""
    program = find_program(argv[0], env.get("PATH", DEFAULT_PATH))
    try:
        os.execve(program, argv, env)  # noqa: S606 - running programs is what this is for
    except OSError as error:
        raise CannotExecute(f'exec: "{argv[0]}": {os.strerror(error.errno or 0).lower()}') from None


def find_program(name: str, path: str) -> str:
    """The file to execute, as this root and this user see it."""
    if "/" in name:
        try:
            mode = os.stat(name).st_mode
        except OSError as error:
            raise CannotExecute(f'exec: "{name}": stat {name}: {os.strerror(error.errno or 0).lower()}') from None
        if stat.S_ISDIR(mode):
            raise CannotExecute(f'exec: "{name}": {os.strerror(errno.EISDIR).lower()}')
        if not os.access(name, os.X_OK):
            raise CannotExecute(f'exec: "{name}": {os.strerror(errno.EACCES).lower()}')
        return name
    for folder in path.split(":"):
        candidate = f"{folder or '.'}/{name}"
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise CannotExecute(f'exec: "{name}": executable file not found in $PATH')

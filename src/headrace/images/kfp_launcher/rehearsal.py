"""A small component, run in a warm interpreter before it forks any step.

What an interpreter does at the first time (it looks up attributes of types, adapts its code to what it meets, compiles
patterns, imports what is imported late) it would else do again in every fork, and every such write copies a page. The
rehearsal goes the whole way of a step but for its end. Invariants: the author's program can find nothing of it, the
report goes nowhere, and a rehearsal that fails is none.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import socket
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .inside import COMPONENT, move_local_paths, run_as_main, write_down
from .launch import Step
from .report import exchange
from .task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Json = Any

TIMES = 12
"""CPython adapts code that has been run eight times."""
_MODULE = "kfp.dsl.executor_main"
_PACKAGE = "kfp"
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_SOURCE = """
import kfp
from kfp import dsl
from kfp.dsl import *
from typing import *

def rehearse(text: str, count: int, share: float, sure: bool, words: list, facts: dict, made: Output[Artifact]) -> list:
    import time
    made.metadata["share"] = share
    return [*words, time.time()]
"""


def rehearse(times: int = TIMES) -> bool:
    """Leaves nothing behind but what makes the next time faster. Whether it went well."""
    if _MODULE not in sys.modules:
        return False
    folder = Path(os.environ.get("TMPDIR") or "/tmp") / f"rehearsal.{os.urandom(5).hex()}"  # noqa: S108 - made just now
    code = 1
    try:
        folder.mkdir(0o700)
        for _ in range(times):
            with _undone():
                code = Step(Task(_document(), str(folder)), {}, _run, _report).execute()
    except BaseException:  # noqa: BLE001 - steps run as well without
        return False
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return code == 0


def _document() -> dict[str, Json]:
    values = {"text": "words", "count": 1, "share": 0.5, "sure": True, "words": ["a", 1, 2.5], "facts": {"a": [1]}}
    made = {"name": "made", "type": {"schemaTitle": "system.Artifact"}, "uri": "minio://mlpipeline/rehearsal/made"}
    return {
        "run_id": "rehearsal",
        "task_id": "rehearsal",
        "attempt": 0,
        "api": "http://api",
        "command": ["sh", "-c", "", "sh", "-ec", "", _SOURCE],
        "args": ["--executor_input", "{{$}}", "--function_to_execute", "rehearse"],
        "executor_input": {
            "inputs": {"parameterValues": values},
            "outputs": {
                "parameters": {"Output": {"outputFile": "/tmp/kfp/outputs/Output"}},  # noqa: S108 - below the folder
                "artifacts": {"made": {"artifacts": [made]}},
                "outputFile": "/minio/mlpipeline/rehearsal/executor_output.json",
            },
        },
        "output_types": {"Output": "LIST"},
        "module": _MODULE,
    }


def _run(task: Task, line: list[str], _env: Mapping[str, str], conclude: Callable[[int, str], int]) -> int:
    path = write_down(task.command[-1], task.scratch)
    try:
        move_local_paths(task.scratch)
        run_as_main(task.module, path, line[len(task.command) :])
    finally:
        Path(path).unlink()
        Path(path).parent.rmdir()
    return conclude(0, "")


def _report(task: Task, data: bytes) -> bool:
    """To one who does not listen."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(_ANSWER)
        return exchange(ours, "api", f"/{task.run_id}", data, "")[0] == 200


@contextlib.contextmanager
def _undone() -> Iterator[None]:
    """Afterwards all is as it was: what kfp's executor sets in its modules, the log, the paths, the output."""
    modules = {name: dict(vars(module)) for name, module in sys.modules.items() if name.partition(".")[0] == _PACKAGE}
    main, path, argv, written = sys.modules["__main__"], list(sys.path), sys.argv, sys.dont_write_bytecode
    finders = dict(sys.path_importer_cache)
    handlers, level, output = list(logging.root.handlers), logging.root.level, sys.stdout
    sys.stdout = io.StringIO()
    executor = sys.modules[_MODULE]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.stdout = output
        for handler in [h for h in logging.root.handlers if h not in handlers]:
            logging.root.removeHandler(handler)
            handler.close()
        logging.root.setLevel(level)
        sys.modules["__main__"], sys.argv, sys.dont_write_bytecode = main, argv, written
        sys.modules[_MODULE] = executor
        sys.modules.pop(COMPONENT, None)
        sys.path[:] = path
        for name in [name for name in sys.path_importer_cache if name not in finders]:
            del sys.path_importer_cache[name]
        for name, before in modules.items():
            now = vars(sys.modules[name])
            for key in [key for key in now if key not in before]:
                del now[key]
            for key, value in before.items():
                if now.get(key) is not value:
                    now[key] = value

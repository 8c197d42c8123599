"""A warm start must be told from a cold one by nothing but the time it takes."""

# ruff: noqa: E501 - programs on one line each
from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import textwrap
import venv
from pathlib import Path

import psutil
import pytest

from headrace.node.runtime.base import Mount, WarmStart
from headrace.node.runtime.sandbox import SandboxRuntime
from headrace.node.runtime.sandboxd import pool
from headrace.node.runtime.sandboxd.pool import startup_environment, warm_program
from headrace.testing.eventually import eventually

from .conftest import Node

pytestmark = pytest.mark.node

PRELOAD = ("decimal", "email.message", "logging", "random", "tempfile")

PATH_OF_PROGRAMS = "/opt/programs"
FORK_SERVER = os.fsencode(Path(pool.__file__).with_name("forkserver.py"))

PROGRAMS = {
    "environment": "import os, sys; print(sorted(os.environ.items()), sys.argv, sys.orig_argv, sys.path, os.getcwd(), os.getpid())",
    "main": "import sys; m = sys.modules['__main__']; print(sorted(k for k in vars(m) if k != 'm'), m.__file__, m.__spec__, __name__)",
    "interpreter": "import sys, locale; print(sys.executable, sys.prefix, sys.flags, sys.warnoptions, locale.getpreferredencoding())",
    "streams": "import sys; [print(f.encoding, f.errors, f.line_buffering, f.mode, f.name, f.isatty()) for f in (sys.stdin, sys.stdout, sys.stderr)]; print(sys.stdin.read() == '')",
    "order": "import sys; print('out'); print('err', file=sys.stderr); sys.stdout.write('no newline')",
    "exit": "import sys; print('x'); sys.exit(7)",
    "exit text": "import sys; sys.exit('a reason')",
    "exit none": "raise SystemExit",
    "traceback": "def f(x):\n    return 1 / x\nprint('before')\nf(0)",
    "chained": "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('b') from e",
    "syntax": "def f(:\n    pass",
    "interrupt": "import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(5)",
    "abort": "import os; os.abort()",
    "kill": "import os; os._exit(99)",
    "atexit": "import atexit, threading, time\natexit.register(print, 'last')\nthreading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\nprint('main')",
    "imports": "import helper; print(helper.VALUE, helper.__file__)",
    "subprocess": "import subprocess, sys; print(subprocess.run([sys.executable, '-c', 'import os; print(os.environ.get(\"X\"))'], capture_output=True, text=True).stdout)",
    "pool": "import multiprocessing as m\nif __name__ == '__main__':\n    with m.get_context('spawn').Pool(1) as p: print(p.map(abs, [-1, -2]))",
    "signals": "import signal; print([signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)], signal.pthread_sigmask(signal.SIG_BLOCK, []))",
    "descriptors": "import os; print(sorted(int(f) for f in os.listdir('/proc/self/fd'))[:3], len(os.listdir('/proc/self/fd')))",
    "status": "print([l for l in open('/proc/self/status') if l.split(':')[0] in ('Uid', 'Gid', 'CapEff', 'NoNewPrivs', 'Threads', 'SigIgn', 'SigBlk')])",
    "excepthook": "import sys; sys.excepthook = lambda t, v, b: print('hooked', t, b.tb_lineno); raise ValueError",
}


class Warm:
    """Starts programs with an interpreter that is kept warm."""

    def __init__(self, node, folder):
        self.node, self.folder = node, folder
        self.interpreter = os.path.realpath(sys.executable)  # a checkout below /tmp is hidden from pods
        folder.mkdir()
        (folder / "helper.py").write_text("VALUE = 'from beside the script'")

    def spec(self, name: str, source: str = "", *, warm: bool, preload=PRELOAD, env=None, **fields):
        if source:
            (self.folder / name).write_text(source)
        return self.node.spec(
            self.interpreter,
            f"{PATH_OF_PROGRAMS}/{name}",
            "--flag",
            "a b",
            env={"HOME": "/root", "X": "y", **(env or {})},
            mounts=fields.pop("mounts", (Mount(PATH_OF_PROGRAMS, self.folder, read_only=True),)),
            warm=WarmStart(self.interpreter, preload) if warm else None,
            **fields,
        )

    async def run(self, name: str, source: str = "", **fields):
        return await self.node.ended(await self.node.runtime.start_container(self.spec(name, source, **fields)))

    async def is_warm(self, **fields) -> bool:
        ended = await self.run(
            "probe.py", "import sys, os; print('sandboxd' in open('/proc/self/cmdline').read())", warm=True, **fields
        )
        return ended.out == "True\n"

    async def wait(self, **fields) -> None:
        await eventually(lambda: self.is_warm(**fields), timeout=30, interval=0.1)


@pytest.fixture
async def warm(node, tmp_path):
    await node.pod()
    return Warm(node, tmp_path / "programs")


async def test_the_first_start_is_cold_and_later_ones_are_warm(warm):
    assert not await warm.is_warm()
    await warm.wait()


async def test_warm_equals_cold(warm):
    await warm.wait()
    different = {}
    for name, source in PROGRAMS.items():
        file = f"program_{name.replace(' ', '_')}.py"
        cold = await warm.run(file, source, warm=False)
        hot = await warm.run(file, source, warm=True)
        for what in ("code", "out", "err"):
            if getattr(cold, what) != getattr(hot, what):
                different[name, what] = (getattr(cold, what), getattr(hot, what))
        if cold.state.signal != hot.state.signal:
            different[name, "signal"] = (cold.state.signal, hot.state.signal)
    assert different == {}
    assert await warm.is_warm(), "they were warm until the end"


async def test_folders_are_programs_too(warm):
    await warm.wait()
    package = warm.folder / "package"
    package.mkdir()
    (package / "other.py").write_text("NAME = __name__")
    (package / "__main__.py").write_text(
        "import sys, other\nprint(__name__, __file__, __spec__.name, __package__, sys.argv, sys.path[0], other.NAME)\nraise ValueError('x')"
    )
    cold, hot = await warm.run("package", warm=False), await warm.run("package", warm=True)
    assert (cold.code, cold.out, cold.err) == (hot.code, hot.out, hot.err)
    assert cold.out


async def test_modules_beside_the_script_win_as_ever(warm):
    await warm.wait()
    (warm.folder / "decimal.py").write_text("PLACE = 'beside'")
    source = "import decimal; print(decimal.PLACE)"
    cold, hot = await warm.run("d.py", source, warm=False), await warm.run("d.py", source, warm=True)
    assert (cold.out, hot.out) == ("beside\n", "beside\n")


async def test_a_missing_script(warm):
    await warm.wait()
    cold, hot = await warm.run("missing.py", warm=False), await warm.run("missing.py", warm=True)
    assert (cold.code, cold.out, cold.err) == (hot.code, hot.out, hot.err)
    assert cold.code == 2


async def test_children_draw_different_random_numbers(warm):
    await warm.wait()
    source = "import random, tempfile; print(random.random(), tempfile.mktemp())"
    first, second = await warm.run("r.py", source, warm=True), await warm.run("r.py", source, warm=True)
    assert first.out != second.out


async def test_signals_and_user_reach_a_warm_program(warm):
    await warm.wait(uid=1234)
    source = """
    import os, signal, sys, time
    def stop(*_):
        os.write(1, f"stopping {os.getuid()}\\n".encode())  # the other print may not be over yet
        sys.exit(4)
    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    time.sleep(100)
    """
    state = await warm.node.runtime.start_container(warm.spec("s.py", textwrap.dedent(source), warm=True, uid=1234))
    await eventually(lambda: "ready" in warm.node.output("pod", state.id)[0])
    result = await warm.node.runtime.exec("pod", state.id, ("sh", "-c", "echo $X; id -u"))
    assert result.output == b"y\n1234\n"
    await warm.node.runtime.kill("pod", state.id, signal.SIGTERM)
    ended = await warm.node.ended(state)
    assert (ended.code, ended.out) == (4, "ready\nstopping 1234\n")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("talks", "print('hello')"),
        ("threads", "import threading, time; threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()"),
        ("opens", "import socket; s = socket.socket()"),
        ("fails", "raise ImportError('broken')"),
        ("copies", "import os; everything = dict(os.environ)"),
        ("crashes", "import os; os._exit(3)"),
    ],
)
async def test_what_a_fork_cannot_carry_stays_cold(warm, name, body):
    site = warm.node.settings.cache / "venv"
    venv.create(site, symlinks=True, with_pip=False)
    warm.interpreter = f"{site}/bin/python"
    library = site / f"lib/python3.{sys.version_info.minor}/site-packages"
    (library / f"preloaded_{name}.py").write_text(body)
    log = warm.node.settings.logs / "spawner.log"

    async def refused():
        assert not await warm.is_warm(preload=(f"preloaded_{name}",))
        return "is not possible" in log.read_text()

    await eventually(refused, timeout=30, interval=0.1)


async def test_variables_that_imports_read_must_be_the_same(warm):
    site = warm.node.settings.cache / "venv"
    venv.create(site, symlinks=True, with_pip=False)
    warm.interpreter = f"{site}/bin/python"
    (site / f"lib/python3.{sys.version_info.minor}/site-packages/reader.py").write_text(
        "import os; MODE = os.environ.get('READER_MODE'); os.environ.setdefault('READER_SET', '1')"
    )
    await warm.wait(preload=("reader",))
    source = "import reader, os; print(reader.MODE, os.environ['READER_SET'])"
    for env in ({}, {"READER_MODE": "fast"}, {"READER_SET": "mine"}):
        cold = await warm.run("m.py", source, warm=False, preload=("reader",), env=env)
        hot = await warm.run("m.py", source, warm=True, preload=("reader",), env=env)
        assert (cold.out, cold.err) == (hot.out, hot.err)
    assert not await warm.is_warm(preload=("reader",), env={"READER_MODE": "fast"})
    assert await warm.is_warm(preload=("reader",), env={"OTHER": "1"})


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_server_that_hangs_or_is_killed_is_replaced_by_a_cold_start(warm, number):
    await warm.wait()
    spawner = json.loads((warm.node.settings.run / "spawner.json").read_text())["pid"]
    servers = [p.pid for p in psutil.Process(spawner).children(recursive=True) if _is_server(str(p.pid))]
    assert servers
    for pid in servers:
        with contextlib.suppress(ProcessLookupError):  # what a server has just forked looks like it for a moment
            os.kill(pid, number)
    ended = await warm.run("after.py", "print('cold')", warm=True)
    assert ended.out == "cold\n"
    await eventually(lambda: not any(_is_server(str(pid)) for pid in servers))


def _is_server(pid: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return len(words) > 2 and words[1] == FORK_SERVER and b"email.message" in words[2]


async def test_idle_servers_end(settings, tmp_path):
    runtime = SandboxRuntime(settings, fork_server_idle_seconds=3.0)
    await runtime.start()
    node = Node(runtime, settings)
    node.watch()
    try:
        await node.pod()
        warm = Warm(node, tmp_path / "programs")
        await warm.wait()
        # The spawner looks at least every ten seconds, and whenever something happens.
        await asyncio.sleep(3.1)
        await node.sh("true")
        assert not await warm.is_warm()
    finally:
        await runtime.stop(pods=True)


@pytest.mark.parametrize(
    ("env", "result"),
    [
        ({"A": "1", "PYTHON_VERSION": "3.11"}, {}),
        ({"LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "A": "1"}, {"LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}),
        ({"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "1"}),
        ({"LD_PRELOAD": "x.so"}, None),
        ({"PYTHONPATH": "/x"}, None),
        ({"PYTHONHASHSEED": "0"}, None),
    ],
)
def test_startup_environment(env, result):
    assert startup_environment(env) == result


@pytest.mark.parametrize(
    ("argv", "mounts", "warm"),
    [
        ([sys.executable, "/x.py"], [], True),
        ([Path(sys.executable).name, "/x.py"], [], True),
        ([sys.executable, "x.py"], [], False),
        ([sys.executable, "-c", "1"], [], False),
        ([sys.executable, "-m", "x"], [], False),
        ([sys.executable], [], False),
        (["/bin/sh", "/x.py"], [], False),
        (["no-such", "/x.py"], [], False),
        ([sys.executable, "/x.py"], [{"target": str(Path(sys.executable).parent)}], False),
    ],
)
def test_warm_program(argv, mounts, warm):
    spec = {
        "argv": argv,
        "mounts": mounts,
        "env": {"PATH": str(Path(sys.executable).parent)},
        "warm": {"interpreter": sys.executable, "preload": []},
    }
    assert (warm_program(spec) is not None) == warm


async def test_what_a_warm_start_used_is_its_own(warm):
    await warm.wait()
    source = "import time\nwhile time.process_time() < 0.2: pass"
    ended = await warm.run("burns", source, warm=True)
    assert ended.code == 0, ended.err
    assert ended.state.cpu_seconds >= 0.2

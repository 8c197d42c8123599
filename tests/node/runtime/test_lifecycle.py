"""Starting, ending, logs, and surviving whoever watches."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from headrace.node.runtime.base import ContainerPhase, StartFailed
from headrace.node.runtime.engines import Engines, EngineUnavailable
from headrace.testing.eventually import eventually

from . import realimage
from .conftest import MODES, Node, processes_of

PYTHON = os.path.realpath(sys.executable)
"""The base interpreter: pods see it wherever this checkout lies, also below /tmp, which is private to each pod."""

pytestmark = [pytest.mark.node, pytest.mark.parametrize("mode", MODES, indirect=True)]


@pytest.mark.parametrize(("script", "code", "number"), [("exit 0", 0, 0), ("exit 42", 42, 0), ("kill -9 $$", 0, 0)])
async def test_exit_codes(node, script, code, number):
    await node.pod()
    if "kill" in script and not node.isolated:
        code, number = 137, 9  # only the first process of a PID namespace cannot be killed from inside
    ended = await node.sh(script)
    assert (ended.code, ended.state.signal, ended.state.oom_killed) == (code, number, False)
    assert ended.state.finished_at >= ended.state.started_at


async def test_signals(node):
    await node.pod()
    words = ("sleep", "100") if node.isolated else ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    stubborn = await node.runtime.start_container(node.spec(*words))
    if not node.isolated:
        await eventually(lambda: "ready" in node.output("pod", stubborn.id)[0])
    handler = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    polite = await node.runtime.start_container(node.spec("sh", "-c", handler))
    await eventually(lambda: "ready" in node.output("pod", polite.id)[0])
    for state in (stubborn, polite):
        await node.runtime.kill("pod", state.id, signal.SIGTERM)
    ended = await node.ended(polite)
    assert (ended.code, ended.state.signal, ended.out) == (3, 0, "ready\nbye\n")
    running = {s.id: s.phase for s in await node.runtime.containers()}
    assert running[stubborn.id] is ContainerPhase.RUNNING, "PID 1 ignores signals that it does not handle"
    await node.runtime.kill("pod", stubborn.id, signal.SIGKILL)
    ended = await node.ended(stubborn)
    assert (ended.code, ended.state.signal) == (137, 9)
    await node.runtime.kill("pod", stubborn.id, signal.SIGKILL)


async def test_children_end_with_the_first_process(node):
    await node.pod()
    ended = await node.sh("sleep 1000 & setsid sleep 1000 & echo started")
    assert ended.out == "started\n"
    await eventually(lambda: len(processes_of(node.settings)) <= 2)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("no-such-program",), 'exec: "no-such-program": executable file not found in $PATH'),
        (("/no/such",), 'exec: "/no/such": stat /no/such: no such file or directory'),
        (("/usr",), 'exec: "/usr": is a directory'),
        (("/etc/passwd",), 'exec: "/etc/passwd": permission denied'),
    ],
)
async def test_programs_that_cannot_be_executed(node, argv, message):
    await node.pod()
    with pytest.raises(StartFailed) as caught:
        await node.runtime.start_container(node.spec(*argv))
    if node.engine:
        message = message.replace("is a directory", "permission denied")
    assert str(caught.value) == message
    assert await node.runtime.containers() == []
    assert (await node.run("true")).code == 0


async def test_starting_twice_starts_once(node):
    await node.pod()
    spec = node.spec("sh", "-c", "echo once")
    first, second = await asyncio.gather(node.runtime.start_container(spec), node.runtime.start_container(spec))
    assert first.pid == second.pid
    await node.ended(first)
    third = await node.runtime.start_container(spec)
    assert third.phase is ContainerPhase.EXITED
    assert node.output("pod", spec.id)[0] == "once\n"


async def test_what_a_start_left_that_came_to_nothing_is_in_nobodys_way(node):
    """One that was too slow, say, and was given up for another."""
    await node.pod()
    spec = node.spec("sh", "-c", "ls /tmp; echo started")
    folder = node.runtime._records.container_folder("pod", spec.id)
    for left in ("scratch/sub", "layers/1/upper/sub", "layers/1/work/work"):
        (folder / left).mkdir(parents=True)
    (folder / "scratch" / "file").touch()
    (folder / "scratch" / "link").symlink_to("/etc")
    await node.ended(await node.runtime.start_container(spec))
    said = node.output("pod", spec.id)[0].splitlines()
    assert said[-1] == "started"
    assert not {"sub", "file", "link"} & set(said)
    assert Path("/etc/passwd").exists()


async def test_a_pod_must_be_created_first(node):
    with pytest.raises(StartFailed, match="has not been created"):
        await node.runtime.start_container(node.spec("true", pod="unknown"))


async def test_log_entries(node):
    await node.pod()
    ended = await node.sh(
        "echo out; echo err >&2; printf 'no newline'; head -c 40000 /dev/zero | tr '\\0' x; echo; printf end"
    )
    path = node.settings.logs / "pods" / "pod" / f"{ended.state.id}.log"
    entries = [line.split(" ", 3) for line in path.read_text().splitlines()]
    assert [e[2] for e in entries if e[1] == "stdout"] == ["F", "P", "P", "F", "P"]
    assert max(len(e[3]) for e in entries) == 16 << 10
    assert ended.err == "err\n"
    assert ended.out == "out\nno newline" + "x" * 40000 + "\nend"
    assert all(len(e[0]) == len("2026-01-01T00:00:00.123456789Z") and e[0].endswith("Z") for e in entries)


async def test_much_output_is_rotated_and_loses_nothing_recent(node):
    await node.pod()
    ended = await node.sh(
        "i=0; while [ $i -lt 30 ]; do head -c 750000 /dev/zero | tr '\\0' 'a' | fold -w 1000; i=$((i+1)); done"
    )
    folder = node.settings.logs / "pods" / "pod"
    files = sorted(p.name for p in folder.iterdir())
    assert files == [f"{ended.state.id}.log", f"{ended.state.id}.log.1", f"{ended.state.id}.log.2"]
    assert all(p.stat().st_size <= 10 << 20 for p in folder.iterdir())


async def test_remove_leaves_nothing(node):
    await node.pod()
    for _ in range(3):
        await node.runtime.start_container(
            node.spec("sh", "-c", "sleep 1000 & sleep 1000", env={"H": str(node.settings.home) + "/"})
        )
    assert len(processes_of(node.settings)) >= 6
    await node.runtime.remove_pod("pod")
    assert await node.runtime.containers() == []
    helpers = {json.loads((node.settings.run / f"{n}.json").read_text())["pid"] for n in node.helpers}
    left = [pid for pid in processes_of(node.settings) if name_of(pid) not in {"headrace-sweep", ""}]
    assert set(left) == helpers
    assert not (node.settings.run / "pods" / "pod").exists()
    assert (node.settings.logs / "pods" / "pod").exists(), "logs stay"
    await node.runtime.remove_pod("pod")


def name_of(pid: int) -> str:
    """What ps shows; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


async def test_what_is_left_is_swept_away(node):
    await node.pod()
    await node.sh("mkdir -p /tmp/a/b; echo x > /tmp/a/b/c; chmod 0 /tmp/a" if node.isolated else "true")
    await node.runtime.remove_pod("pod")
    trash = node.settings.run / "trash"
    await eventually(lambda: trash.is_dir() and not list(trash.iterdir()))
    mine = node.settings.run / "mine"
    (mine / "one" / "two").mkdir(parents=True)
    (mine / "file").write_text("x")
    node.runtime.sweep(mine)
    await eventually(lambda: not list(mine.iterdir()))


PROGRAM = """
import asyncio, sys
from pathlib import Path
from headrace.machinery.settings import Settings
from headrace.node.runtime.base import ContainerSpec, PodSandbox
from headrace.node.runtime.base import Mount
from headrace.node.runtime.choice import make

async def main():
    settings = Settings(home=Path(sys.argv[1]))
    runtime = make(sys.argv[3], settings)
    image, *shown = sys.argv[4:]
    await runtime.start()
    await runtime.create_pod(PodSandbox("pod", "ns", "pod", "pod", "10.199.0.2"))
    stays = "while [ ! -e /flag/go ]; do sleep 0.02; done; echo seen; exit 5"
    for name, script in (("stays", stays), ("ends", "sleep 0.3; exit 6")):
        log = settings.logs / "pods" / "pod" / f"{name}.log"
        mounts = (Mount("/flag", Path(sys.argv[2])), *(Mount(folder, Path(folder), read_only=True) for folder in shown))
        argv, env = ("sh", "-c", script), {"PATH": "/usr/bin:/bin"}
        await runtime.start_container(ContainerSpec(name, "pod", argv, env, log, image=image, mounts=mounts))
    print("started", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


async def test_adoption_after_kill_9(settings, mode, tmp_path):
    flag = tmp_path / "flag"
    flag.mkdir()
    image = []
    if mode == "container":
        try:
            await Engines().ready()
        except EngineUnavailable as error:
            pytest.skip(str(error))
        image = [realimage.skeleton(), *realimage.SHOWN]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(PROGRAM),
        str(settings.home),
        str(flag),
        mode,
        *(image or [""]),
        stdout=subprocess.PIPE,
    )
    assert await process.stdout.readline() == b"started\n"
    process.kill()
    await process.wait()
    spawner = json.loads((settings.run / "spawner.json").read_text())["pid"]
    os.kill(spawner, signal.SIGKILL)
    await asyncio.sleep(0.5)

    runtime = MODES[mode](settings)
    await runtime.start()
    node = Node(runtime, settings)
    node.watch()
    try:
        found = {s.id: s for s in await runtime.containers()}
        assert found["stays"].phase is ContainerPhase.RUNNING
        assert found["ends"].phase is ContainerPhase.EXITED
        assert (await node.ended(found["ends"])).code == 6
        (flag / "go").touch()
        ended = await node.ended(found["stays"])
        assert (ended.code, ended.out) == (5, "seen\n")
        assert (await node.sh("echo and on it goes", id="new")).out == "and on it goes\n"
        await asyncio.sleep(0.05)
        assert sorted(node.reported) == [("pod", "ends"), ("pod", "new"), ("pod", "stays")]
    finally:
        await runtime.stop(pods=True)
    assert processes_of(settings) == []


async def test_a_killed_spawner_is_replaced(node):
    await node.pod()
    running = await node.runtime.start_container(node.spec("sleep", "1000"))
    os.kill(json.loads((node.settings.run / "spawner.json").read_text())["pid"], signal.SIGKILL)
    assert (await node.sh("echo again")).out == "again\n"
    assert [s.phase for s in await node.runtime.containers() if s.id == running.id] == [ContainerPhase.RUNNING]


async def test_a_killed_supervisor_takes_its_container_along(node):
    await node.pod()
    state = await node.runtime.start_container(node.spec("sleep", "1000"))
    record = json.loads((node.settings.run / "pods/pod/containers" / state.id / "state.json").read_text())
    os.kill(record["supervisor"], signal.SIGKILL)
    ended = await node.ended(state)
    assert (ended.code, ended.state.signal) == (137, 9)
    await eventually(lambda: not Path(f"/proc/{state.pid}").exists())


async def test_detached_stop_keeps_pods(node):
    await node.pod()
    state = await node.runtime.start_container(node.spec("sleep", "1000"))
    await node.runtime.stop(pods=False)
    assert Path(f"/proc/{state.pid}").exists()
    await node.runtime.start()
    assert [s.id for s in await node.runtime.containers()] == [state.id]


async def test_memory_limit(node):
    await node.pod()
    script = "b = bytearray(); import time\nwhile True: b += bytes(8 << 20); time.sleep(0.01)"
    ended = await node.run(PYTHON, "-c", script, memory_bytes=100 << 20)
    assert (ended.code, ended.state.signal, ended.state.oom_killed) == (137, 9, True)
    fine = await node.run(PYTHON, "-c", "b = bytes(30 << 20)", memory_bytes=100 << 20)
    assert (fine.code, fine.state.oom_killed) == (0, False)


async def test_exec(node):
    await node.pod()
    uid = 1234 if node.isolated else None
    state = await node.runtime.start_container(
        node.spec("sh", "-c", "echo $$ > /tmp/pid; sleep 1000", env={"GREETING": "hi"}, cwd="/tmp", uid=uid)
    )
    await eventually(lambda: _exec_ok(node, state.id))

    async def execute(*argv, timeout=None):
        return await node.runtime.exec("pod", state.id, argv, timeout=timeout)

    result = await execute("sh", "-c", "id -u; pwd; echo $GREETING; cat /tmp/pid; hostname; echo err >&2; exit 9")
    assert result.exit_code == 9
    words = result.output.decode().split()
    assert {"hi", "err", str(os.getuid() if uid is None else uid)} <= set(words)
    if node.isolated:
        assert sorted(words) == sorted(["1234", "/tmp", "hi", "1", "pod", "err"])
    missing = await execute("nope")
    assert (missing.exit_code, missing.output) == (127, b'exec: "nope": executable file not found in $PATH\n')
    begin = time.monotonic()
    assert (await execute("sleep", "100", timeout=0.2)).exit_code == 124
    assert time.monotonic() - begin < 5
    big = await execute("sh", "-c", "head -c 3000000 /dev/zero")
    assert (big.exit_code, len(big.output)) == (0, 1 << 20)
    await node.runtime.kill("pod", state.id, signal.SIGKILL)
    await node.ended(state)
    assert (await execute("true")).exit_code == 127


async def _exec_ok(node, name):
    return (await node.runtime.exec("pod", name, ("test", "-e", "/tmp/pid"))).exit_code == 0


async def test_what_a_container_used_is_known_when_it_has_ended(node):
    """By what it has started and waited for, too."""
    await node.pod()
    burn = "import time\nheld = bytearray(64 << 20)\nwhile time.process_time() < 0.2: pass"
    ended = await node.run(PYTHON, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])")
    assert ended.code == 0, ended.err
    if node.engine:
        assert ended.state.cpu_seconds >= 0  # as far as the engine's cgroup tells
        return
    assert ended.state.cpu_seconds >= 0.2
    assert ended.state.peak_bytes >= 64 << 20
    assert [s.cpu_seconds for s in await node.runtime.containers()] == [ended.state.cpu_seconds]

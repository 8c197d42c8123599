"""A container that was half made before it was asked for is like any other one, and leaves nothing when it is not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import textwrap
from pathlib import Path

import pytest

from headrace.node.runtime.base import Mount
from headrace.node.runtime.sandboxd.spare import likeness
from headrace.testing.eventually import eventually

from .test_warm import PATH_OF_PROGRAMS, Warm

pytestmark = pytest.mark.node

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user's pods have none made ahead")
SHOW = """
import os, socket
ours = [line.split()[4] for line in open("/proc/self/mountinfo")]
print(socket.gethostname(), os.getpid(), os.path.exists("/tmp/mine"), "/data" in ours)
print(open("/etc/hostname").read().strip())
print([line.split()[-1] for line in open("/proc/net/fib_trie") if "10.199.0." in line and "/" not in line][-1:])
open("/tmp/mine", "w").write("x")
"""


@pytest.fixture
async def warm(node, tmp_path):
    await node.pod()
    warm = Warm(node, tmp_path / "programs")
    await warm.wait()
    return warm


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def ahead(node) -> tuple[int, int] | None:
    """Supervisor and first process that wait for a specification."""
    spawner = json.loads((node.settings.run / "spawner.json").read_text())["pid"]
    for server in children(spawner):
        if b"forkserver.py" not in Path(f"/proc/{server}/cmdline").read_bytes():
            continue
        for supervisor in children(server):
            # The name of one that has a container is another.
            first = children(supervisor)
            if first and not Path(f"/proc/{supervisor}/comm").read_text().startswith("headrace"):
                return supervisor, first[0]
    return None


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except OSError:
        return False


@needs_root
async def test_it_becomes_the_next_container(warm):
    supervisor, first = await eventually(lambda: ahead(warm.node), timeout=30)
    state = await warm.node.runtime.start_container(warm.spec("p.py", "import time; time.sleep(1000)", warm=True))
    assert state.pid == first
    record = json.loads((warm.node.settings.run / "pods/pod/containers" / state.id / "state.json").read_text())
    assert record["supervisor"] == supervisor
    await eventually(lambda: ahead(warm.node), timeout=30)
    assert runs(first)


async def test_it_has_what_was_specified_and_nothing_else(warm):
    await warm.node.pod("other", "10.199.0.7", hostname="another-name")
    for pod, name, address in (("pod", "pod", "10.199.0.2"), ("other", "another-name", "10.199.0.7")) * 2:
        if os.getuid() == 0:
            await eventually(lambda: ahead(warm.node), timeout=30)
        mounts = (Mount(PATH_OF_PROGRAMS, warm.folder, read_only=True), Mount("/data", warm.folder))
        ended = await warm.run("show.py", SHOW, warm=True, pod=pod, mounts=mounts)
        assert ended.out == f"{name} 1 False True\n{name}\n['{address}']\n", ended.err


async def test_many_at_once(warm):
    (warm.folder / "many.py").write_text("import socket; print(socket.gethostname())")

    async def one(number: int) -> str:
        await warm.node.pod(f"pod-{number}", f"10.199.0.{10 + number}")
        return (await warm.run("many.py", warm=True, pod=f"pod-{number}")).out

    assert await asyncio.gather(*(one(n) for n in range(8))) == [f"pod-{n}\n" for n in range(8)]


async def test_limits_hold(warm):
    source = 'print(open("/proc/self/cgroup").read(), open("/proc/self/oom_score_adj").read())'
    cold, *hot = [await warm.run("l.py", source, warm=again, memory_bytes=512 << 20) for again in (False, True, True)]
    for ended in (cold, *hot):
        assert ended.out.replace(ended.state.id, "ID") == cold.out.replace(cold.state.id, "ID") != ""


@needs_root
@pytest.mark.parametrize("who", [0, 1])
async def test_one_that_is_killed_is_not_missed(warm, who):
    victim = (await eventually(lambda: ahead(warm.node), timeout=30))[who]
    os.kill(victim, signal.SIGKILL)
    await eventually(lambda: not runs(victim), timeout=30)
    for _ in range(2):
        assert (await warm.run("after.py", "print('here')", warm=True)).out == "here\n"


@needs_root
async def test_it_ends_with_the_runtime(warm):
    pids = await eventually(lambda: ahead(warm.node), timeout=30)
    await warm.node.runtime.stop(pods=True)
    await eventually(lambda: not any(runs(pid) for pid in pids), timeout=30)
    await warm.node.runtime.start()


@needs_root
async def test_it_ends_with_a_spawner_that_is_killed(warm):
    pids = await eventually(lambda: ahead(warm.node), timeout=30)
    os.kill(json.loads((warm.node.settings.run / "spawner.json").read_text())["pid"], signal.SIGKILL)
    await eventually(lambda: not any(runs(pid) for pid in pids), timeout=30)
    assert (await warm.run("after.py", "print('here')", warm=True)).out == "here\n"


def made_ahead(node) -> list[Path]:
    """What the warm interpreters keep on disk for containers to come."""
    return sorted((node.settings.run / "ahead").glob("*/*"))


async def next_one(node) -> Path:
    """The folder of the container to come, as soon as there is no other."""

    def only() -> Path | None:
        found = made_ahead(node)
        return found[0] if ahead(node) and len(found) == 1 else None

    return await eventually(only, timeout=30)


@needs_root
async def test_what_it_has_on_disk_becomes_the_containers(warm):
    environment = warm.node.settings.cache / "environments" / "abc"
    environment.mkdir(parents=True)
    (environment / "kept").write_text("original")
    source = f"""
    import os
    print(os.getuid(), open("{environment}/kept").read(), os.listdir("{environment}"), end=" ")
    print(os.path.exists("/tmp/mine"), flush=True)
    open("{environment}/kept", "w").write("changed")
    open("{environment}/added", "w")
    open("/tmp/mine", "w")
    import time; time.sleep(1000)
    """
    (environment / "kept").chmod(0o666)
    for uid in (None, 1234):
        fields = {"writable": (str(environment),), "uid": uid}
        await warm.wait(**fields)
        mine = await next_one(warm.node)
        state = await warm.node.runtime.start_container(
            warm.spec("layers.py", textwrap.dedent(source), warm=True, **fields)
        )
        await eventually(lambda state=state: warm.node.output("pod", state.id)[0], timeout=30)
        assert warm.node.output("pod", state.id) == (f"{uid or 0} original ['kept'] False\n", "")
        folder = warm.node.settings.run / "pods/pod/containers" / state.id
        upper = folder / "layers/1/upper"
        await eventually(lambda upper=upper: (upper / "added").exists(), timeout=30)
        assert (upper / "kept").read_text() == "changed"
        await eventually(lambda folder=folder: (folder / "scratch/mine").exists(), timeout=30)
        await eventually(lambda mine=mine: mine not in made_ahead(warm.node), timeout=30)
        assert (environment / "kept").read_text() == "original"
        await warm.node.runtime.kill("pod", state.id, signal.SIGKILL)
        await warm.node.ended(state)
    await warm.node.runtime.stop(pods=True)
    assert made_ahead(warm.node) == []
    await warm.node.runtime.start()


async def test_what_an_earlier_start_left_is_in_nobodys_way(warm):
    if os.getuid() == 0:
        await next_one(warm.node)
    spec = warm.spec("left.py", "import os; print('file' in os.listdir('/tmp'))", warm=True)
    left = warm.node.settings.run / "pods/pod/containers" / spec.id / "scratch"
    left.mkdir(parents=True)
    (left / "file").touch()
    ended = await warm.node.ended(await warm.node.runtime.start_container(spec))
    assert (ended.out, ended.err) == ("False\n", "")


@needs_root
async def test_what_nobody_wants_is_put_away(warm):
    """Containers of two kinds in turn: none can be the other's next."""
    for environment in (warm.node.settings.cache / name for name in "abab"):
        environment.mkdir(exist_ok=True)
        mine = await next_one(warm.node)
        ended = await warm.run("kinds.py", "print('here')", warm=True, writable=(str(environment),))
        assert ended.out == "here\n"
        await eventually(lambda mine=mine: not mine.exists(), timeout=30)


@needs_root
async def test_what_a_killed_interpreter_has_left_goes(warm):
    mine = await next_one(warm.node)
    os.kill(int(mine.parent.name), signal.SIGKILL)

    async def gone() -> bool:
        await warm.node.pod("short", "10.199.0.9")
        await warm.node.runtime.remove_pod("short")
        return not mine.exists()

    await eventually(gone, timeout=30)


@needs_root
def test_which_containers_can_be_one(tmp_path):
    spec = {"root": "/r", "hide": ["/h"], "expose": [], "writable": [], "everywhere": [], "joins": None, "stdin": False}
    assert likeness(spec, 2, "/a") == likeness({**spec, "hostname": "x"}, 0, "/a") is not None
    assert likeness({**spec, "hide": []}, 2, "/a") != likeness(spec, 2, "/a")
    assert likeness(spec, 3, "/a") is None, "the pods of an ordinary user"
    for special in ("bare", "engine", "pause", "joins", "stdin", "tty"):
        assert likeness({**spec, special: {"pid": 1}}, 2, "/a") is None
    environment, other = tmp_path / "environment", tmp_path / "other"
    environment.mkdir()
    before = likeness({**spec, "writable": [str(environment)]}, 2, "/a")
    other.mkdir()
    environment.rmdir()
    other.rename(environment)
    assert likeness({**spec, "writable": [str(environment)]}, 2, "/a") != before, "it has been made again"

"""Containers that see each other's processes, and what a container may be given."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from headrace.node.runtime.base import StartFailed
from headrace.testing.eventually import eventually

from .conftest import processes_of

PYTHON = os.path.realpath(sys.executable)
LIST = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done"

pytestmark = pytest.mark.node


async def running(node, script, **fields):
    state = await node.runtime.start_container(node.spec("sh", "-c", f"{script}; echo ready; sleep 1000", **fields))
    await eventually(lambda: "ready" in node.output(state.pod_uid, state.id)[0], timeout=60)
    return state


async def test_a_container_may_join_the_processes_of_another(node):
    await node.pod()
    target = await running(node, ":", env={"MARK": "target"})
    other = await running(node, ":", id="other-0")
    ended = await node.sh(f"{LIST}; kill -9 1; hostname", joins=target.id)
    assert "sleep 1000" in ended.out
    assert ended.out.splitlines()[-1] == "pod"
    assert ended.code == 0
    alone = await node.sh(LIST)
    assert "sleep 1000" not in alone.out
    states = {s.id: s.phase.value for s in await node.runtime.containers()}
    assert states[other.id] == "running"


async def test_what_a_joining_container_leaves_behind_ends_with_it(node):
    await node.pod()
    target = await running(node, ":")
    home = {"H": str(node.settings.home) + "/"}
    before = len(processes_of(node.settings))
    await node.sh("setsid sleep 2000 & sleep 2000 & exit 3", joins=target.id, env=home)
    await eventually(lambda: len(processes_of(node.settings)) <= before, timeout=60)
    result = await node.runtime.exec("pod", target.id, ("sh", "-c", LIST))
    assert b"sleep 2000" not in result.output


async def test_a_joining_container_ends_with_its_target(node):
    await node.pod()
    target = await running(node, ":")
    guest = await running(node, ":", joins=target.id)
    await node.runtime.kill("pod", target.id, signal.SIGKILL)
    ended = await node.ended(guest)
    assert (ended.code, ended.state.signal) == (137, 9)
    await node.ended(target)
    with pytest.raises(StartFailed, match="does not run"):
        await node.runtime.start_container(node.spec("true", joins=target.id))


async def test_a_pod_whose_processes_are_shared(node):
    await node.pod(share_processes=True)
    first = await running(node, ": first")
    ended = await node.sh(f"{LIST}; cat /proc/1/comm")
    assert "first" in ended.out
    assert ended.out.splitlines()[-1] == "pause"
    assert first.id in {s.id for s in await node.runtime.containers()}
    assert all("." not in s.id for s in await node.runtime.containers())
    await node.runtime.kill("pod", first.id, signal.SIGTERM)
    assert (await node.ended(first)).state.signal == signal.SIGTERM, "nobody but pause is PID 1"
    assert all("." not in name for _, name in node.reported)
    await node.runtime.remove_pod("pod")
    assert len(processes_of(node.settings)) <= 2


async def test_shared_processes_start_again_when_their_first_one_was_killed(node):
    await node.pod(share_processes=True)
    state = await running(node, ":")
    folder = node.settings.run / "pods" / "pod" / "containers"
    (pause,) = [p for p in folder.iterdir() if "pause" in p.name]
    import json

    os.kill(json.loads((pause / "state.json").read_text())["pid"], signal.SIGKILL)
    assert (await node.ended(state)).code == 137
    assert (await node.sh("cat /proc/1/comm")).out == "pause\n"


async def test_capabilities_are_those_that_were_asked_for(node):
    await node.pod()
    show = "grep -E 'Cap(Eff|Prm|Inh|Amb|Bnd)|NoNewPrivs' /proc/self/status"
    ended = await node.sh(show, uid=0, capabilities=("CHOWN", "SYS_PTRACE"))
    values = dict(line.split(":\t") for line in ended.out.splitlines())
    assert values.pop("NoNewPrivs") == "1"
    assert {int(value, 16) for value in values.values()} == {1 << 0 | 1 << 19}
    user = await node.sh(show, uid=1000, capabilities=("CHOWN",))
    assert int(dict(line.split(":\t") for line in user.out.splitlines())["CapEff"], 16) == 0
    state = await running(node, ":", uid=0, capabilities=("KILL",))
    result = await node.runtime.exec("pod", state.id, ("grep", "CapEff", "/proc/self/status"))
    assert int(result.output.split()[1], 16) == 1 << 5
    with pytest.raises(StartFailed, match="capability SYS_ADMIN cannot be given"):
        await node.runtime.start_container(node.spec("true", capabilities=("SYS_ADMIN",)))


@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user's pods have that user's groups")
async def test_supplementary_groups(node, tmp_path):
    await node.pod()
    (tmp_path / "shared").mkdir()
    os.chown(tmp_path / "shared", 0, 4321)
    Path(tmp_path / "shared").chmod(0o770)
    from headrace.node.runtime.base import Mount

    mounts = (Mount("/data", tmp_path / "shared"),)
    ended = await node.sh("id -G; touch /data/x && echo wrote", uid=1234, gid=55, groups=(4321,), mounts=mounts)
    assert ended.out == "55 4321\nwrote\n"
    ended = await node.sh("touch /data/y", uid=1234, gid=55, mounts=mounts)
    assert ended.code != 0


CALLS = """
import ctypes, errno, os, subprocess, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    return errno.errorcode[ctypes.get_errno()] if libc.syscall(number, *args) < 0 else "ok"
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(status["Seccomp"].strip())
numbers = {"x86_64": (272, 250, 435, 321), "aarch64": (97, 219, 435, 280)}[os.uname().machine]
print(*(call(number, 0x10000000, 0, 0, 0) for number in numbers))
thread = threading.Thread(target=print, args=("thread",))
thread.start()
thread.join()
print(subprocess.run([sys.executable, "-c", "print('child')"], capture_output=True, text=True).stdout, end="")
"""


@pytest.mark.skipif(os.uname().machine not in {"x86_64", "aarch64"}, reason="no profile for this machine")
async def test_the_default_profile_refuses_what_manages_the_machine(node):
    await node.pod()
    ended = await node.run(PYTHON, "-c", CALLS, filtered=True)
    assert ended.out == "2\nEPERM EPERM ENOSYS EPERM\nthread\nchild\n", ended.err
    plain = await node.run(PYTHON, "-c", CALLS)
    assert plain.out.splitlines()[0] == "0"
    state = await running(node, ":", filtered=True)
    result = await node.runtime.exec("pod", state.id, ("grep", "Seccomp:", "/proc/self/status"))
    assert result.output.split() == [b"Seccomp:", b"2"]

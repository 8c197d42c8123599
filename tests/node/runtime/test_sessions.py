"""Commands with input, output and terminals of their own in running containers, and what containers use."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from headrace.node.runtime.base import StartFailed
from headrace.testing.eventually import eventually

from .conftest import MODES, processes_of

pytestmark = [pytest.mark.node, pytest.mark.parametrize("mode", MODES, indirect=True)]


@contextlib.asynccontextmanager
async def opened(node, *argv, stdin=False, tty=False, **fields):
    await node.pod()
    state = await node.runtime.start_container(node.spec("sleep", "100", **fields))
    session = await node.runtime.open_session("pod", state.id, argv, stdin=stdin, tty=tty)
    try:
        yield session
    finally:
        await session.close()


async def everything(session, stream=1):
    parts = []
    while part := await session.read(stream):
        parts.append(part)
    return b"".join(parts)


async def test_output_errors_and_exit_code_are_apart(node):
    async with opened(node, "sh", "-c", "echo out; echo err >&2; exit 42") as session:
        assert await everything(session, 1) == b"out\n"
        assert await everything(session, 2) == b"err\n"
        assert await session.wait() == 42


async def test_the_containers_environment_and_namespaces(node):
    async with opened(node, "sh", "-c", "echo $COLOR; hostname; pwd", env={"COLOR": "blue"}, cwd="/tmp") as session:
        said = await everything(session)
        assert said.startswith(b"blue\n")
        assert said == b"blue\npod\n/tmp\n" or not node.isolated


async def test_much_input_comes_through_unchanged(node):
    data = bytes(range(256)) * 8192
    async with opened(node, "cat", stdin=True) as session:

        async def feed():
            await session.write(data)
            session.end_input()

        feeding = asyncio.create_task(feed())
        assert await everything(session) == data
        await feeding
        assert await session.wait() == 0


async def test_without_input_there_is_nothing_to_read(node):
    async with opened(node, "cat") as session:
        assert await session.wait() == 0


async def test_writing_to_a_command_that_does_not_read_ends_with_it(node):
    async with opened(node, "sleep", "0.3", stdin=True) as session, asyncio.timeout(5):
        await session.write(bytes(1 << 20))


async def test_a_terminal_its_size_and_its_keys(node):
    script = "tty; stty size; read -r line; echo got $line; stty size"
    async with opened(node, "sh", "-c", script, stdin=True, tty=True) as session:
        session.resize(101, 33)
        text = b""
        while b"33 101" not in text and b"0 0" not in text:
            text += await session.read(1)
        assert b"/dev/pts/" in text
        session.resize(120, 40)
        await session.write(b"hello\n")
        text += await everything(session)
        assert b"got hello\r\n40 120\r\n" in text
        assert await session.wait() == 0


async def test_ctrl_c_reaches_the_command(node):
    async with opened(node, "cat", stdin=True, tty=True) as session:
        text = b""
        await session.write(b"hi\n")
        while text != b"hi\r\nhi\r\n":
            text += await session.read(1)
        await session.write(b"\x03")
        async with asyncio.timeout(10):
            assert await session.wait() == 130


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("nope",), 'exec: "nope": executable file not found in $PATH'),
        (("/etc/passwd",), 'exec: "/etc/passwd": permission denied'),
        (("/nowhere/nope",), 'exec: "/nowhere/nope": stat /nowhere/nope: no such file or directory'),
    ],
)
async def test_what_cannot_be_executed(node, argv, message):
    with pytest.raises(StartFailed) as refused:
        async with opened(node, *argv):
            pass
    assert str(refused.value) == message


async def test_closing_ends_the_command_and_what_it_started(node):
    words = f"sleep 1000.{os.getpid()}"  # without namespaces there may be others in sight
    async with opened(node, "bash", "-mc", f"{words} & {words} & echo ready; wait") as session:
        assert await session.read(1) == b"ready\n"
        before = len(processes_of(node.settings))
    await eventually(lambda: len(processes_of(node.settings)) < before)
    running = [state.id for state in await node.runtime.containers()]
    inside = await node.runtime.exec("pod", running[0], ("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))
    assert words.encode() not in inside.output, "the command's children are gone too"


async def test_the_containers_end_is_the_sessions_end(node):
    async with opened(node, "sleep", "1000", stdin=True) as session:
        await node.runtime.kill("pod", (await node.runtime.containers())[0].id, 9)
        async with asyncio.timeout(5):
            assert await everything(session) == b""
            assert await session.wait() == 137


async def test_a_container_that_has_ended_is_not_entered(node):
    await node.pod()
    ended = await node.sh("true")
    with pytest.raises(StartFailed, match="not running"):
        await node.runtime.open_session("pod", ended.state.id, ("true",), stdin=False, tty=False)


async def test_usage_counts_processor_time_and_memory(node):
    await node.pod()
    busy = await node.runtime.start_container(node.spec("sh", "-c", "while :; do :; done"))
    idle = await node.runtime.start_container(node.spec("sleep", "100"))

    async def measured():
        return {u.id: u for u in await node.runtime.usage()}

    async with asyncio.timeout(120):
        while (found := await measured())[busy.id].cpu_seconds < 0.1:
            await asyncio.sleep(0.05)
    assert found[idle.id].cpu_seconds < 0.1
    assert 100_000 < found[idle.id].memory_bytes < 100_000_000
    assert found[idle.id].pod_uid == "pod"
    await node.runtime.remove_pod("pod")
    assert await node.runtime.usage() == []


async def test_a_containers_own_input_ends_with_its_only_writer(node):
    await node.pod()
    state = await node.runtime.start_container(node.spec("sh", "-c", "cat; echo over", stdin=True))
    first = await node.runtime.open_input("pod", state.id, once=False)
    await first.write(b"one\n")
    first.close()
    second = await node.runtime.open_input("pod", state.id, once=True)
    await second.write(b"two\n" * 50_000)
    second.close()
    ended = await node.ended(state, 10)
    assert ended.out == "one\n" + "two\n" * 50_000 + "over\n"


async def test_a_containers_own_terminal(node):
    await node.pod()
    script = "tty; stty size; printf 'name? '; read -r name; echo hello $name; stty size; exit 5"
    state = await node.runtime.start_container(node.spec("sh", "-c", script, stdin=True, tty=True))
    await eventually(lambda: "name? " in node.output("pod", state.id)[0])
    keyboard = await node.runtime.open_input("pod", state.id, once=True)
    keyboard.resize(120, 40)
    await asyncio.sleep(0.1)
    await keyboard.write(b"world\n")
    ended = await node.ended(state, 10)
    keyboard.close()
    assert ended.code == 5
    assert ended.out.startswith("/dev/pts/")
    assert ended.out.replace("\r", "").endswith("name? world\nhello world\n40 120\n")
    with pytest.raises(StartFailed):
        await node.runtime.open_input("pod", state.id, once=False)


async def test_typing_more_than_a_terminal_takes_harms_nobody(node):
    await node.pod()
    state = await node.runtime.start_container(node.spec("sh", "-c", "sleep 1; echo done", stdin=True, tty=True))
    keyboard = await node.runtime.open_input("pod", state.id, once=False)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(3):
            await keyboard.write(b"x" * (1 << 20))
    ended = await node.ended(state, 10)
    keyboard.close()
    assert "done" in ended.out


async def test_a_container_without_input_has_none(node):
    await node.pod()
    state = await node.runtime.start_container(node.spec("sh", "-c", "cat; sleep 100"))
    with pytest.raises(StartFailed, match="no input"):
        await node.runtime.open_input("pod", state.id, once=False)

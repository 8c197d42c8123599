"""Reading and following log files as the runtime writes them, rotation included."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from headrace.api.core import Container, Pod, PodSpec
from headrace.api.errors import BadRequest, NotFound
from headrace.api.meta import ObjectMeta
from headrace.machinery.clock import SystemClock
from headrace.machinery.settings import Settings
from headrace.node.logs import NodeLogs

if TYPE_CHECKING:
    from pathlib import Path

POD = Pod(metadata=ObjectMeta(name="p", namespace="ns", uid="u"), spec=PodSpec(containers=[Container(name="c")]))


def entry(second: int, text: str, tag: str = "F") -> str:
    return f"2026-01-01T00:00:{second:02d}.000000000Z stdout {tag} {text}\n"


class Home:
    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.folder = self.settings.logs / "pods" / "ns_p_u" / "c"
        self.folder.mkdir(parents=True)
        self.attempt: int | None = None
        self.pod: Pod | None = POD
        self.logs = NodeLogs(self.settings, SystemClock(), lambda _key: self.pod, lambda _uid, _name: self.attempt)

    def write(self, name: str, *entries: str) -> None:
        with (self.folder / name).open("a") as file:
            file.write("".join(entries))

    async def read(self, **options: object) -> str:
        stream = self.logs.stream("ns", "p", "c", **options)  # type: ignore[arg-type]
        return b"".join([chunk async for chunk in stream]).decode()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


async def test_rotated_files_are_read_in_order(home: Home) -> None:
    home.write("0.log.2", entry(1, "a"))
    home.write("0.log.1", entry(2, "b"), entry(3, "c"))
    home.write("0.log", entry(4, "d"), entry(5, "half", "P"), entry(6, " whole"), entry(7, "end", "P"))
    assert await home.read() == "a\nb\nc\nd\nhalf whole\nend"
    assert await home.read(tail=3) == "d\nhalf whole\nend"
    assert await home.read(tail=5) == "b\nc\nd\nhalf whole\nend"
    assert await home.read(tail=100) == "a\nb\nc\nd\nhalf whole\nend"
    assert await home.read(timestamps=True, tail=2) == (
        "2026-01-01T00:00:05.000000000Z half whole\n2026-01-01T00:00:07.000000000Z end"
    )


async def test_the_newest_start_is_meant(home: Home) -> None:
    for attempt in range(11):
        home.write(f"{attempt}.log", entry(1, f"start {attempt}"))
    assert await home.read() == "start 10\n"
    home.pod = None
    assert await home.read(uid="u") == "start 10\n"
    assert await home.read(uid="u", previous=True) == "start 9\n"


async def test_following_across_rotation(home: Home) -> None:
    home.attempt = 0
    home.write("0.log", entry(1, "a"))
    reading = asyncio.create_task(home.read(follow=True))
    await asyncio.sleep(0.1)
    home.write("0.log", entry(2, "b"))
    (home.folder / "0.log").rename(home.folder / "0.log.1")
    home.write("0.log", entry(3, "c"))
    await asyncio.sleep(0.3)
    home.write("0.log", entry(4, "d"))
    home.attempt = None
    assert await reading == "a\nb\nc\nd\n"


async def test_following_ends_with_the_container(home: Home) -> None:
    home.write("0.log", entry(1, "a"))
    home.attempt = 1
    assert await asyncio.wait_for(home.read(follow=True), 60) == "a\n"


async def test_refusals(home: Home) -> None:
    with pytest.raises(BadRequest, match='container "c" in pod "p" is waiting to start: ContainerCreating'):
        await home.read()
    home.pod = None
    with pytest.raises(NotFound, match='pods "p" not found'):
        await home.read()
    with pytest.raises(NotFound, match="no logs of container"):
        await home.read(uid="u")
    home.pod = Pod(metadata=POD.metadata, spec=PodSpec(containers=[Container(name="a"), Container(name="b")]))
    with pytest.raises(BadRequest, match=r"a container name must be specified for pod p, choose one of: \[a b\]"):
        _ = [c async for c in home.logs.stream("ns", "p", "")]


async def test_old_logs_of_pods_that_are_gone_are_removed(home: Home) -> None:
    home.write("0.log", entry(1, "a"))
    home.logs.prune(set())
    assert await home.read() == "a\n", "it is not old"
    for path in (home.folder / "0.log", home.folder):
        os.utime(path, (1, 1))
    home.logs.prune({"u"})
    assert await home.read() == "a\n", "its pod is there"
    home.logs.prune(set())
    assert not home.folder.exists()


async def test_logs_go_with_their_namespace(home: Home) -> None:
    home.write("0.log", entry(1, "one"))
    other = home.settings.logs / "pods" / "ns-b_p_u" / "c"
    other.mkdir(parents=True)
    await home.logs.forget("ns")
    assert [path.name for path in (home.settings.logs / "pods").iterdir()] == ["ns-b_p_u"]
    assert home.logs.kept("ns", "p") == []
    await home.logs.forget("ns")

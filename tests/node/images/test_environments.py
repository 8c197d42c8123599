"""Environments, built by the real uv from wheels made here: no index is needed."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace.machinery.clock import SystemClock
from headrace.machinery.settings import Settings
from headrace.node.images import bytecode
from headrace.node.images.environments import LOCK_SECONDS, Environments
from headrace.node.images.interpreters import Interpreter, Interpreters, nearest, own
from headrace.node.images.requirements import Requirements
from headrace.node.images.service import ImageError, Images
from headrace.node.images.uv import Uv, UvFailed
from headrace.testing import eventually

if TYPE_CHECKING:
    from headrace.node.images.progress import Progress


class Clock(SystemClock):
    """The system's, plus what a test adds."""

    ahead = 0.0

    def now(self) -> dt.datetime:
        return super().now() + dt.timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


def wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    wheel(folder, "lonely", "1.0")
    wheel(folder, "leader", "1.0", "lonely")
    wheel(folder, "broken", "1.0", "nowhere")
    return folder


def environ(wheels: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}


def environments(tmp_path: Path, wheels: Path, clock: SystemClock | None = None) -> Environments:
    cache = tmp_path / "cache"
    return Environments(cache, Uv(cache, environ(wheels), home=tmp_path), clock or SystemClock())


def versions(python: Path) -> str:
    code = "import importlib.metadata as m; print(*sorted(d.name + '=' + d.version for d in m.distributions()))"
    return (
        subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
        .stdout.partition(" pip=")[0]
        .strip()
    )


async def test_dependencies_or_none(tmp_path: Path, wheels: Path) -> None:
    made = environments(tmp_path, wheels)
    with_deps = await made.ensure(own(), Requirements(("leader",)))
    assert versions(with_deps.python) == "leader=1.0 lonely=1.0"
    without = await made.ensure(own(), Requirements((), ("leader==1.0",)))
    assert versions(without.python) == "leader=1.0"
    assert "leader" in without.packages
    assert without.size > 0
    await made.close()


async def test_equal_sets_share_one_environment_built_once(tmp_path: Path, wheels: Path) -> None:
    made, other = environments(tmp_path, wheels), environments(tmp_path, wheels)
    calls: list[str] = []

    async def ask(who: Environments, wanted: Requirements) -> Path:
        return (await who.ensure(own(), wanted, on_build=lambda progress: calls.append(progress.sentence))).path

    paths = await asyncio.gather(
        *(ask(who, Requirements(("leader", "lonely"))) for who in (made, made, other)),
        ask(other, Requirements(("leader",))),
    )
    assert len(set(paths)) == 1, "a lock decides, not the way to it"
    assert "finding versions of leader" in calls
    assert calls.count("installing leader, lonely") == len(paths), "whoever waits is told"
    calls.clear()
    await ask(environments(tmp_path, wheels), Requirements(("leader",)))
    assert not calls
    left = [p.name for p in paths[0].parent.iterdir() if p.name.startswith(".")]
    assert left == []
    await made.close()
    await other.close()


async def test_a_lock_lives_for_a_day(tmp_path: Path, wheels: Path) -> None:
    clock = Clock()
    made = environments(tmp_path, wheels, clock)
    wanted = Requirements(("lonely",))
    first = await made.ensure(own(), wanted)
    wheel(wheels, "lonely", "2.0")
    assert (await made.ensure(own(), wanted)).path == first.path
    clock.ahead = LOCK_SECONDS + 1
    second = await made.ensure(own(), wanted)
    assert versions(second.python) == "lonely=2.0"
    for file in wheels.iterdir():
        file.unlink()
    clock.ahead *= 2
    assert (await made.ensure(own(), wanted)).path == second.path, "an unreachable source leaves the old lock in force"
    await made.close()


async def test_what_cannot_be_resolved_is_said_in_uvs_words(tmp_path: Path, wheels: Path) -> None:
    made = environments(tmp_path, wheels)
    with pytest.raises(UvFailed, match="nowhere was not found") as error:
        await made.ensure(own(), Requirements(("broken",)))
    assert error.value.unsatisfiable
    assert not list((tmp_path / "cache").glob("environments/*"))
    await made.close()


async def test_a_cancelled_asker_does_not_stop_the_others(tmp_path: Path, wheels: Path) -> None:
    made = environments(tmp_path, wheels)
    first = asyncio.create_task(made.ensure(own(), Requirements(("lonely",))))
    second = asyncio.create_task(made.ensure(own(), Requirements(("lonely",))))
    await asyncio.sleep(0.02)
    first.cancel()
    assert versions((await second).python) == "lonely=1.0"
    await made.close()


def _of_session(leader: int) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(process.name)
    return found


async def test_nothing_stays_of_a_compiler_that_was_killed(tmp_path: Path) -> None:
    for i in range(400):
        (tmp_path / f"m{i}.py").write_text(
            "".join(f"def f{n}(a, b=1):\n    return [a for a in b]\n" for n in range(300))
        )
    main = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", bytecode.PROGRAM, str(tmp_path), start_new_session=True
    )
    await eventually(lambda: any(tmp_path.rglob("*.pyc")), timeout=120)
    assert len(_of_session(main.pid)) > 1
    main.kill()
    await main.wait()
    await eventually(lambda: not _of_session(main.pid), timeout=120)


async def test_bytecode_is_compiled_and_taken_over(tmp_path: Path, wheels: Path) -> None:
    made = environments(tmp_path, wheels)
    first = await made.ensure(own(), Requirements(("lonely",)))
    await eventually((first.path / bytecode.DONE).exists, timeout=120)  # it goes behind everything else
    compiled = list(first.path.rglob("lonely.*.pyc"))
    assert len(compiled) == 1
    second = await made.ensure(own(), Requirements(("leader",)))
    assert compiled[0].samefile(next(second.path.rglob("lonely.*.pyc")))
    await made.close()


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ((3, 12), [(3, 11), (3, 12)], (3, 12)),
        ((3, 9), [(3, 11), (3, 12)], (3, 11)),
        ((3, 14), [(3, 11), (3, 13)], (3, 13)),
        ((3, 12), [(3, 11), (3, 13)], (3, 13)),
    ],
)
def test_nearest(wanted: tuple[int, int], found: list[tuple[int, int]], expected: tuple[int, int]) -> None:
    interpreters = [Interpreter(Path("/p"), (*v, 0), Path("/")) for v in found]
    assert nearest(wanted, interpreters).minor == expected


def images(tmp_path: Path, wheels: Path, *found: Interpreter) -> Images:
    class Fixed(Interpreters):
        async def choose(self, wanted: tuple[int, int] | None) -> Interpreter:
            return nearest(wanted, list(found)) if wanted and found else own()

    return Images(Settings(home=tmp_path), SystemClock(), environ=environ(wheels), interpreters=Fixed())


async def test_an_image_and_its_annotation(tmp_path: Path, wheels: Path) -> None:
    pulls: list[Progress] = []
    made = images(tmp_path, wheels)
    here = f"python:3.{sys.version_info[1]}"
    found = await made.resolve(here, '["lonely"]', on_pull=pulls.append)
    assert [progress.work for progress in pulls] == ["finding versions of lonely", "installing lonely"]
    assert found.python is not None
    assert found.python.is_relative_to(tmp_path / "cache")
    assert found.path[0] == str(found.python.parent)
    assert found.command == ("python3",)
    assert found.env["LANG"] == "C.UTF-8"
    assert found.env["PIP_FIND_LINKS"] == str(wheels)
    assert found.warning == ""
    assert found.writable == (str(found.python.parent.parent),)
    assert "lonely" in found.packages
    assert await made.resolve(here, '["lonely"]', on_pull=pulls.append) is found
    assert len(pulls) == 2
    await made.close()


async def test_another_python_than_asked_for_is_said(tmp_path: Path, wheels: Path) -> None:
    made = images(tmp_path, wheels, own())
    found = await made.resolve("python:3.8")
    assert "asks for Python 3.8" in found.warning
    assert "install python3.8" in found.warning
    await made.close()


@pytest.mark.parametrize(
    ("image", "annotation", "reason", "says"),
    [
        ("acme/model:1", "", "ErrImagePull", "no local environment matches"),
        ("UPPER", "", "InvalidImageName", "invalid reference format"),
        ("python:3", '["-r x"]', "ErrImagePull", "-r is not supported"),
        ("python:3", '["nowhere"]', "ErrImagePull", "nowhere was not found"),
    ],
)
async def test_refusals(wheels: Path, image: str, annotation: str, reason: str, says: str) -> None:
    tmp_path = wheels.parent
    made = images(tmp_path, wheels)
    with pytest.raises(ImageError, match=says) as error:
        await made.resolve(image, annotation)
    assert error.value.reason == reason
    assert error.value.permanent
    await made.close()


async def test_a_userland_needs_nothing(tmp_path: Path, wheels: Path) -> None:
    made = images(tmp_path, wheels)
    found = await made.resolve("busybox:1.36", '["lonely"]')
    assert found.python is None
    assert found.command == ("sh",)
    assert found.id == "host/busybox"
    assert not (tmp_path / "cache").exists()

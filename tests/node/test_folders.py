"""Where a pod's things lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.machinery.settings import Settings
from headrace.node.folders import PodFolders

if TYPE_CHECKING:
    from pathlib import Path


def test_small_things_lie_in_memory_and_vanish_with_the_pod(tmp_path: Path) -> None:
    memory = tmp_path / "shm"
    memory.mkdir()
    folders = PodFolders(Settings(home=tmp_path / "home"), memory)
    assert folders.small("u").is_relative_to(memory)
    assert folders.disk("u").is_relative_to(tmp_path / "home" / "run")
    assert folders.small("u").parent.stat().st_mode & 0o777 == 0o700
    for folder in (folders.small("u"), folders.disk("v")):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    assert folders.all() == {"u", "v"}
    folders.close()
    assert folders.all() == {"u", "v"}, "a pod is still there"
    folders.remove("u")
    folders.remove("v")
    assert folders.all() == set()
    folders.close()
    assert list(memory.iterdir()) == []


def test_homes_do_not_share_a_folder(tmp_path: Path) -> None:
    one, other = (PodFolders(Settings(home=tmp_path / name), tmp_path) for name in ("one", "other"))
    assert one.small("u") != other.small("u")


def test_without_shared_memory_everything_is_on_disk(tmp_path: Path) -> None:
    folders = PodFolders(Settings(home=tmp_path / "home"), tmp_path / "none")
    assert folders.small("u") == folders.disk("u")
    assert folders.free_memory() == 0


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    mine = PodFolders(Settings(home=tmp_path / "home"), tmp_path)
    mine.small("u").parent.chmod(0o777)
    assert PodFolders(Settings(home=tmp_path / "home"), tmp_path).small("u") == mine.disk("u")

"""What pods leave behind, without pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.node.runtime import visible
from headrace.node.runtime.base import ContainerSpec
from headrace.node.runtime.sandboxd import linux, trash

if TYPE_CHECKING:
    from pathlib import Path


def test_discarded_folders_are_out_of_the_way_and_apart(tmp_path: Path) -> None:
    for _ in range(2):
        (tmp_path / "pod" / "deep").mkdir(parents=True)
        assert trash.discard(str(tmp_path / "pod"), str(tmp_path / "trash"))
        assert not (tmp_path / "pod").exists()
    assert len(list((tmp_path / "trash").iterdir())) == 2
    assert not trash.discard(str(tmp_path / "pod"), str(tmp_path / "trash")), "it is gone"


def test_what_cannot_be_moved_is_removed(tmp_path: Path) -> None:
    (tmp_path / "pod" / "deep").mkdir(parents=True)
    (tmp_path / "trash").write_text("not a folder")
    assert trash.discard(str(tmp_path / "pod"), str(tmp_path / "trash"))
    assert not (tmp_path / "pod").exists()


def test_emptying_follows_no_link(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    bin_ = tmp_path / "trash"
    (bin_ / "pod" / "work").mkdir(parents=True)
    (bin_ / "pod" / "work").chmod(0)
    (bin_ / "pod" / "link").symlink_to(kept)
    (bin_ / "link").symlink_to(kept)
    trash.empty(str(bin_))
    assert list(bin_.iterdir()) == []
    assert (kept / "file").exists()
    trash.empty(str(tmp_path / "missing"))


@pytest.mark.parametrize("place", ["tmp_path", "/dev/shm"])
def test_spreading_is_for_those_who_can(tmp_path: Path, place: str) -> None:
    linux.spread(str(tmp_path) if place == "tmp_path" else place)


def test_another_interpreter_at_the_same_place_is_seen(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "python3").write_text(name)
    link = tmp_path / "python"
    spec = ContainerSpec("c-0", "pod", (str(link),), {}, tmp_path / "log")
    for name in ("one", "other"):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name / "bin" / "python3")
        assert str(tmp_path / name) in visible.interpreters(spec)

"""What a copy of a folder holds, and what it never does."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from headrace.controllermanager import volume_copy


def filled(tmp_path):
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "file").write_text("words")
    (source / "program").write_bytes(bytes(range(256)) * 5000)
    (source / "program").chmod(0o4750)
    os.utime(source / "program", ns=(1_000_000_000, 2_000_000_000))
    (source / "empty").touch()
    (source / "link").symlink_to("deep/er/file")
    (source / "out").symlink_to("/etc")
    (source / "shut").mkdir(0o500)
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
    source.chmod(0o777)
    return source


def test_all_is_copied_as_it_is_but_for_what_is_no_data(tmp_path):
    source, target = filled(tmp_path), tmp_path / "target"
    volume_copy.copy(source, target, threading.Event())
    assert sorted(p.name for p in target.iterdir()) == ["deep", "empty", "link", "out", "program", "shut"]
    assert (target / "deep" / "er" / "file").read_text() == "words"
    assert (target / "program").read_bytes() == (source / "program").read_bytes()
    for name in ("program", "deep", "shut", ""):
        made, found = (target / name).stat(), (source / name).stat()
        assert (made.st_mode, made.st_uid, made.st_gid, made.st_mtime_ns) == (
            found.st_mode,
            found.st_uid,
            found.st_gid,
            found.st_mtime_ns,
        )
    assert str((target / "link").readlink()) == "deep/er/file"
    assert str((target / "out").readlink()) == "/etc", "a link is copied and not followed"
    assert not volume_copy.part(target).exists()


def test_where_blocks_cannot_be_shared_bytes_are_sent(tmp_path, monkeypatch):
    def refuse(*_args):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    source, target = filled(tmp_path), tmp_path / "target"
    volume_copy.copy(source, target, threading.Event())
    assert (target / "program").read_bytes() == (source / "program").read_bytes()


def test_a_copy_that_was_left_half_made_is_made_anew_and_a_whole_one_stays(tmp_path):
    source, target = filled(tmp_path), tmp_path / "target"
    volume_copy.part(target).mkdir()
    (volume_copy.part(target) / "stale").touch()
    volume_copy.copy(source, target, threading.Event())
    assert not (target / "stale").exists()
    (source / "later").touch()
    volume_copy.copy(source, target, threading.Event())
    assert not (target / "later").exists()


def test_a_copy_that_nobody_wants_leaves_nothing(tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(volume_copy.Stopped):
        volume_copy.copy(filled(tmp_path), tmp_path / "target", stop)
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_a_source_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "source").symlink_to("/etc")
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        volume_copy.copy(tmp_path / "source", tmp_path / "target", threading.Event())
    assert [p.name for p in tmp_path.iterdir()] == ["source"]

"""Archives of unknown origin, on a Python with `filter="data"` and on one without."""

from __future__ import annotations

import io
import os
import stat
import tarfile

import pytest

from headrace.images.tarball import extract


@pytest.fixture(params=["own", "python"], autouse=True)
def rules(request, monkeypatch):
    if request.param == "own":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        # Where there are filters, the library insists on one; without them it takes everything.
        monkeypatch.setattr(tarfile.TarFile, "extraction_filter", staticmethod(lambda m, _: m), raising=False)
    elif not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python has no data filter")


def archive(*members):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, link, 0o4777
            content = b"content" if kind == tarfile.REGTYPE else b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    packed.seek(0)
    return tarfile.open(fileobj=packed)


def test_what_is_inside_is_unpacked(tmp_path):
    with archive(
        ("a", tarfile.DIRTYPE, ""),
        ("a/file", tarfile.REGTYPE, ""),
        ("/rooted", tarfile.REGTYPE, ""),
        ("a/link", tarfile.SYMTYPE, "file"),
        ("hard", tarfile.LNKTYPE, "a/file"),
    ) as tar:
        extract(tar, tmp_path)
    assert (tmp_path / "a/link").read_bytes() == (tmp_path / "rooted").read_bytes() == b"content"
    assert (tmp_path / "hard").samefile(tmp_path / "a/file")
    mode = (tmp_path / "a/file").stat().st_mode
    assert not mode & (stat.S_ISUID | stat.S_IWOTH)
    assert (tmp_path / "rooted").stat().st_uid == os.getuid()


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", tarfile.REGTYPE, "")],
        [("a/../../evil", tarfile.REGTYPE, "")],
        [("link", tarfile.SYMTYPE, "/etc/passwd")],
        [("link", tarfile.SYMTYPE, "../..")],
        [("hard", tarfile.LNKTYPE, "../../etc/passwd")],
        [("device", tarfile.CHRTYPE, "")],
        [("fifo", tarfile.FIFOTYPE, "")],
        [("up", tarfile.SYMTYPE, "sub/.."), ("sub", tarfile.SYMTYPE, "../.."), ("up/../evil", tarfile.REGTYPE, "")],
    ],
)
def test_what_would_leave_the_folder_is_refused(tmp_path, members):
    inside = tmp_path / "x" / "y"
    inside.mkdir(parents=True)
    with archive(*members) as tar, pytest.raises(tarfile.TarError):
        extract(tar, inside)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x"]
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["y"]

"""What arrives in the model folder for each kind of URI."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from headrace.images.storage_initializer import fetch

if TYPE_CHECKING:
    from pathlib import Path


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_a_folder_is_copied_with_its_subfolders(tmp_path: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    (source / "deep").mkdir(parents=True)
    (source / "model.joblib").write_bytes(b"m")
    (source / "deep" / "vocabulary").write_bytes(b"v")
    assert fetch.main([f"file://{source}", str(dest)]) == 0
    assert tree(dest) == {"model.joblib": b"m", "deep/vocabulary": b"v"}


def test_a_single_file_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"m")
    assert fetch.main([str(tmp_path / "a.pkl"), str(tmp_path / "dest")]) == 0
    assert tree(tmp_path / "dest") == {"a.pkl": b"m"}


def test_a_single_archive_is_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("model.joblib")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"t"))
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as packed:
        packed.writestr("model.joblib", b"z")
    for name, content in (("m.tar.gz", b"t"), ("m.zip", b"z")):
        dest = tmp_path / f"dest-{name}"
        assert fetch.main([str(tmp_path / name), str(dest)]) == 0
        assert tree(dest) == {"model.joblib": content}


def test_an_archive_may_not_write_outside_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as packed:
        packed.writestr("../evil", b"z")
    with tarfile.open(tmp_path / "m.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../evil"), io.BytesIO())
    for name in ("m.zip", "m.tar"):
        assert fetch.main([str(tmp_path / name), str(tmp_path / "dest")]) == 1
        assert not (tmp_path / "evil").exists()
    assert "leads out of the model folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("file:///no/such/path", "Local path file:///no/such/path does not exist"),
        ("gs://bucket/x", "Cannot recognize storage type for gs://bucket/x"),
        ("s3:///x", "names no bucket"),
        ("s3://b/x", "no S3 endpoint: set AWS_ENDPOINT_URL"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], uri: str, words: str
) -> None:
    assert fetch.main([uri, str(tmp_path / "dest")], {}) == 1
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1


def test_it_starts_by_path_as_in_a_pod(tmp_path: Path, images: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"m")
    done = subprocess.run(
        [sys.executable, "-I", str(images / "storage_initializer"), str(tmp_path / "a.pkl"), str(tmp_path / "dest")],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Copied 1 file from {tmp_path / 'a.pkl'} to {tmp_path / 'dest'}.\n"

"""What arrives in the model folder for each kind of URI."""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from headrace.components.objectstore import policy
from headrace.components.objectstore.api.app import App
from headrace.components.objectstore.store.objects import ObjectStore
from headrace.components.objectstore.types import Principal
from headrace.images.s3client import S3
from headrace.images.storage_initializer import fetch
from headrace.machinery.clock import SystemClock
from headrace.machinery.serve import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
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


# From the object store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The environment of a pod that reaches a store with some models in it."""

    async def find(access_key: str) -> Principal | None:
        return {"minio": policy.ADMINISTRATOR, "team": Principal("team", "secret", "team-a")}.get(access_key)

    objects = ObjectStore(tmp_path / "objectstore")
    objects.open()
    await objects.create_bucket("mlpipeline", SystemClock().precise())
    server = Server(App(objects, SystemClock(), find, ("localhost",)), "127.0.0.1", 0)
    await server.start()
    endpoint = "http://{}:{}".format(*server.address)
    env = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "minio", "AWS_SECRET_ACCESS_KEY": "minio123"}

    def fill() -> None:
        s3 = S3.from_env(env)
        with contextlib.closing(s3):
            for key, data in OBJECTS.items():
                s3.put("mlpipeline", key, data)

    await asyncio.to_thread(fill)
    yield env
    await server.stop()
    await objects.close()


OBJECTS = {
    "models/digits/model.joblib": b"digits",
    "models/digits/deep/words": b"words",
    "models/digits/empty": b"",
    "models/digits2/model.joblib": b"other",
    "models/one.pkl": b"one",
    "private-artifacts/team-a/m/model.pkl": b"team",
}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://mlpipeline/models/digits", {"model.joblib": b"digits", "deep/words": b"words"}),
        ("s3://mlpipeline/models/digits/", {"model.joblib": b"digits", "deep/words": b"words"}),
        ("s3://mlpipeline/models/one.pkl", {"one.pkl": b"one"}),
        ("s3://mlpipeline/models/digits/model.joblib", {"model.joblib": b"digits"}),
    ],
)
async def test_an_object_or_what_lies_below_a_prefix(
    store: dict[str, str], tmp_path: Path, uri: str, expected: dict[str, bytes]
) -> None:
    assert await asyncio.to_thread(fetch.main, [uri, str(tmp_path / "dest")], store) == 0
    assert tree(tmp_path / "dest") == expected


async def test_several_models_at_once(store: dict[str, str], tmp_path: Path) -> None:
    arguments = [
        "s3://mlpipeline/models/one.pkl",
        str(tmp_path / "a"),
        "s3://mlpipeline/models/digits2",
        str(tmp_path / "b"),
    ]
    assert await asyncio.to_thread(fetch.main, arguments, store) == 0
    assert tree(tmp_path / "a") == {"one.pkl": b"one"}
    assert tree(tmp_path / "b") == {"model.joblib": b"other"}


@pytest.mark.parametrize(
    ("uri", "keys", "words"),
    [
        ("s3://mlpipeline/models/dig", {}, "nothing named models/dig or below models/dig/"),
        ("s3://mlpipeline/absent", {}, "the bucket holds no object named absent or below absent/"),
        ("s3://nowhere/x", {}, "NoSuchBucket"),
        ("s3://mlpipeline/models/one.pkl", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch"),
        (
            "s3://mlpipeline/models/one.pkl",
            {"AWS_ACCESS_KEY_ID": "team", "AWS_SECRET_ACCESS_KEY": "secret"},
            "AccessDenied",
        ),
    ],
)
async def test_what_the_store_refuses_is_said(
    *,
    store: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    uri: str,
    keys: dict[str, str],
    words: str,
) -> None:
    assert await asyncio.to_thread(fetch.main, [uri, str(tmp_path / "dest")], {**store, **keys}) == 1
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1
    assert tree(tmp_path / "dest") == {}


async def test_a_profiles_keys_reach_its_own_models(store: dict[str, str], tmp_path: Path) -> None:
    env = {**store, "AWS_ACCESS_KEY_ID": "team", "AWS_SECRET_ACCESS_KEY": "secret"}
    uri = "s3://mlpipeline/private-artifacts/team-a/m"
    assert await asyncio.to_thread(fetch.main, [uri, str(tmp_path / "dest")], env) == 0
    assert tree(tmp_path / "dest") == {"model.pkl": b"team"}

"""Images and environments on the command line, without a platform."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


class Shop:
    def __init__(self, tmp_path: Path) -> None:
        self.home, self.folder = tmp_path / "home", tmp_path / "folder"
        self.folder.mkdir()

    def headrace(self, *args: str, code: int = 0) -> str:
        done = subprocess.run(
            [str(BIN / "headrace"), *args],
            env={**os.environ, "HEADRACE_HOME": str(self.home), "PIP_NO_INDEX": "1"},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def json(self, *args: str):
        return json.loads(self.headrace(*args))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.mark.parametrize(
    "words",
    [(), ("build",), ("list",), ("inspect",), ("rm",), ("prune",)],
)
def test_every_part_of_image_has_help_with_examples(shop: Shop, words: tuple[str, ...]) -> None:
    text = shop.headrace("image", *words, "--help")
    assert "Examples:" in text
    assert " ".join(("headrace", "image", *words)) in text


@pytest.mark.parametrize("words", [(), ("list",), ("inspect",), ("prune",)])
def test_every_part_of_env_has_help_with_examples(shop: Shop, words: tuple[str, ...]) -> None:
    text = shop.headrace("env", *words, "--help")
    assert "Examples:" in text
    assert " ".join(("headrace", "env", *words)) in text


def test_from_building_to_making_room(shop: Shop) -> None:
    assert "headrace image build" in shop.headrace("image", "list")
    assert "No environments yet" in shop.headrace("env", "list")
    (shop.folder / "Dockerfile").write_text("FROM python:3\nARG V=0\nENV V=$V\nWORKDIR /work9\nCOPY Dockerfile .\n")
    text = shop.headrace("image", "build", "-t", "mine:1", "--build-arg", "V=1", ".")
    assert "[3/5] ENV V=$V" in text
    assert "Built mine:1 as" in text
    record = shop.json("image", "inspect", "mine:1")
    assert (record["names"], record["env"]["V"], record["workdir"]) == (["mine:1"], "1", "/work9")
    assert (Path(record["files"]) / "work9" / "Dockerfile").exists()
    assert [i["name"] for i in shop.json("image", "list", "--json")] == ["mine:1"]
    (environment,) = shop.json("env", "list", "--json")
    assert environment["usedBy"] == ["image mine:1"]
    assert shop.json("env", "inspect", environment["id"][:6])["id"] == environment["id"]
    assert "0.0 MB freed" in shop.headrace("env", "prune")

    identity = shop.headrace("image", "build", "-q", "-t", "mine:1", ".").strip()
    assert identity != f"sha256:{record['id']}"
    assert f"Deleted {record['id'][:12]}" in shop.headrace("image", "prune")
    text = shop.headrace("image", "rm", "mine:1")
    assert text.splitlines() == ["Untagged mine:1", f"Deleted {identity.removeprefix('sha256:')[:12]}"]
    assert f"Deleted {environment['id'][:12]}" in shop.headrace("env", "prune")
    assert shop.json("env", "list", "--json") == []


def test_what_goes_wrong_is_said_in_a_sentence(shop: Shop) -> None:
    assert "name the file with -f" in shop.headrace("image", "build", "-t", "a", ".", code=1)
    (shop.folder / "Dockerfile").write_text("FROM python:3\nVOLUME /x\n")
    assert "Error: line 2: VOLUME is not supported" in shop.headrace("image", "build", "-t", "a", ".", code=1)
    assert "neither here nor in" in shop.headrace("image", "build", "-t", "a", "-f", "none", ".", code=1)
    for verb in ("inspect", "rm"):
        assert "there is no image none of your own" in shop.headrace("image", verb, "none", code=1)
    assert "no environment begins with abc" in shop.headrace("env", "inspect", "abc", code=1)


def test_requirements_and_a_project(shop: Shop) -> None:
    (shop.folder / "requirements.txt").write_text("# nothing but a comment\n")
    shop.headrace("image", "build", "-t", "packages", "-f", "requirements.txt", ".")
    record = shop.json("image", "inspect", "packages")
    assert record["base"].startswith("python:3.")
    assert list(Path(record["files"]).iterdir()) == [], "what only the build needs is not kept"

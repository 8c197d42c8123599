"""The platform's own interpreter in images that are not its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from headrace.node.agent import interpreter

LAUNCHER = ("python3", "/opt/headrace/kfp_launcher", "task.json")


@pytest.mark.parametrize("words", [("python3",), ("python3", "/app/main.py"), ("/bin/sh", "/opt/headrace/x"), ()])
def test_a_program_of_the_images_own_needs_nothing(words):
    assert interpreter.needed(words) == ()


def test_a_program_of_the_platforms_brings_its_interpreter():
    mounts = interpreter.needed(LAUNCHER)
    assert mounts[0].target == "/opt/headrace"
    assert all(mount.read_only and mount.source is not None and mount.source.is_dir() for mount in mounts)
    words = interpreter.inside(LAUNCHER)
    assert words[-2:] == LAUNCHER[1:]
    targets = tuple(mount.target for mount in mounts[1:])
    assert words[0].startswith(targets), "what is started is among what is shown"
    assert all(word.startswith(targets) for word in words if word.startswith(interpreter.FOLDER))


def test_it_is_this_interpreter_with_its_own_libraries_whatever_lies_beside_the_c_library():
    check = "import _ssl, _ctypes, sys; print(sys.version)"
    words = [word.replace(interpreter.FOLDER, "") for word in interpreter.inside(LAUNCHER)]
    command = [*words[: words.index("-B")], "-c", check]
    ran = subprocess.run(command, capture_output=True, text=True, env={}, check=False)
    assert (ran.stdout.strip(), ran.stderr) == (sys.version, "")


@pytest.mark.parametrize(
    ("folders", "found"),
    [(("/usr", "/usr/lib/x", "/usr"), ["/usr"]), (("/a/b", "/a", "/ab"), ["/a", "/ab"]), ((), [])],
)
def test_only_the_outermost_folders_are_shown(folders, found):
    assert interpreter.outermost(folders) == found

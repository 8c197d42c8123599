"""The mode that was asked for, or the first that this machine can do."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

from headrace.machinery.settings import AUTO, MODES, Settings
from headrace.node.runtime.base import RuntimeUnavailable
from headrace.node.runtime.choice import ChosenRuntime
from headrace.node.runtime.helpers import Helpers

pytestmark = pytest.mark.node


@pytest.mark.parametrize("mode", [AUTO, *MODES])
async def test_what_was_asked_for(tmp_path, mode):
    runtime = ChosenRuntime(Settings(home=tmp_path, mode=mode))
    with pytest.raises(RuntimeUnavailable, match="not been started"):
        _ = runtime.isolation
    await runtime.stop(pods=True)
    try:
        await runtime.start()
    except RuntimeUnavailable as error:
        assert mode == "container", error
        pytest.skip(str(error))
    try:
        assert runtime.isolation.mode == (MODES[0] if mode == AUTO else mode)
        assert runtime.passed_over == {}
        assert await runtime.containers() == []
    finally:
        await runtime.stop(pods=True)


@pytest.mark.parametrize(("times", "mode"), [(1, "sandbox"), (2, "sandbox"), (3, "bare")])
async def test_a_machine_that_is_slow_once_is_asked_again(tmp_path, monkeypatch, times, mode):
    """It must not come back in another mode because it had much to do."""
    left = [TimeoutError("timed out")] * times
    ensure = Helpers.ensure_network

    async def slow(helpers):
        if left:
            raise left.pop()
        await ensure(helpers)

    monkeypatch.setattr(Helpers, "ensure_network", slow)
    runtime = ChosenRuntime(Settings(home=tmp_path))
    await runtime.start()
    try:
        assert runtime.isolation.mode == mode, runtime.passed_over
    finally:
        await runtime.stop(pods=True)


async def test_a_mode_that_does_not_exist(tmp_path):
    runtime = ChosenRuntime(dataclasses.replace(Settings(home=tmp_path), mode="magic"))
    with pytest.raises(RuntimeUnavailable, match="no mode 'magic' for pods: use sandbox, bare, container or auto"):
        await runtime.start()


PROGRAM = """
import asyncio, sys
from pathlib import Path
from headrace.machinery.settings import Settings
from headrace.node.runtime.choice import ChosenRuntime

async def main():
    runtime = ChosenRuntime(Settings(home=Path(sys.argv[1])))
    await runtime.start()
    print(runtime.isolation.mode, sorted(runtime.passed_over))
    await runtime.stop(pods=True)

asyncio.run(main())
"""


def test_where_namespaces_are_forbidden_pods_are_plain_processes(tmp_path):
    """A user namespace whose own limit is none at all is such a machine."""
    if not all(shutil.which(tool) for tool in ("unshare", "setpriv")):
        pytest.skip("unshare and setpriv are not installed")
    inside = (
        "echo 0 > /proc/sys/user/max_user_namespaces && "
        'exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"'
    )
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", inside, "sh", sys.executable, "-c"]
    done = subprocess.run(
        [*words, textwrap.dedent(PROGRAM), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    if "unshare" in done.stderr and "failed" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout == "bare ['sandbox']\n", done.stderr

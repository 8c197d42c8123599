"""Pods of images of one's own, and what a pod installs for itself, in every mode."""

from __future__ import annotations

import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from headrace.api.core import (
    ConfigMap,
    ConfigMapVolumeSource,
    Container,
    Event,
    ExecAction,
    HostPathVolumeSource,
    Probe,
    Volume,
    VolumeMount,
)
from headrace.api.meta import ObjectMeta
from headrace.machinery.settings import AUTOMATIC_MODES
from headrace.node.images import ignore
from headrace.node.images.build import Builder, Parts
from headrace.node.images.environments import Environments
from headrace.node.images.interpreters import Interpreters
from headrace.node.images.runs import SandboxRunner
from headrace.node.images.store import ImageStore
from headrace.node.images.uv import Uv
from headrace.testing import eventually

from .conftest import shell

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.node, pytest.mark.parametrize("node", AUTOMATIC_MODES, indirect=True)]

SOURCE = """
FROM python:3
WORKDIR /app9
COPY main.py conf.txt ./
COPY tool /usr/local/bin/headrace-test-tool
ENV WORD=hello
CMD ["python", "main.py"]
"""
MAIN = """
import os, sys
print(os.environ["WORD"], open("conf.txt").read().strip(), open("/app9/conf.txt").read().strip())
open("/app9/new", "w").write("x")
os.system(sys.argv[1] if len(sys.argv) > 1 else "echo alone")
"""


async def build(node, folder: Path) -> None:
    folder.mkdir()
    for name, text in (("main.py", MAIN), ("conf.txt", "configured"), ("tool", "#!/bin/sh\necho tool $1\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    settings = node.settings
    settings.state.mkdir(parents=True, exist_ok=True)
    uv = Uv(settings.cache, node._environ)
    environments = Environments(settings.cache, uv, node.clock)
    store = ImageStore(settings.state / "images")
    parts = Parts(store, environments, Interpreters(), uv, node.clock, SandboxRunner())
    await Builder(parts, folder, lambda _line: None, ignore.read(folder)).build(SOURCE, "mine:1", {})
    await environments.close()


async def test_an_image_of_ones_own(node, tmp_path):
    await build(node, tmp_path / "context")
    await node.run("plain", Container(name="main", image="mine:1"))
    await node.run("args", Container(name="main", image="mine:1", args=["python", "main.py", "headrace-test-tool 7"]))
    await node.phase("plain", "Succeeded", timeout=30)
    found = await node.phase("args", "Succeeded", timeout=30)
    assert sorted((await node.log("plain")).split()) == ["alone", "configured", "configured", "hello"]
    assert "tool 7" in await node.log("args")
    assert found.status.container_statuses[0].image_id.startswith("mine:1@sha256:")
    store = ImageStore(node.settings.state / "images")
    tree = store.tree(store.find("mine:1"))
    assert sorted(p.name for p in (tree / "app9").iterdir()) == ["conf.txt", "main.py"], "a pod changes its own copy"

    async def told() -> list[str]:
        events = (await node.client.list(Event, "default")).items
        assert len([e for e in events if e.reason == "Started"]) == 2
        return [e.message for e in events]

    assert not any("no local environment" in message for message in await eventually(told))


async def test_an_unknown_image_says_how_to_build_it(node):
    await node.run("unknown", Container(name="main", image="ghcr.io/me/unknown:2"))

    async def told() -> bool:
        return any("headrace image build -t ghcr.io/me/unknown:2 DIR" in e for e in await node.events("unknown"))

    await eventually(told, timeout=60)


async def test_what_a_pod_installs_is_its_own(node, tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "mine-1.0.dist-info"
    with zipfile.ZipFile(folder / "mine-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("mine.py", "VALUE = 'installed'\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"mine.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    volumes = [Volume(name="w", host_path=HostPathVolumeSource(path=str(folder)))]
    mounts = [VolumeMount(name="w", mount_path="/wheels")]
    image = f"python:{sys.version_info[0]}.{sys.version_info[1]}"
    script = "pip install -q --no-index /wheels/mine-1.0-py3-none-any.whl && python -c 'import mine; print(mine.VALUE)'"
    await node.run("one", shell(script, image=image, volume_mounts=mounts), volumes=volumes)
    await node.phase("one", "Succeeded", timeout=60)
    assert "installed" in await node.log("one")
    await node.run("two", shell("python -c 'import mine'", image=image))
    await node.phase("two", "Failed", timeout=30)
    assert "No module named 'mine'" in await node.log("two")
    assert list((node.settings.cache / "environments").rglob("mine*")) == []


async def test_volumes_and_probes(node):
    await node.client.create(
        ConfigMap(metadata=ObjectMeta(name="c", namespace="default"), data={"key": "from the map"})
    )
    probe = Probe(exec=ExecAction(command=["cat", "/etc/conf9/key"]), period_seconds=1)
    await node.run(
        "reader",
        shell(
            "cat /etc/conf9/key; echo; sleep 1000",
            volume_mounts=[VolumeMount(name="c", mount_path="/etc/conf9")],
            readiness_probe=probe,
        ),
        volumes=[Volume(name="c", config_map=ConfigMapVolumeSource(name="c"))],
    )
    await node.condition("reader", "Ready")
    assert await node.log("reader") == "from the map\n"


async def test_a_program_in_python_finds_volumes_by_paths_that_it_puts_together(node):
    await node.client.create(ConfigMap(metadata=ObjectMeta(name="d", namespace="default"), data={"key": "found"}))
    script = 'python -c \'import os; print(open(os.path.join("/" + "etc", "conf8", "key")).read())\''
    image = f"python:{sys.version_info[0]}.{sys.version_info[1]}"
    await node.run(
        "assembled",
        shell(script, image=image, volume_mounts=[VolumeMount(name="d", mount_path="/etc/conf8")]),
        volumes=[Volume(name="d", config_map=ConfigMapVolumeSource(name="d"))],
    )
    await node.phase("assembled", "Succeeded", timeout=60)
    assert await node.log("assembled") == "found\n"

"""Images and environments: who sees what, who uses it, what is being built, and who may take it away."""

from __future__ import annotations

import asyncio
import datetime as dt
import fcntl
import os

import pytest
from dashboard_world import HOME, NOBODY, OTHER, OWNER, STRANGER, VIEWER, administer, live

from headrace.api import _wire
from headrace.api.core import Pod
from headrace.components.dashboard.ui.images import packages, safe
from headrace.machinery.shelf import InUse
from headrace.node.images.environments import META
from headrace.node.images.service import Images
from headrace.node.images.stock import DiskShelf
from headrace.node.images.store import ImageStore, Record

PAGE = "/workloads/images"
JSON = {"accept": "application/json"}
MINE, THEIRS, FREE = "a" * 24, "b" * 24, "c" * 24


def environment(world, key: str, *lines: str, age_days: float = 0.0) -> None:
    folder = world.settings.cache / "environments" / key
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n")
    (folder / META).write_bytes(_wire.encode({"packages": [], "size": 3 << 20, "python": "/usr/bin/python3"}))
    then = dt.datetime.now(dt.UTC).timestamp() - age_days * 86400
    os.utime(folder / META, (then, then))


def image(world, name: str) -> Record:
    store = ImageStore(world.settings.state / "images")
    store.prepare()
    tree = world.settings.state / "tree"
    tree.mkdir()
    record = Record(id="d" * 64, created="2026-01-02T03:04:05+00:00", base="python:3.11", size=5 << 20)
    store.keep(record, tree, name)
    return record


async def runs_in(world, name: str, key: str, namespace: str = HOME) -> None:
    status = {"name": "main", "image": "i", "imageID": f"headrace/python@sha256:{key}"}
    await world.pod(name, namespace, phase="Running", containerStatuses=[status])


@pytest.fixture
async def stocked(world):
    """Three environments: one of the owner's, a stranger's, nobody's; an image that the owner's pod waits for."""
    environment(world, MINE, "numpy==1.0", "pandas==2.0")
    environment(world, THEIRS, "torch==2.0")
    environment(world, FREE, "flask==3.0", age_days=8)
    record = image(world, "trainer:1")
    await runs_in(world, "mine", MINE)
    await runs_in(world, "theirs", THEIRS, OTHER)
    world.record = record
    return world


async def act(session, action: str, status: int = 200, **form: str) -> dict[str, str]:
    async with session.post(PAGE, data={"action": action, **form}, headers=JSON) as response:
        said = await response.json()
        assert response.status == status, said
        return said


async def test_a_person_sees_what_the_namespace_uses_and_the_images(stocked):
    for email in (OWNER, VIEWER):
        text = await stocked.page(await stocked.browser(email), f"{PAGE}?ns={HOME}")
        assert "numpy, pandas" in text
        assert "trainer:1" in text
        assert f'href="/workloads?ns={HOME}&amp;pod=mine"' in text
        for hidden in ("torch", "flask", "theirs", "Remove"):
            assert hidden not in text, hidden
    for email in (STRANGER, NOBODY):
        assert "numpy" not in await stocked.page(await stocked.browser(email), f"{PAGE}?ns={HOME}", 403)


async def test_an_administrator_sees_everything_and_pods_elsewhere_counted(stocked):
    await administer(stocked, OWNER)
    session = await stocked.browser()
    text = await stocked.page(session, f"{PAGE}?ns={HOME}")
    for words in ("numpy, pandas", "torch", "flask", "1 elsewhere", "Remove what nobody uses"):
        assert words in text
    detail = await stocked.page(session, f"{PAGE}?ns={HOME}&environment={THEIRS}")
    assert "1 pods in other namespaces" in detail
    assert "theirs" not in detail
    assert 'value="remove-environment"' not in detail
    assert 'value="remove-environment"' in await stocked.page(session, f"{PAGE}?environment={FREE}")
    assert 'value="remove-image"' in await stocked.page(session, f"{PAGE}?image={stocked.record.id}")


async def test_only_administrators_take_away_and_only_what_nobody_uses(stocked):
    session = await stocked.browser()
    for action in ("prune", "remove-environment", "remove-image"):
        assert "administrators" in (await act(session, action, 403, id=FREE))["error"]
    await administer(stocked, OWNER)
    assert "pod mine" in (await act(session, "remove-environment", 409, id=MINE))["error"].replace(f"{HOME}/", "")
    await act(session, "remove-environment", 404, id="../../state")
    assert (await act(session, "remove-environment", id=FREE))["message"] == "3.0 MiB freed."
    assert not (stocked.settings.cache / "environments" / FREE).exists()
    await act(session, "remove-image", id=stocked.record.id)
    assert ImageStore(stocked.settings.state / "images").names() == {}


async def test_pruning_spares_what_is_used_and_what_is_young(stocked):
    await administer(stocked, OWNER)
    session = await stocked.browser()
    environment(stocked, "e" * 24, "young==1.0")
    await act(session, "prune", days="7")
    left = {path.name for path in (stocked.settings.cache / "environments").iterdir()}
    assert left == {MINE, THEIRS, "e" * 24}
    await act(session, "prune")
    left = {path.name for path in (stocked.settings.cache / "environments").iterdir()}
    assert left == {MINE, THEIRS}
    assert "trainer:1" in ImageStore(stocked.settings.state / "images").names()


async def test_nothing_goes_while_a_pod_is_on_its_way(stocked):
    pod = _wire.convert(
        Pod,
        {
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"nodeName": "here", "containers": [{"name": "main", "image": "python:3.11"}]},
        },
    )
    shelf = DiskShelf(stocked.settings, Images(stocked.settings, stocked.clock), lambda: False)
    with pytest.raises(InUse, match="n/p is starting"):
        await shelf.prune([pod])
    with pytest.raises(InUse, match="n/p is starting"):
        await shelf.remove_environment([pod], FREE)


async def test_what_is_being_built_is_shown_while_it_grows(stocked):
    """Another process builds: its folder grows, its lock is held."""
    await administer(stocked, OWNER)
    cache = stocked.settings.cache
    part = cache / "environments" / f".{'f' * 24}.new"
    part.mkdir()
    (part / "requirements.txt").write_text("scipy==1.0\n")
    lock = cache / "flight" / ("f" * 24)
    lock.parent.mkdir()
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        session = await stocked.browser()
        text = await stocked.page(session, PAGE)
        assert "Building" in text
        assert "scipy" in text
        async with live(session, PAGE) as stream:
            await stream.next("page")
            (part / "a-file").write_bytes(b"x" * (7 << 20))
            async with asyncio.timeout(30):
                while "7.0 MiB" not in (await stream.next("page", 30))["html"]:
                    pass
    assert "Building" not in await stocked.page(session, PAGE)


def test_packages_are_named_and_passwords_are_not():
    lines = ["numpy==1.0", "mine @ https://me:secret@host/mine.whl", "kfp[all]>=2"]
    assert packages(lines) == "numpy, mine, kfp"
    assert safe(lines[1]) == "mine @ https://***@host/mine.whl"

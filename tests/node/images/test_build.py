"""Images built by the real uv from wheels made here, and run as pods would."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from headrace.machinery.clock import SystemClock
from headrace.machinery.settings import Settings
from headrace.node.images import ignore, inventory, trees
from headrace.node.images.build import Builder, Parts
from headrace.node.images.dockerfile import BuildError
from headrace.node.images.environments import Environments
from headrace.node.images.interpreters import Interpreters
from headrace.node.images.runs import SandboxRunner
from headrace.node.images.service import Images, path_of
from headrace.node.images.store import ImageStore, UnreadableStore, canonical_name
from headrace.node.images.uv import Uv

from .test_environments import environ, wheel


class Workshop:
    """A home, a folder to build from, and an index of wheels."""

    def __init__(self, tmp_path: Path) -> None:
        self.settings = Settings(home=tmp_path / "home")
        self.settings.state.mkdir(parents=True)
        self.store = ImageStore(self.settings.state / "images")
        self.wheels, self.context = tmp_path / "wheels", tmp_path / "context"
        self.context.mkdir()
        wheel(self.wheels, "lonely", "1.0")
        wheel(self.wheels, "leader", "1.0", "lonely")
        wheel(self.wheels, "other", "2.0")
        self.clock = SystemClock()
        self.uv = Uv(self.settings.cache, environ(self.wheels), home=tmp_path)
        self.environments = Environments(self.settings.cache, self.uv, self.clock)
        self.said: list[str] = []

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.context / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    async def build(self, source: str, name: str = "mine:1", target: str = "", **args: str):
        parts = Parts(self.store, self.environments, Interpreters(), self.uv, self.clock, SandboxRunner())
        builder = Builder(parts, self.context, self.said.append, ignore.read(self.context))
        return await builder.build(source, name, args, target)

    async def refused(self, source: str, **args: str) -> str:
        with pytest.raises(BuildError) as caught:
            await self.build(source, **args)
        assert self.store.names() == {}
        return str(caught.value)

    async def resolve(self, image: str, requirements: str = ""):
        images = Images(self.settings, self.clock, environ=environ(self.wheels))
        try:
            return await images.resolve(image, requirements)
        finally:
            await images.close()


@pytest.fixture
async def shop(tmp_path: Path):
    made = Workshop(tmp_path)
    yield made
    await made.environments.close()


DOCKERFILE = """
ARG BASE=python:3.11
FROM ${BASE}
ARG NOTE=none
ENV APP=/app NOTE=$NOTE PATH=/app/bin:$PATH
WORKDIR $APP
COPY req.txt *.md ./
RUN pip install -r req.txt
COPY code/ /app/code/
COPY code/main.py /etc/made-for-this-test/main.py
LABEL a=b
EXPOSE 80/tcp
USER 7:8
ENTRYPOINT ["python", "code/main.py"]
CMD one "two words"
"""


async def test_an_image(shop):
    shop.write(
        **{
            "req.txt": "leader",
            "README.md": "x",
            "code__main.py": "print(1)",
            "code__no.log": "",
            ".dockerignore": "*/*.log",
        }
    )
    record = await shop.build(DOCKERFILE, NOTE="given")
    assert record.requirements == ["leader==1.0", "lonely==1.0"]
    assert (record.workdir, record.user, record.exposed, record.labels) == ("/app", "7:8", ["80/tcp"], {"a": "b"})
    assert record.command == ["/bin/sh", "-c", 'one "two words"']
    assert record.env["NOTE"] == "given"
    tree = shop.store.tree(record)
    assert sorted(str(p.relative_to(tree)) for p in tree.rglob("*") if p.is_file()) == [
        "app/README.md",
        "app/code/main.py",
        "app/req.txt",
        "etc/made-for-this-test/main.py",
    ]
    found = await shop.resolve("docker.io/mine:1")
    assert found.entrypoint == ("python", "code/main.py")
    assert (found.workdir, found.user, found.packages) == ("/app", "7:8", ("leader", "lonely", "pip"))
    assert found.path[:4] == ("/app/bin", str(found.python.parent), "/usr/local/sbin", "/usr/local/bin")
    assert [layer.target for layer in found.layers] == ["/app", "/etc/made-for-this-test"]
    assert found.id == f"docker.io/mine:1@sha256:{record.id}"
    again = await shop.build(DOCKERFILE, NOTE="given")
    assert again.id == record.id, "the same content is the same image"
    more = await shop.resolve("mine:1", json.dumps(["other"]))
    assert more.packages == ("leader", "lonely", "other", "pip")
    assert more.id != found.id


async def test_an_image_of_an_image_and_stages(shop):
    shop.write(**{"a.txt": "a"})
    await shop.build('FROM python:3.11 AS base\nRUN pip install --no-deps leader\nCMD ["a"]\n', "base:1")
    source = (
        "FROM debian AS files\nCOPY a.txt /out/a.txt\n"
        "FROM base:1 AS mid\nCOPY --from=files /out /in\nCOPY --from=0 /out/a.txt /in/b.txt\n"
        'FROM mid\nRUN pip install other\nENTRYPOINT ["x"]\n'
    )
    record = await shop.build(source, "second")
    assert record.requirements == ["leader==1.0", "other==2.0"]
    assert (record.entrypoint, record.command) == (["x"], []), "the base's command was the base's entrypoint's"
    assert sorted(p.name for p in (shop.store.tree(record) / "in").iterdir()) == ["a.txt", "b.txt"]
    first = await shop.build(source, "first", target="files")
    assert first.base == "debian"
    assert (await shop.resolve("first")).python is None
    assert shop.store.names().keys() == {"base:1", "second:latest", "first:latest"}


async def test_a_project_becomes_a_wheel(shop):
    shop.write(**{"lib__pkg-3.0-py3-none-any.txt": ""})
    wheel(shop.context / "lib", "pkg", "3.0", "lonely")
    record = await shop.build("FROM python:3.11\nCOPY lib /lib9\nRUN pip install /lib9/pkg-3.0-py3-none-any.whl\n")
    assert record.requirements[0] == "lonely==1.0"
    assert record.requirements[1].startswith("pkg @ file:///")
    assert (await shop.resolve("mine:1")).packages == ("lonely", "pip", "pkg")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("FROM nowhere/such:1", "line 1: nowhere/such:1 is neither in the catalogue"),
        ("FROM scratch", "line 1: FROM scratch"),
        ("ENV A=1\nFROM debian", "line 1: ENV before FROM"),
        ("FROM debian\nRUN pip install six", "line 2: debian has no Python"),
        ("FROM python\nRUN apt-get update && apt-get install -y git", "line 2: apt-get cannot be run"),
        ("FROM python\nRUN useradd me", "line 2: useradd cannot be run"),
        ("FROM python\nRUN pip install no-such-package-here", "line 2:"),
        ("FROM python\nRUN pip install -r none.txt", "line 2: none.txt is not in the image"),
        ("FROM python\nCOPY none /x", "line 2: COPY: none is not in"),
        ("FROM python\nCOPY ../secret /x", "line 2: COPY: ../secret is not in"),
        ("FROM python\nCOPY leads /x", "line 2: leads leads out"),
        ("FROM python\nADD https://h/x /x", "line 2: ADD of https://h/x"),
        ("FROM python\nCOPY a.txt /proc/x", "line 2: /proc/x is the kernel's"),
        ("FROM python\nCOPY --from=none a b", "line 2: --from=none"),
        ("FROM python\nUSER no-such-account", "line 2: USER no-such-account"),
        ("FROM python\nSHELL /bin/sh", "line 2: SHELL takes a list"),
    ],
)
async def test_what_is_refused(shop, tmp_path, source, sentence):
    shop.write(**{"a.txt": "a"})
    (tmp_path / "secret").write_text("s")
    (shop.context / "leads").symlink_to(tmp_path / "secret")
    assert sentence in await shop.refused(source)


async def test_names(shop):
    for name in ("python:3.11", "UPPER", "a b"):
        with pytest.raises(BuildError):
            await shop.build("FROM debian", name)
    assert canonical_name("localhost:5000/me/app") == "me/app:latest"
    assert canonical_name("?") == ""


@pytest.mark.node
async def test_commands_write_to_the_image_only(shop):
    shop.write(**{"a.txt": "a"})
    source = (
        "FROM python:3.11\nWORKDIR /work9\nCOPY a.txt .\n"
        "COPY a.txt /usr/local/bin/of-the-image\nRUN pip install lonely\n"
        'RUN ["python", "-c", "import lonely; open(\'made\', \'w\').write(lonely.VERSION)"]\n'
        "RUN cat made /usr/local/bin/of-the-image > both && echo done && touch /tmp/x\n"
    )
    record = await shop.build(source)
    assert (shop.store.tree(record) / "work9" / "both").read_text() == "1.0a"
    assert not (shop.store.tree(record) / "tmp").exists()
    assert "  done" in shop.said
    for line in ("touch /usr/x", "touch /new", "touch /usr/local/bin/y", "echo said; exit 3"):
        with pytest.raises(BuildError, match=r"line 2: the command ended with code \d+"):
            await shop.build(f"FROM mine:1\nRUN {line}\n", "no")
    assert "  said" in shop.said
    assert not (shop.store.tree(record) / "work9" / "new").exists()


async def test_places(tmp_path):
    host, tree = tmp_path / "host", tmp_path / "tree"
    for folder in ("usr/local/bin", "etc", "opt", "home/me"):
        (host / folder).mkdir(parents=True)
    for name in (
        "app/x/y",
        "usr/local/bin/tool",
        "usr/share/new/f",
        "etc/conf/c",
        "opt/f",
        "root/.rc",
        "home/me/f",
        "top",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("")
    (tree / "empty").mkdir()
    found, files = trees.places(tree, host)
    assert {(p.target, p.host is not None) for p in found} == {
        ("/app", False),
        ("/empty", False),
        ("/etc/conf", False),
        ("/home/me", False),
        ("/opt", True),
        ("/root", False),
        ("/usr/local/bin", True),
        ("/usr/share", False),
    }
    assert files == [("/top", tree / "top")]
    assert trees.places(tmp_path / "none") == ([], [])


def test_digests(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "x").mkdir(parents=True)
        (tmp_path / name / "x" / "f").write_text("same")
        (tmp_path / name / "link").symlink_to("x")
    one = trees.digest(tmp_path / "a")
    assert one == trees.digest(tmp_path / "b")
    (tmp_path / "b" / "x" / "f").chmod(0o700)
    assert trees.digest(tmp_path / "b") != one
    (tmp_path / "a" / "x" / "f").write_text("other")
    assert trees.digest(tmp_path / "a") != one


def test_path_of():
    assert path_of("/a:/usr/bin", Path("/e")) == ("/a", "/e/bin", "/usr/bin")
    assert path_of("/a", Path("/e")) == ("/a", "/e/bin")
    assert path_of("/a:/usr/bin", None) == ("/a", "/usr/bin")


async def test_the_store(shop):
    record = await shop.build("FROM debian\nENV A=1\n")
    assert shop.store.find("mine:1").id == record.id
    assert shop.store.find(record.id[:12]).id == record.id
    assert shop.store.find("mine:2") is None
    newer = await shop.build("FROM debian\nENV A=2\n")
    assert shop.store.names() == {"mine:1": newer.id}
    assert {r.id for r in shop.store.all()} == {record.id, newer.id}
    shop.store.remove(newer)
    assert shop.store.names() == {}
    assert [r.id for r in shop.store.all()] == [record.id]
    (shop.store.folder / "format.json").write_text('{"version": 9}')
    with pytest.raises(UnreadableStore, match="another version"):
        shop.store.by_id(record.id)


async def test_environments_and_who_has_them(shop):
    await shop.build("FROM python:3.11\nRUN pip install leader\n")
    await shop.build("FROM python:3.11\nRUN pip install other\n", "two")
    found = inventory.environments(shop.settings.cache)
    assert sorted(one.requirements for one in found) == [("leader==1.0", "lonely==1.0"), ("other==2.0",)]
    assert all(one.size > 0 and not one.building for one in found)
    mine = inventory.of_image(found, shop.store.find("mine:1").requirements)
    assert [one.requirements for one in mine] == [("leader==1.0", "lonely==1.0")]
    os.utime(mine[0].path / "headrace.json", (1, 1))
    await shop.resolve("mine:1")
    used = next(one for one in inventory.environments(shop.settings.cache) if one.key == mine[0].key)
    assert used.last_use.year > 2000, "a use is noted"
    assert inventory.remove(shop.settings.cache, used)
    assert not inventory.remove(shop.settings.cache, used)
    assert len(inventory.environments(shop.settings.cache)) == 1
    assert (await shop.resolve("mine:1")).packages == ("leader", "lonely", "pip"), "it is built again"


async def test_what_is_being_built_is_shown(shop):
    import fcntl

    part = shop.settings.cache / "environments" / ".abc.new"
    part.mkdir(parents=True)
    (part / "requirements.txt").write_text("six==1\n")
    assert inventory.environments(shop.settings.cache) == [], "what an ended process has left"
    lock = shop.settings.cache / "flight" / "abc"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (found,) = inventory.environments(shop.settings.cache)
    assert (found.key, found.building, found.requirements) == ("abc", True, ("six==1",))

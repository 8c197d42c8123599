"""`headrace image`: images of one's own. They lie in the home's state; the platform need not run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli.home import home_option, settings
from headrace.cli.usage import in_mb, pods

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.machinery.settings import Settings
    from headrace.node.images.store import ImageStore, Record

DOCKERFILES = ("Dockerfile", "Containerfile", "requirements.txt", "pyproject.toml")
"""What is looked for in the folder, in this order."""
NOT_OF_A_PROJECT = [
    "**/.git",
    "**/.venv",
    "**/venv",
    "**/__pycache__",
    "**/*.egg-info",
    "build",
    "dist",
    ".tox",
    ".mypy_cache",
]
"""What is left out when a project is built from its pyproject.toml."""


@click.group(
    epilog="""\b
Examples:
  headrace image build -t trainer:1 .
  headrace image list
  kubectl run it --image trainer:1 --restart Never
"""
)
def command() -> None:
    """Build images of your own; list, inspect and remove them."""


def store_of(chosen: Settings) -> ImageStore:
    """The images of a home. Raises ClickException for those of another version."""
    from headrace.node.images.store import ImageStore

    return ImageStore(chosen.state / "images")


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """What can go wrong with images, as one line."""
    from headrace.node.images.dockerfile import BuildError
    from headrace.node.images.store import UnreadableStore
    from headrace.node.runtime.base import RuntimeUnavailable

    try:
        yield
    except BuildError as error:
        raise click.ClickException(str(error)) from error
    except (UnreadableStore, RuntimeUnavailable) as error:
        raise click.ClickException(str(error)) from error


@command.command(
    "build",
    epilog="""\b
Examples:
  headrace image build -t trainer:1 .                         ./Dockerfile
  headrace image build -t trainer:1 --build-arg V=2 .
  headrace image build -t tools:1 -f requirements.txt .       packages only
  headrace image build -t mylib:1 -f pyproject.toml .         this project and what it needs
\b
Done: FROM (the catalogue's images and your own, stages), RUN pip install / uv pip install, RUN of other commands
over the image's own folders, COPY, ADD, WORKDIR, ENV, ARG, USER, EXPOSE, LABEL, ENTRYPOINT, CMD, SHELL. Anything
else is refused with its line.
""",
)
@home_option
@click.option("--tag", "-t", required=True, metavar="NAME[:TAG]", help="What the image is called.")
@click.option("--file", "-f", "file", metavar="FILE", help="Dockerfile, requirements.txt or pyproject.toml.")
@click.option("--build-arg", "args", multiple=True, metavar="NAME=VALUE", help="For ARG; may be repeated.")
@click.option("--target", default="", metavar="STAGE", help="Stop after this stage.")
@click.option("--quiet", "-q", is_flag=True, help="Print only the image's id.")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
def build(
    home: Path | None, tag: str, file: str | None, args: tuple[str, ...], target: str, *, quiet: bool, folder: Path
) -> None:
    """Build an image from a folder. Pods, pipeline components and model servers may name it from then on."""
    chosen = settings(home)
    path = _file(folder, file)
    given = {}
    for word in args:
        name, equals, value = word.partition("=")
        given[name] = value if equals else os.environ.get(name, "")
    begin = time.monotonic()
    with sentences():
        record = asyncio.run(_build(chosen, folder, path, tag, given, target, quiet=quiet))
    if quiet:
        click.echo(f"sha256:{record.id}")
        return
    click.echo(f"Built {tag} as {record.id[:12]} in {time.monotonic() - begin:.1f} s. Next:")
    click.echo(
        f"  kubectl run it --image {tag} --restart Never   or image: {tag} in any pod, base_image='{tag}' in kfp"
    )


def _file(folder: Path, file: str | None) -> Path:
    if file is not None:
        found = [path for path in (Path(file), folder / file) if path.is_file()]
        if not found:
            raise click.ClickException(f"{file} is neither here nor in {folder}")
        return found[0]
    for name in DOCKERFILES:
        if (folder / name).is_file():
            return folder / name
    raise click.ClickException(f"{folder} has none of {', '.join(DOCKERFILES)}: name the file with -f")


def _source(path: Path) -> tuple[str, bool]:
    """The Dockerfile, or one that says what another file means; and whether it is such a one."""
    image = f"python:{sys.version_info.major}.{sys.version_info.minor}"
    if path.name == "pyproject.toml":
        return f"FROM {image}\nCOPY . /tmp/project\nRUN pip install /tmp/project\n", True
    if path.suffix == ".txt" or "requirements" in path.name:
        return f"FROM {image}\nCOPY {path.name} /tmp/\nRUN pip install -r /tmp/{path.name}\n", True
    return path.read_text(encoding="utf-8"), False


async def _build(
    chosen: Settings, folder: Path, path: Path, tag: str, given: dict[str, str], target: str, *, quiet: bool
) -> Record:
    from headrace.machinery.clock import SystemClock
    from headrace.node.images import ignore
    from headrace.node.images.build import Builder, Parts
    from headrace.node.images.environments import Environments
    from headrace.node.images.interpreters import Interpreters
    from headrace.node.images.runs import SandboxRunner
    from headrace.node.images.uv import Uv

    clock = SystemClock()
    uv = Uv(chosen.cache)
    environments = Environments(chosen.cache, uv, clock)
    parts = Parts(store_of(chosen), environments, Interpreters(), uv, clock, SandboxRunner())
    source, made_up = _source(path)
    context = path.parent if made_up else folder
    for part in (chosen.home, chosen.state):
        part.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        say = (lambda _line: None) if quiet else click.echo
        builder = Builder(parts, context, say, ignore.matcher(NOT_OF_A_PROJECT) if made_up else ignore.read(context))
        return await builder.build(source, tag, given, target, drop="tmp" if made_up else "")
    finally:
        await environments.close()


@command.command(
    "list",
    epilog="""\b
Examples:
  headrace image list
  headrace image list --json | jq '.[].name'
""",
)
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_(home: Path | None, *, as_json: bool) -> None:
    """List your own images."""
    with sentences():
        store = store_of(settings(home))
        rows = [(name, found) for name, key in store.names().items() if (found := store.by_id(key)) is not None]
    if as_json:
        click.echo(json.dumps([{"name": name, **_facts(record)} for name, record in rows], indent=2))
        return
    if not rows:
        click.echo("No images of your own yet. `headrace image build -t NAME DIR` makes one.")
        return
    click.echo(f"{'NAME':<32} {'ID':<14} {'CREATED':<20} {'FILES':>10}  FROM")
    for name, record in rows:
        size = in_mb(record.size)
        click.echo(f"{name:<32} {record.id[:12]:<14} {record.created[:19]:<20} {size:>10}  {record.base}")


@command.command(
    "inspect",
    epilog="""\b
Examples:
  headrace image inspect trainer:1
  headrace image inspect trainer:1 | jq .requirements
""",
)
@home_option
@click.argument("name")
def inspect(home: Path | None, name: str) -> None:
    """Show an image as JSON: what it is made of and how a container of it starts."""
    with sentences():
        store = store_of(settings(home))
        record = _found(store, name)
    names = sorted(known for known, key in store.names().items() if key == record.id)
    click.echo(json.dumps({"names": names, **_facts(record), "files": str(store.tree(record))}, indent=2))


@command.command(
    "rm",
    epilog="""\b
Examples:
  headrace image rm trainer:1
  headrace image rm trainer:1 trainer:2 --force
""",
)
@home_option
@click.argument("names", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Also when pods use it; those that start again will not find it.")
def rm(home: Path | None, names: tuple[str, ...], *, force: bool) -> None:
    """Remove images. One that a pod uses, and that has no other name, is refused."""
    from headrace.node.images import stock
    from headrace.node.images.store import canonical_name

    chosen = settings(home)
    with sentences():
        store = store_of(chosen)
        using = {canonical_name(image): who for image, who in stock.named(pods(chosen)).items()}
        for name in names:
            record = _found(store, name)
            mine = [known for known, key in store.names().items() if key == record.id]
            known = canonical_name(name)
            meant = [known] if known in mine else mine
            users = sorted({who for one in meant for who in using.get(one, [])})
            if users and not force:
                raise click.ClickException(
                    f"{name} is used by {', '.join(users[:5])}: delete that first, or use --force"
                )
            for one in meant:
                store.forget_name(one)
            click.echo(f"Untagged {', '.join(meant) or name}")
            if set(mine) <= set(meant):
                store.remove(record)
                click.echo(f"Deleted {record.id[:12]}")


@command.command(
    "prune",
    epilog="""\b
Examples:
  headrace image prune              images without a name, and environments that nobody needs
  headrace image prune --all        also images that no pod uses
""",
)
@home_option
@click.option("--all", "everything", is_flag=True, help="Also images that have a name but no pod that uses them.")
def prune(home: Path | None, *, everything: bool) -> None:
    """Remove what nobody needs: images that were built again under the same name, and unused environments."""
    from headrace.cli.env import prune_environments
    from headrace.node.images import stock

    chosen = settings(home)
    with sentences():
        store = store_of(chosen)
        live = pods(chosen)
        freed = 0
        for mine, record in stock.prune_images(store, live, named_too=everything):
            freed += record.size
            click.echo(f"Deleted {', '.join(mine) or record.id[:12]}")
        freed += stock.prune_wheels(store)
        freed += prune_environments(chosen, live)
    click.echo(f"{in_mb(freed)} freed.")


def _found(store: ImageStore, name: str) -> Record:
    record = store.find(name)
    if record is None:
        raise click.ClickException(f"there is no image {name} of your own: `headrace image list` shows those there are")
    return record


def _facts(record: Record) -> dict[str, Any]:
    from headrace.api import _wire

    return dict(_wire.to_builtins(record))

"""Building an image: the instructions of a Dockerfile one after the other.

Files are copied into a folder, packages become an environment, other commands run in a sandbox in which only the
image's own folders can be written to. Whatever else a command would change (packages of the system, users) is the
machine's matter: such a command fails, and the build says at which line.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.api import _wire
from headrace.images.tarball import extract
from headrace.node.images import catalogue, dockerfile, pipcommand, trees
from headrace.node.images import requirements as reqs
from headrace.node.images.dockerfile import BuildError, Instruction
from headrace.node.images.service import SYSTEM_PATH, path_of
from headrace.node.images.store import ImageStore, Record, canonical_name
from headrace.node.images.uv import UvFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headrace.machinery.clock import Clock
    from headrace.node.images.environments import Built, Environments
    from headrace.node.images.interpreters import Interpreter, Interpreters
    from headrace.node.images.runs import Runner
    from headrace.node.images.uv import Uv

_ARGS = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
"""Build arguments that need not be declared."""
_SYSTEM_PACKAGES = re.compile(r"(?:^|[;&|]\s*|sudo\s+)(apt-get|apt|apk|yum|dnf|microdnf|zypper|pacman)\s")
_ACCOUNTS = re.compile(r"(?:^|[;&|]\s*)(useradd|adduser|groupadd|addgroup|usermod)\s")
_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@dataclass
class Stage:
    """What a FROM begins."""

    record: Record
    tree: Path
    python: tuple[int, int] | None
    kind: str
    packages: list[str] = field(default_factory=list)
    without_deps: list[str] = field(default_factory=list)
    args: dict[str, str] = field(default_factory=dict)
    built: Built | None = None
    own_entrypoint: bool = False


@dataclass(frozen=True)
class Parts:
    """What a builder works with."""

    store: ImageStore
    environments: Environments
    interpreters: Interpreters
    uv: Uv
    clock: Clock
    runner: Runner


class Builder:
    """Builds one image from one folder."""

    def __init__(self, parts: Parts, context: Path, say: Callable[[str], None], ignored: Callable[[str], bool]) -> None:
        self._parts, self._context, self._say, self._ignored = parts, context.resolve(), say, ignored
        self._stages: list[tuple[str, Stage]] = []
        self._given: Mapping[str, str] = {}
        self._global: dict[str, str] = {}
        self._work = Path()

    async def build(
        self, source: str, name: str, args: Mapping[str, str], target: str = "", *, drop: str = ""
    ) -> Record:
        """Build and keep it under this name. `target`: stop after this stage; `drop`: a folder of the image that only
        the build needs. Raises BuildError.
        """
        wanted = canonical_name(name)
        if not wanted:
            raise BuildError(
                f"{name!r} is no image name: write lower-case letters, digits, '.', '-', '_', '/' and :TAG"
            )
        if catalogue.match(name) is not None:
            raise BuildError(f"{name} is a name of the catalogue: choose one of your own")
        self._given = args
        self._parts.store.prepare()
        with tempfile.TemporaryDirectory(prefix=".build-", dir=self._parts.store.folder) as folder:
            self._work = Path(folder)
            instructions = dockerfile.parse(source)
            for number, instruction in enumerate(instructions, 1):
                self._say(f"[{number}/{len(instructions)}] {instruction.shown}")
                if instruction.name == "FROM" and target and self._stages and self._stages[-1][0] == target:
                    break
                await self._one(instruction)
            if target and self._stages[-1][0] != target:
                raise BuildError(f"there is no stage {target!r}")
            stage = self._stages[-1][1]
            await self._environment(stage, instructions[-1].line)
            if drop:
                shutil.rmtree(stage.tree / drop, ignore_errors=True)
            return self._keep(stage, wanted)

    def _keep(self, stage: Stage, name: str) -> Record:
        record = stage.record
        record.size = trees.size(stage.tree)
        record.version, record.id, record.created = record.version, "", ""
        identity = _wire.encode_sorted(record) + trees.digest(stage.tree).encode()
        record.id = hashlib.sha256(identity).hexdigest()
        record.created = self._parts.clock.now().isoformat()
        self._parts.store.keep(record, stage.tree, name)
        return record

    # The instructions.

    async def _one(self, instruction: Instruction) -> None:
        if instruction.name == "FROM":
            await self._from(instruction)
            return
        if not self._stages:
            if instruction.name != "ARG":
                raise BuildError(f"{instruction.name} before FROM", instruction.line)
            self._arg(instruction, self._global, self._given)
            return
        stage = self._stages[-1][1]
        if instruction.name == "RUN":
            await self._run(instruction, stage)
        elif instruction.name in {"COPY", "ADD"}:
            self._copy(instruction, stage)
        else:
            self._simple(instruction, stage)
        stage.record.history.append(instruction.shown)

    async def _from(self, instruction: Instruction) -> None:
        flags, rest = dockerfile.flags(instruction, frozenset({"platform"}))
        del flags  # whatever is asked for, it is this machine's
        listed = dockerfile.expand(rest.text, self._global).split()
        name = ""
        if len(listed) == 3 and listed[1].lower() == "as":
            name = listed[2]
        elif len(listed) != 1:
            raise BuildError("write FROM IMAGE, or FROM IMAGE AS NAME", instruction.line)
        image = listed[0]
        tree = self._work / f"stage-{len(self._stages)}"
        earlier = next((stage for known, stage in self._stages if known == image), None)
        own = self._parts.store.find(image)
        if earlier is not None:
            await self._environment(earlier, instruction.line)
            stage = _beginning(earlier.record, tree, earlier)
            shutil.copytree(earlier.tree, tree, symlinks=True)
        elif own is not None:
            stage = _beginning(own, tree, None)
            shutil.copytree(self._parts.store.tree(own), tree, symlinks=True)
        else:
            stage = _from_catalogue(image, tree, instruction.line)
            tree.mkdir()
        stage.record.history.append(instruction.shown)
        self._stages.append((name or str(len(self._stages)), stage))

    def _arg(self, instruction: Instruction, into: dict[str, str], *sources: Mapping[str, str]) -> None:
        for word in dockerfile.words(instruction):
            name, equals, value = word.partition("=")
            held = next((source[name] for source in sources if name in source), None)
            if held is not None:
                into[name] = held
            elif equals:
                into[name] = dockerfile.expand(value, into)

    def _simple(self, instruction: Instruction, stage: Stage) -> None:
        record, name = stage.record, instruction.name
        if name == "ARG":
            self._arg(instruction, stage.args, self._given, self._global)
            return
        shell = dockerfile.exec_form(instruction.text)
        if name == "ENTRYPOINT":
            record.entrypoint = shell if shell is not None else [*record.shell, instruction.text]
            if not stage.own_entrypoint:
                record.command = []  # the base's command was meant for the base's entrypoint
            stage.own_entrypoint = True
        elif name == "CMD":
            record.command = shell if shell is not None else [*record.shell, instruction.text]
            stage.own_entrypoint = True
        elif name == "SHELL":
            if not shell:
                raise BuildError('SHELL takes a list: SHELL ["/bin/bash", "-c"]', instruction.line)
            record.shell = shell
        elif name == "LABEL":
            record.labels |= {k: self._expand(v, stage) for k, v in dockerfile.pairs(instruction).items()}
        elif name == "MAINTAINER":
            record.labels["maintainer"] = instruction.text
        elif name == "ENV":
            before = self._variables(stage)
            record.env |= {k: dockerfile.expand(v, before) for k, v in dockerfile.pairs(instruction).items()}
        elif name == "EXPOSE":
            record.exposed += [w for w in self._expand(instruction.text, stage).split() if w not in record.exposed]
        elif name == "USER":
            record.user = _user(self._expand(instruction.text, stage), instruction.line)
        elif name == "WORKDIR":
            text = self._expand(instruction.text, stage)
            record.workdir = os.path.normpath(text if text.startswith("/") else f"{record.workdir or '/'}/{text}")
            (stage.tree / record.workdir.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _variables(self, stage: Stage) -> dict[str, str]:
        return {"PATH": ":".join(SYSTEM_PATH), **stage.args, **stage.record.env}

    def _expand(self, text: str, stage: Stage) -> str:
        return dockerfile.expand(text, self._variables(stage))

    # Files.

    def _copy(self, instruction: Instruction, stage: Stage) -> None:
        flags, rest = dockerfile.flags(instruction, frozenset({"from", "chown", "chmod", "link"}))
        listed = [self._expand(word, stage) for word in dockerfile.words(rest)]
        if len(listed) < 2:
            raise BuildError(f"{instruction.name} needs what to copy and where to", instruction.line)
        *sources, to = listed
        root, ignored = self._context, self._ignored
        if "from" in flags:
            root, ignored = self._other(flags["from"], instruction.line), _nothing
        target = Path(os.path.normpath(f"/{stage.record.workdir}/{to}" if not to.startswith("/") else to))
        if target.parts[1:2] in (("dev",), ("proc",), ("sys",)):
            raise BuildError(f"{target} is the kernel's, not the image's", instruction.line)
        place = stage.tree / str(target).lstrip("/")
        if target.parts[1:2] == ("tmp",):
            (stage.tree / "tmp").mkdir(exist_ok=True)
            (stage.tree / "tmp").chmod(0o1777)  # as it is everywhere
        found = [path for source in sources for path in self._sources(source, root, instruction)]
        into_folder = to.endswith(("/", "/.")) or to == "." or place.is_dir() or len(found) > 1
        for path in found:
            if path.is_dir():
                _copy_folder(path, place, root, ignored)
            elif instruction.name == "ADD" and path.name.endswith(_TAR):
                _unpack(path, place, instruction.line)
            else:
                trees.copy_into(path, place / path.name if into_folder else place)
        _own(place, flags, instruction.line)

    def _sources(self, source: str, root: Path, instruction: Instruction) -> list[Path]:
        if "://" in source or source.startswith("git@"):
            raise BuildError(
                f"{instruction.name} of {source}: fetch it beforehand, and copy the file", instruction.line
            )
        path = os.path.normpath("/" + source).lstrip("/")
        if any(mark in path for mark in "*?["):
            folder, _, pattern = path.rpartition("/")
            every = sorted((root / folder).iterdir()) if (root / folder).is_dir() else []
            found = [one for one in every if fnmatch.fnmatchcase(one.name, pattern)]
        else:
            found = [root / path] if (root / path).exists() else []
        for one in found:
            if not one.resolve().is_relative_to(root):
                raise BuildError(f"{source} leads out of the folder that is built", instruction.line)
        ignored = self._ignored if root == self._context else _nothing
        found = [one for one in found if one == root or not ignored(str(one.relative_to(root)))]
        if not found:
            raise BuildError(
                f"{instruction.name}: {source} is not in {root if root == self._context else 'that stage'}",
                instruction.line,
            )
        return found

    def _other(self, name: str, line: int) -> Path:
        stage = next((s for known, s in self._stages[:-1] if known == name), None)
        if stage is None and name.isdigit() and int(name) < len(self._stages) - 1:
            stage = self._stages[int(name)][1]
        if stage is not None:
            return stage.tree
        own = self._parts.store.find(name)
        if own is None:
            raise BuildError(f"--from={name}: there is neither such a stage nor such an image of your own", line)
        return self._parts.store.tree(own)

    # Commands.

    async def _run(self, instruction: Instruction, stage: Stage) -> None:
        _, rest = dockerfile.flags(instruction, frozenset({"mount", "network", "security"}))
        listed = dockerfile.exec_form(rest.text)
        text = " ".join(listed) if listed is not None else rest.text
        try:
            install = pipcommand.recognise(self._expand(text, stage))
            if install is not None:
                await self._install(install, stage, instruction.line)
                return
        except (pipcommand.NotUnderstood, reqs.BadRequirements) as error:
            raise BuildError(str(error), instruction.line) from error
        for pattern, advice in (
            (_SYSTEM_PACKAGES, "programs of the system are this machine's: install them there, and remove the line"),
            (_ACCOUNTS, "there are no accounts in an image: write USER with a number, and remove the line"),
        ):
            found = pattern.search(text)
            if found is not None:
                raise BuildError(f"{found[1]} cannot be run: {advice}", instruction.line)
        built = await self._environment(stage, instruction.line)
        env = {**self._variables(stage), "HOME": "/root"}
        env["PATH"] = ":".join(path_of(env["PATH"], built.path if built is not None else None))
        argv = tuple(listed) if listed is not None else (*stage.record.shell, rest.text)
        code = await self._parts.runner.run(
            argv, env, stage.tree, cwd=stage.record.workdir or "/", environment=built, say=self._say
        )
        if code:
            raise BuildError(
                f"the command ended with code {code}; it can write to the image's own folders only (WORKDIR, COPY)",
                instruction.line,
            )

    async def _install(self, install: pipcommand.Install, stage: Stage, line: int) -> None:
        if stage.kind != "python":
            raise BuildError(f"{stage.record.base} has no Python: begin with FROM python:3.11", line)
        entries, options = list(install.packages), list(install.options)
        files = list(install.files)
        folder = stage.tree / stage.record.workdir.lstrip("/")
        while files:
            name = files.pop(0)
            path = stage.tree / name.lstrip("/") if name.startswith("/") else folder / name
            if not path.is_file():
                raise BuildError(f"{name} is not in the image: COPY it before", line)
            more, chosen, included = pipcommand.read_file(path.read_text(encoding="utf-8"))
            entries += more
            options += chosen
            files += [str(Path(name).parent / other) for other in included]
        resolved = [await self._resolved(entry, stage, folder, line) for entry in entries]
        alone = [await self._resolved(entry, stage, folder, line) for entry in install.without_deps]
        checked = reqs.parse(_wire.encode([*options, *resolved, *(f"{a} {reqs.NO_DEPS}" for a in alone)]).decode())
        stage.packages += [p for p in checked.packages if p not in stage.packages]
        stage.without_deps += [p for p in checked.without_deps if p not in stage.without_deps]
        stage.record.options += [o for o in checked.options if o not in stage.record.options]
        stage.built = None
        await self._environment(stage, line)

    async def _resolved(self, entry: str, stage: Stage, folder: Path, line: int) -> str:
        """A requirement; a project's folder as the wheel that is built from it."""
        if not pipcommand.is_path(entry):
            return entry
        bare, bracket, extras = entry.partition("[")
        path = stage.tree / bare.lstrip("/") if bare.startswith("/") else _normal(folder / bare)
        if not path.is_relative_to(stage.tree) or not path.exists():
            raise BuildError(f"{bare} is not in the image: COPY it before", line)
        wheel = path if path.is_file() else await self._wheel(path, stage, line)
        if path.is_file():
            kept = self._parts.store.folder / "wheels" / trees.digest(path)[:24]
            kept.mkdir(parents=True, exist_ok=True)
            wheel = kept / path.name
            shutil.copyfile(path, wheel)
        name = wheel.name.partition("-")[0].replace("_", "-")
        return f"{name}{bracket}{extras} @ {wheel.as_uri()}"

    async def _wheel(self, project: Path, stage: Stage, line: int) -> Path:
        interpreter = await self._interpreter(stage)
        key = hashlib.sha256(f"{trees.digest(project)} {interpreter.minor}".encode()).hexdigest()[:24]
        target = self._parts.store.folder / "wheels" / key
        found = sorted(target.glob("*.whl"))
        if not found:
            part = self._work / f"wheel-{key}"
            try:
                await self._parts.uv.wheel(project, part, interpreter.path)
            except UvFailed as error:
                raise BuildError(f"the project {project.name} cannot be built: {error}", line) from error
            target.parent.mkdir(exist_ok=True)
            with contextlib.suppress(OSError):  # another build was faster
                part.rename(target)
            found = sorted(target.glob("*.whl"))
        return found[-1]

    async def _interpreter(self, stage: Stage) -> Interpreter:
        return await self._parts.interpreters.choose(stage.python)

    async def _environment(self, stage: Stage, line: int) -> Built | None:
        """The stage's environment as it is now; its exact versions become the record's."""
        if stage.kind != "python":
            return None
        if stage.built is None:
            wanted = reqs.Requirements(
                tuple(sorted(set(stage.packages))), tuple(sorted(set(stage.without_deps))), tuple(stage.record.options)
            )
            try:
                stage.built = await self._parts.environments.ensure(await self._interpreter(stage), wanted)
            except UvFailed as error:
                raise BuildError(str(error), line) from error
            text = (stage.built.path / "requirements.txt").read_text(encoding="utf-8")
            stage.record.requirements = [entry for entry in text.splitlines() if entry.strip()]
        return stage.built


def _nothing(_path: str) -> bool:
    return False


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _from_catalogue(image: str, tree: Path, line: int) -> Stage:
    if image == "scratch":
        raise BuildError("FROM scratch has no programs: begin with FROM debian, or FROM python:3.11", line)
    match = catalogue.match(image)
    if match is None:
        raise BuildError(
            f"{image} is neither in the catalogue (python:3.x, debian, ubuntu, busybox …) nor an image of your own",
            line,
        )
    entry = match.entry
    record = Record(base=image, env=dict(entry.env), entrypoint=list(entry.entrypoint), command=list(entry.command))
    return Stage(record, tree, match.python, entry.kind, packages=list(entry.packages))


def _beginning(record: Record, tree: Path, earlier: Stage | None) -> Stage:
    """A stage that goes on from an image, or from an earlier stage."""
    copy = _wire.convert(Record, _wire.to_builtins(record))
    match = catalogue.match(record.base)
    if match is None:
        raise BuildError(f"{record.base}, which this image begins with, is no longer in the catalogue: build it again")
    if earlier is not None:
        return replace(earlier, record=copy, tree=tree, args={}, own_entrypoint=False, packages=list(earlier.packages))
    return Stage(copy, tree, match.python, match.entry.kind, without_deps=list(record.requirements))


def _user(text: str, line: int) -> str:
    """Numbers, or a name of this machine as a number."""
    import grp  # noqa: PLC0415 - only here
    import pwd  # noqa: PLC0415 - only here

    user, _, group = text.partition(":")
    try:
        uid = user if user.isdigit() else str(pwd.getpwnam(user).pw_uid)
        gid = group if group.isdigit() or not group else str(grp.getgrnam(group).gr_gid)
    except KeyError:
        raise BuildError(
            f"USER {text}: this machine has no such account; write its number, such as USER 1000", line
        ) from None
    return f"{uid}:{gid}" if gid else uid


def _copy_folder(source: Path, place: Path, root: Path, ignored: Callable[[str], bool]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for folder, names, files in os.walk(source):
        here = Path(folder)
        links = [n for n in names if (here / n).is_symlink()]
        names[:] = [n for n in names if n not in links]
        for name in [*files, *links]:
            if not ignored(str((here / name).relative_to(root))):
                trees.copy_into(here / name, place / here.relative_to(source) / name)
        for name in names:
            if not ignored(str((here / name).relative_to(root))):
                (place / here.relative_to(source) / name).mkdir(parents=True, exist_ok=True)


def _unpack(archive: Path, place: Path, line: int) -> None:
    place.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as opened:
            extract(opened, place)
    except (tarfile.TarError, OSError) as error:
        raise BuildError(f"ADD {archive.name}: {error}", line) from error


def _own(place: Path, flags: Mapping[str, str], line: int) -> None:
    """Owner and permissions of what was copied."""
    every = [place, *place.rglob("*")] if place.is_dir() else [place]
    if "chmod" in flags:
        try:
            mode = int(flags["chmod"], 8)
        except ValueError:
            raise BuildError(f"--chmod={flags['chmod']} is no octal number", line) from None
        for path in every:
            if not path.is_symlink():
                path.chmod(mode)
    if flags.get("chown") and os.geteuid() == 0:  # for everybody else, all files of an image are the container's user's
        uid, _, gid = _user(flags["chown"], line).partition(":")
        for path in every:
            os.chown(path, int(uid), int(gid or uid), follow_symlinks=False)

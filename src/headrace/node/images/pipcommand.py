"""Which commands of a Dockerfile install Python packages, and which ones. Pure.

`pip install …`, `python -m pip install …` and `uv pip install …`, several of them joined by `&&`, are understood; their
packages become part of the image's environment. Every other command is run as it stands.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

_PREFIX = re.compile(r"^(?:(?:/\S*/)?python3?(?:\.\d+)?\s+-m\s+)?(?:uv\s+)?(?:/\S*/)?pip3?(?:\.\d+)?$")
_WITHOUT_EFFECT = frozenset(
    {
        "--no-cache-dir",
        "--no-cache",
        "--quiet",
        "-q",
        "-qq",
        "--upgrade",
        "-U",
        "--system",
        "--user",
        "--no-input",
        "--disable-pip-version-check",
        "--root-user-action=ignore",
        "--break-system-packages",
        "--compile",
        "--no-compile",
        "--prefer-binary",
        "--progress-bar=off",
        "--no-warn-script-location",
        "--force-reinstall",
        "--ignore-installed",
        "--verbose",
        "-v",
    }
)
"""What changes nothing here: environments are built anew, from a cache of uv's own."""
_WITH_VALUE = {
    "-r": "requirement",
    "--requirement": "requirement",
    "-c": "constraint",
    "--constraint": "constraint",
    "-e": "editable",
    "--editable": "editable",
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
    "--trusted-host": "--trusted-host",
    "--timeout": "",
    "--retries": "",
    "--default-timeout": "",
    "--progress-bar": "",
    "--root-user-action": "",
    "--python": "",
}
_OPERATORS = ";|><&()"
"""What a shell takes for more than a part of a word, unless it is quoted."""
_CACHES = re.compile(r"^(?:rm\s+-rf\s+(?:~|/root)/\.cache(?:/\S*)?|(?:uv\s+|pip3?\s+)cache\s+(?:purge|clean)|true)$")


class NotUnderstood(Exception):
    """It installs packages, in a way that cannot be followed; the message says what."""


@dataclass
class Install:
    """What the commands of one RUN install."""

    packages: list[str] = field(default_factory=list)
    """Requirements, and paths of projects and wheels (they hold a slash or begin with a dot)."""
    without_deps: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    """Entries in the form of the annotation headrace.dev/requirements."""


def recognise(command: str) -> Install | None:
    """What a shell command installs, when installing is all that it does; else None. Raises NotUnderstood."""
    parts = [part.strip() for part in command.split("&&")]
    if not any(_is_install(part) for part in parts):
        return None
    install = Install()
    for part in parts:
        if _is_install(part):
            _take(part, install)
        elif not _CACHES.match(part):
            return None
    return install


def _is_install(part: str) -> bool:
    head, found, _ = part.partition(" install ")
    return bool(found) and _PREFIX.match(" ".join(_without_variables(head))) is not None


def _without_variables(text: str) -> list[str]:
    """`PIP_X=1 pip` is `pip`."""
    listed = text.split()
    while listed and re.fullmatch(r"[A-Za-z_]\w*=\S*", listed[0]):
        listed.pop(0)
    return listed


def _take(part: str, install: Install) -> None:
    lexer = shlex.shlex(part.partition(" install ")[2], posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        listed = list(lexer)
    except ValueError as error:
        raise NotUnderstood(str(error)) from error
    packages: list[str] = []
    no_deps = False
    while listed:
        word = listed.pop(0)
        if word == "--no-deps":
            no_deps = True
        elif word == "--pre":
            install.options.append(word)
        elif word in _WITHOUT_EFFECT:
            continue
        elif word.startswith("-"):
            name, equals, value = word.partition("=")
            if name not in _WITH_VALUE:
                raise NotUnderstood(f"the option {name} of pip is not supported here")
            if not equals:
                if not listed:
                    raise NotUnderstood(f"the option {name} of pip needs a value")
                value = listed.pop(0)
            _option(_WITH_VALUE[name], value, install, packages)
        elif "$(" in word or "`" in word or set(word) <= set(_OPERATORS):
            raise NotUnderstood(f"{word!r} is for a shell: install packages in a RUN of their own")
        else:
            packages.append(word)
    (install.without_deps if no_deps else install.packages).extend(packages)


def _option(meaning: str, value: str, install: Install, packages: list[str]) -> None:
    if meaning == "requirement":
        install.files.append(value)
    elif meaning == "editable":
        packages.append(value)
    elif meaning == "constraint":
        raise NotUnderstood("constraints (-c) are not supported: write the versions into the requirements")
    elif meaning:
        install.options.append(f"{meaning} {value}")


def is_path(requirement: str) -> bool:
    """Whether this is a project's folder or a wheel, not a name."""
    bare = requirement.partition("[")[0]
    return "://" not in bare and " @ " not in requirement and (bare.startswith((".", "/")) or "/" in bare)


def read_file(text: str) -> tuple[list[str], list[str], list[str]]:
    """Of a requirements file: its entries, its options, and the files that it includes. Raises NotUnderstood."""
    entries, options, files = [], [], []
    for raw in re.sub(r"\\\n", " ", text).splitlines():
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        line = re.sub(r"\s--hash=\S+", "", line).strip()
        if not line:
            continue
        if not line.startswith("-"):
            entries.append(line)
            continue
        name, _, value = line.replace("=", " ", 1).partition(" ")
        meaning = _WITH_VALUE.get(name)
        if name == "--pre":
            options.append(name)
        elif meaning == "requirement":
            files.append(value.strip())
        elif meaning == "editable":
            entries.append(value.strip())
        elif meaning and meaning.startswith("--"):
            options.append(f"{meaning} {value.strip()}")
        elif name not in {"--prefer-binary", "--no-binary", "--only-binary"} or name == "--no-binary":
            raise NotUnderstood(f"the line {line!r} of a requirements file is not supported here")
    return entries, options, files

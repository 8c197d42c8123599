"""Recognise the command line that kfp gives a lightweight Python component.

Such a command installs packages, writes the component's source to a temporary file and runs kfp's executor on it. When
it is recognised, the packages become a cached environment and the executor is run directly, with equal results; when
any part is unknown, `recognise` says None and the command runs as it stands. The patterns are anchored at both ends
and the options of pip are a whitelist: a command that does anything more is not recognised.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHELLS = frozenset({"sh", "/bin/sh", "bash", "/bin/bash"})
_ENSURE_PIP = re.compile(
    r'\s*if ! \[ -x "\$\(command -v pip\)" \]; then\s+'
    r"python3 -m ensurepip \|\| python3 -m ensurepip --user \|\| apt-get install python3-pip\s+fi\s+"
)
_VENV = re.compile(
    r"\s*(?:export )?PIP_DISABLE_PIP_VERSION_CHECK=1\s+tmp=\$\(mktemp -d\)\s+"
    r'python3 -m venv "\$tmp/venv" --system-site-packages\s+\. "\$tmp/venv/bin/activate"\s+'
)
# Possessive (`++`): the command is an author's, and a pattern that tried again would need exponential time on some.
_WORD = r"""(?:"[^"$`\\]*"|'[^']*'|[^\s;&|<>$`"'()\\*?\#~]++)"""
_INSTALL = re.compile(
    r"\s*(?:PIP_DISABLE_PIP_VERSION_CHECK=1\s+)?python3 -m pip install"
    rf"(?P<arguments>(?:[ \t]++(?:{_WORD})++)++)\s*&&\s*"
)
_CONTINUE = re.compile(r'"\$0" "\$@"\s*')
_RUN = re.compile(
    r'\s*program_path=\$\(mktemp -d\)\s+printf "%s" "\$0" > "\$program_path/ephemeral_component\.py"\s+'
    r"(?:_KFP_RUNTIME=true\s+)?python3 -m (?P<module>kfp\.(?:dsl|components)\.executor_main)\s+"
    r'--component_module_path\s+"\$program_path/ephemeral_component\.py"\s+"\$@"\s*'
)
_VALUE_OPTIONS = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "--trusted-host": "--trusted-host",
    "-f": "--find-links",
    "--find-links": "--find-links",
    "--timeout": "",
    "--retries": "",
}
"""Options of pip that take a value, and the name under which they matter for the environment (if they do)."""
_MEANINGLESS = frozenset(
    {
        "--quiet",
        "-q",
        "--no-warn-script-location",
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--upgrade",
        "-U",
    }
)
_NO_DEPS = "--no-deps"
_PRE = "--pre"
_MARKER = re.compile(r"""\s*python_version\s*<\s*["']3\.9["']\s*""")


@dataclass(frozen=True, slots=True)
class Lightweight:
    """A recognised component. `requirements` are pip's, an entry may end with ` --no-deps` or be an option line."""

    module: str
    source: str
    arguments: list[str]
    requirements: list[str] = field(default_factory=list)
    isolated: bool = False
    """The author asked for a virtual environment of its own (over the image's packages): cached ones always are."""


def recognise(command: Sequence[str], arguments: Sequence[str]) -> Lightweight | None:
    """What this command line runs, or None when it must run literally."""
    rest = list(command)
    requirements: list[str] = []
    isolated = False
    if len(rest) > 3 and rest[0] in _SHELLS and rest[1] == "-c":
        found = _installer(rest[2])
        if found is None:
            return None
        requirements, isolated = list(found[0]), found[1]
        rest = rest[3:]
    if len(rest) != 4 or rest[0] not in _SHELLS or rest[1] != "-ec":
        return None
    run = _RUN.fullmatch(rest[2])
    if run is None:
        return None
    return Lightweight(run["module"], rest[3], list(arguments), requirements, isolated)


@lru_cache(maxsize=64)
def _installer(script: str) -> tuple[tuple[str, ...], bool] | None:
    """Read once, not for each iteration of a loop."""
    head = _ENSURE_PIP.match(script)
    position = head.end() if head else 0
    requirements: list[str] = []
    isolated = False
    installs = 0
    while True:
        venv = _VENV.match(script, position)
        if venv:
            isolated, position = True, venv.end()
            continue
        install = _INSTALL.match(script, position)
        if not install:
            break
        parsed = _pip(install["arguments"])
        if parsed is None:
            return None
        requirements += [entry for entry in parsed if entry not in requirements]
        installs += 1
        position = install.end()
    tail = _CONTINUE.match(script, position)
    if not installs or not tail or tail.end() != len(script):
        return None
    return tuple(requirements), isolated


def _pip(arguments: str) -> list[str] | None:
    """Requirement lines of one `pip install`, or None when it has an option that is not known."""
    words = iter(shlex.split(arguments))
    options: list[str] = []
    packages: list[str] = []
    without_dependencies = False
    for word in words:
        name, equals, value = word.partition("=")
        if word in _VALUE_OPTIONS or (word.startswith("--") and equals and name in _VALUE_OPTIONS):
            given = value if word not in _VALUE_OPTIONS else next(words, None)
            if given is None:
                return None
            kept = _VALUE_OPTIONS[word if word in _VALUE_OPTIONS else name]
            options += [f"{kept} {given}"] if kept else []
        elif word == _NO_DEPS:
            without_dependencies = True
        elif word == _PRE:
            options.append(word)
        elif word.startswith("-"):
            if word not in _MEANINGLESS:
                return None
        else:
            packages.append(word)
    if any(package.startswith((".", "/")) for package in packages):
        return None  # a path inside the image
    suffix = f" {_NO_DEPS}" if without_dependencies else ""
    return [*options, *(f"{package}{suffix}" for package in packages if not _for_old_python(package))]


def _for_old_python(package: str) -> bool:
    """Whether the requirement is only for a Python older than any that runs here."""
    return bool(_MARKER.fullmatch(package.partition(";")[2])) if ";" in package else False

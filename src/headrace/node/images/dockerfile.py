"""Reading Dockerfiles: lines, instructions, variables. Pure.

What cannot be done here is refused with the number of its line, never passed over. Source: docs.docker.com, "Dockerfile
reference".
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.api import _wire

if TYPE_CHECKING:
    from collections.abc import Mapping

KNOWN = frozenset(
    {
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "LABEL",
        "MAINTAINER",
        "RUN",
        "SHELL",
        "USER",
        "WORKDIR",
    }
)
REFUSED = {
    "HEALTHCHECK": "write a livenessProbe in the pod",
    "ONBUILD": "write its instruction in the Dockerfiles that begin with this image",
    "STOPSIGNAL": "pods are ended with SIGTERM",
    "VOLUME": "mount a volume in the pod",
}
_VARIABLE = re.compile(r"\\(\$)|\$(?:(\w+)|\{(\w+)(?:(:?[-+])((?:[^{}\\]|\\.)*))?\})")
_DIRECTIVE = re.compile(r"#\s*(\w+)\s*=\s*(\S+)\s*")
_HEREDOC = re.compile(r"<<-?[\"']?[A-Za-z_]")


class BuildError(Exception):
    """The image cannot be built; `line` is that of the Dockerfile, 0 for none."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its continued lines joined."""

    line: int
    name: str
    text: str
    """What follows the name; flags included."""

    @property
    def shown(self) -> str:
        """As in a history."""
        return f"{self.name} {self.text}"


def parse(source: str) -> list[Instruction]:
    """The instructions in their order. Raises BuildError."""
    lines = source.splitlines()
    escape, number = _directives(lines)
    found: list[Instruction] = []
    while number < len(lines):
        begin, text = 0, ""
        while number < len(lines):
            line = lines[number]
            number += 1
            if line.strip().startswith("#") or not line.strip():
                continue
            begin = begin or number
            stripped = line.rstrip()
            if stripped.endswith(escape):
                text += stripped[:-1]
                continue
            text += stripped
            break
        if not text.strip():
            continue
        name, _, rest = text.strip().partition(" ")
        found.append(_checked(Instruction(begin, name.upper(), rest.strip())))
    if not any(i.name == "FROM" for i in found):
        raise BuildError("the Dockerfile has no FROM: begin with FROM python:3.11, or with an image of your own")
    return found


def _directives(lines: list[str]) -> tuple[str, int]:
    """The escape character, and the first line that is no directive."""
    escape = "\\"
    for number, line in enumerate(lines):
        directive = _DIRECTIVE.fullmatch(line.strip())
        if directive is None:
            return escape, number
        if directive[1].lower() == "escape":
            escape = directive[2]
    return escape, len(lines)


def _checked(instruction: Instruction) -> Instruction:
    if instruction.name in REFUSED:
        raise BuildError(
            f"{instruction.name} is not supported: {REFUSED[instruction.name]}, and remove the line", instruction.line
        )
    if instruction.name not in KNOWN:
        raise BuildError(f"unknown instruction {instruction.name}", instruction.line)
    if _HEREDOC.search(instruction.text) and instruction.name in {"RUN", "COPY", "ADD"}:
        raise BuildError(f"{instruction.name} with a here-document is not supported: use a file", instruction.line)
    if not instruction.text:
        raise BuildError(f"{instruction.name} needs an argument", instruction.line)
    return instruction


def expand(text: str, variables: Mapping[str, str]) -> str:
    """$NAME, ${NAME}, ${NAME:-default}, ${NAME:+instead}; a backslash keeps the dollar."""

    def value(found: re.Match[str]) -> str:
        if found[1]:
            return "$"
        name, operator, word = found[2] or found[3], found[4], found[5] or ""
        held = variables.get(name)
        is_there = bool(held) if operator and operator.startswith(":") else held is not None
        if operator and operator.endswith("-"):
            return str(held) if is_there else expand(word, variables)
        if operator and operator.endswith("+"):
            return expand(word, variables) if is_there else ""
        return held or ""

    return _VARIABLE.sub(value, text)


def words(instruction: Instruction) -> list[str]:
    """Its words, by JSON or by blanks and quotes. Raises BuildError."""
    listed = exec_form(instruction.text)
    if listed is not None:
        return listed
    try:
        return shlex.split(instruction.text)
    except ValueError as error:
        raise BuildError(f"{instruction.name}: {error}", instruction.line) from error


def exec_form(text: str) -> list[str] | None:
    """The words of a JSON list; None for anything else, which a shell reads."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = _wire.decode_any(text)
    except _wire.DecodeError:
        return None
    return list(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else None


def flags(instruction: Instruction, allowed: frozenset[str]) -> tuple[dict[str, str], Instruction]:
    """The leading `--name=value`, and the instruction without them. Raises BuildError for one that is not allowed."""
    found: dict[str, str] = {}
    text = instruction.text
    while text.startswith("--"):
        word, _, text = text.partition(" ")
        text = text.lstrip()
        name, _, value = word[2:].partition("=")
        if name not in allowed:
            known = ", ".join(f"--{a}" for a in sorted(allowed)) or "none"
            raise BuildError(f"{instruction.name} --{name} is not supported, only {known}", instruction.line)
        found[name] = value
    return found, Instruction(instruction.line, instruction.name, text)


def pairs(instruction: Instruction) -> dict[str, str]:
    """NAME=VALUE …, or the older NAME VALUE. Raises BuildError."""
    listed = words(Instruction(instruction.line, instruction.name, instruction.text.replace("\\$", "\\\\$")))
    if "=" not in listed[0]:
        name, _, value = instruction.text.partition(" ")
        if not value.strip():
            raise BuildError(f"{instruction.name} {name} has no value: write {name}=VALUE", instruction.line)
        return {name: value.strip()}
    found = {}
    for word in listed:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise BuildError(f"{instruction.name}: {word!r} is not NAME=VALUE", instruction.line)
        found[name] = value
    return found

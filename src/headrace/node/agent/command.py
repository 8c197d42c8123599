"""What a container runs: its command joined with the image's, and whether a warm interpreter may fork it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from headrace.node.expansion import expand
from headrace.node.images.preload import modules
from headrace.node.runtime.base import WarmStart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.api.core import Container
    from headrace.node.images.service import Environment

_PYTHONS = frozenset({"python", "python3"})
_IMAGE_BIN = PurePosixPath("/usr/local/bin")
"""Where the official images keep their interpreter; commands name it by its path."""


class NoCommand(Exception):
    """Neither the container nor its image says what to run."""


def argv(container: Container, environment: Environment, variables: Mapping[str, str]) -> tuple[str, ...]:
    """The arguments of the process. Raises NoCommand.

    As in Kubernetes: `command` replaces the image's entrypoint and command, `args` alone only its command.
    """
    if container.command:
        words = [*container.command, *container.args]
    else:
        words = [*environment.entrypoint, *(container.args or environment.command)]
    if not words:
        raise NoCommand(
            f'image "{container.image}" has no command of its own: set the command of container {container.name}'
        )
    words = [expand(word, variables) for word in words]
    if environment.python is not None:
        words[0] = _interpreter(words[0], environment)
    return tuple(words)


def warm(words: tuple[str, ...], environment: Environment, variables: Mapping[str, str]) -> WarmStart | None:
    """How a warm interpreter may run this: `python /SCRIPT ARGS`; None for anything else, and where there is
    nothing slow to import, since a warm interpreter takes memory.

    Whether the container's variables allow it is for the runtime to say.
    """
    if environment.python is None or len(words) < 2 or words[0] != str(environment.python):
        return None
    preload = modules(environment.packages, variables)
    if not words[1].startswith("/") or not preload:
        return None
    return WarmStart(str(environment.python), preload)


def _interpreter(word: str, environment: Environment) -> str:
    python = environment.python
    if python is None:
        return word
    path = PurePosixPath(word)
    if path.parent not in {PurePosixPath(), _IMAGE_BIN}:
        return word
    if path.name in _PYTHONS or path.name == _versioned(python.name, environment):
        return str(python)
    return word


def _versioned(name: str, environment: Environment) -> str:
    version = environment.env.get("PYTHON_VERSION", "")
    return f"{name.rstrip('3')}{'.'.join(version.split('.')[:2])}"

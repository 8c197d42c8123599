"""The document that says what to run, and paths on disk that stand for places in an object store."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = Any

TASK = "HEADRACE_TASK"
SCRATCH = "HEADRACE_SCRATCH"
_PRIVATE = "HEADRACE_"
_MOUNTS = {"gs": "/gcs/", "minio": "/minio/", "s3": "/s3/"}
WORKSPACE = "/kfp-workspace"
STORES = ("minio", "s3")
"""Schemes of the object store that the platform has."""


class StepError(Exception):
    """The step failed for a reason other than its program's; the message is a sentence."""


class Task:
    """One attempt of one step."""

    def __init__(self, document: Mapping[str, Json], scratch: str = "") -> None:
        self.run_id: str = document["run_id"]
        self.task_id: str = document["task_id"]
        self.attempt: int = document["attempt"]
        self.api: str = document["api"]
        self.api_address: str = document.get("api_address", "")
        """What the API's name stood for when the step was made."""
        self.token_file: str = document.get("token_file", "")
        self.command: list[str] = list(document.get("command", []))
        self.args: list[str] = list(document.get("args", []))
        self.executor_input: dict[str, Json] = document["executor_input"]
        self.defaults: dict[str, Json] = document.get("defaults", {})
        self.output_types: dict[str, str] = document.get("output_types", {})
        self.module: str = document.get("module", "")
        """kfp's executor, when the command is that of a lightweight component whose source is the last word of it."""
        self.scratch = scratch
        if scratch:
            self._move_output_files(scratch)

    def _move_output_files(self, scratch: str) -> None:
        """Where steps share one file system, each has its output files below its own scratch folder."""
        outputs = self.executor_input.get("outputs", {})
        for parameter in [outputs, *(outputs.get("parameters") or {}).values()]:
            if parameter.get("outputFile") and not parameter["outputFile"].startswith(scratch):
                parameter["outputFile"] = scratch + parameter["outputFile"]

    @classmethod
    def load(cls, argv: list[str], env: Mapping[str, str]) -> Task:
        """From a file named on the command line, or from the environment."""
        if argv:
            return cls(json.loads(Path(argv[0]).read_text(encoding="utf-8")), env.get(SCRATCH, ""))
        if TASK not in env:
            raise StepError(f"There is no task: give a file or set {TASK}.")
        return cls(json.loads(env[TASK]), env.get(SCRATCH, ""))

    def path_of(self, uri: str) -> str | None:
        """Where an artifact of this URI lies inside the pod; None for a scheme that has no place here."""
        scheme, _, rest = uri.partition("://")
        mount = _MOUNTS.get(scheme)
        return f"{self.scratch}{mount}{rest}" if mount and rest else None

    def path_of_artifact(self, artifact: Mapping[str, Json]) -> str | None:
        """Where an artifact lies: the path that the author chose, else the one that follows from its URI."""
        custom = artifact.get("customPath") or artifact.get("custom_path")
        path = custom or self.path_of(str(artifact.get("uri", "")))
        if path and not custom and in_workspace(artifact):
            return f"{self.scratch}{WORKSPACE}/.artifacts{path[len(self.scratch) :]}"
        return path

    @property
    def output_file(self) -> str:
        """Where kfp's executor leaves what the step made."""
        return str(self.executor_input.get("outputs", {}).get("outputFile", ""))


def in_workspace(artifact: Mapping[str, Json]) -> bool:
    """Whether an importer put the artifact into the run's workspace."""
    return (artifact.get("metadata") or {}).get("_kfp_workspace") is True


def user_env(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of the author's program: all but what is the launcher's own."""
    return {name: value for name, value in env.items() if not name.startswith(_PRIVATE)}


def object_of(uri: str) -> tuple[str, str]:
    """Bucket and key. Raises StepError for a store that the platform does not have."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("?")[0].partition("/")
    if scheme not in STORES or not bucket or not key:
        raise StepError(f"{uri} is not in the platform's object store; use minio://BUCKET/KEY or s3://BUCKET/KEY.")
    return bucket, key


def read(path: str) -> bytes:
    """A whole file, with as few steps as there can be. Raises OSError."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return file.readall()


def make_parent(path: str) -> None:
    """Make the folder that a file of this path will be in."""
    folder = os.path.dirname(path)  # noqa: PTH120 - pathlib would ask for each folder twice, from the last one on
    if os.path.isdir(folder or "."):  # noqa: PTH112
        return
    place = folder.find("/", 1)
    while place > 0:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder[:place])  # noqa: PTH102
        place = folder.find("/", place + 1)
    Path(folder).mkdir(exist_ok=True)


def say(text: str) -> None:
    """A line on standard error, whatever the author's program has made of `sys.stderr`."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="replace"))

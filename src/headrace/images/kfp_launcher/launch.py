"""One step from beginning to end: inputs, program, outputs, report."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import outputs, placeholders
from .report import report
from .run import run
from .task import StepError, Task, in_workspace, make_parent, object_of, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Runner = Callable[[Task, list[str], Mapping[str, str], Callable[[int, str], int]], int]

Json = Any

S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY = "HEADRACE_S3_ENDPOINT", "HEADRACE_S3_ACCESS_KEY", "HEADRACE_S3_SECRET_KEY"
_FAILED = 1


def main(argv: list[str], env: Mapping[str, str] = os.environ) -> int:
    """Run the task; the exit code is that of the author's program."""
    try:
        task = Task.load(argv, env)
    except (StepError, OSError, ValueError, KeyError) as error:
        say(f"The step has no usable task document: {error!r}")
        return 2
    return Step(task, env).execute()


class Step:
    """The work of one attempt."""

    def __init__(
        self, task: Task, env: Mapping[str, str], runner: Runner = run, reporter: Callable[[Task, bytes], bool] = report
    ) -> None:
        self.task, self.env, self._began = task, dict(env), time.time()
        self._run, self._send = runner, reporter
        self._store: Any = None
        self._s3client: Any = None

    def _uses_store(self) -> bool:
        given = self.task.executor_input
        return any((given.get(side) or {}).get("artifacts") for side in ("inputs", "outputs"))

    def execute(self) -> int:
        """All of it, the report included; the exit code. Never raises for what went wrong in the step. When a component
        runs in this interpreter, the process ends with it.
        """
        task = self.task
        try:
            if self._uses_store():
                # Now: the author's program must not find the launcher's modules, nor change what they import.
                from .. import s3client  # noqa: TID252 - the top package has another name inside a pod

                self._s3client = s3client
            self._fetch_inputs()
            outputs.prepare(task)
            line = placeholders.command_line(task, placeholders.with_defaults(task))
            return self._run(task, line, self.env, self._conclude)
        except StepError as error:
            say(str(error))
            return self._report(self._body("FAILED", _FAILED, str(error), {}, []))

    def _conclude(self, code: int, reason: str) -> int:
        """The program has ended: what it made, and the report."""
        return self._report(self._failed(code, reason) if code else self._succeeded())

    def _report(self, body: dict[str, Json]) -> int:
        # SUCCEEDED must be on record before the pod ends well: else another attempt would be in doubt about this one.
        data = json.dumps(body, ensure_ascii=False).encode()
        if not self._send(self.task, data) and body["state"] == "SUCCEEDED":
            return _FAILED
        code: int = body["exit_code"]
        return code

    def _succeeded(self) -> dict[str, Json]:
        task = self.task
        try:
            made = outputs.read_executor_output(task.output_file)
            values = outputs.parameters(task, made)
            artifacts = outputs.artifacts(task, made)
            self._store_outputs(artifacts)
        except StepError as error:
            say(str(error))
            return self._body("FAILED", _FAILED, str(error), {}, [])
        return self._body("SUCCEEDED", 0, "", values, artifacts)

    def _failed(self, code: int, reason: str) -> dict[str, Json]:
        """The program failed: what it made is kept for whoever looks for the cause, as far as it can be."""
        shown, sentence = explain(code, reason)
        artifacts: list[dict[str, Json]] = []
        try:
            artifacts = outputs.artifacts(self.task, outputs.read_executor_output(self.task.output_file))
            artifacts = [a for a in artifacts if _exists(self.task.path_of_artifact(a))]
            self._store_outputs(artifacts)
        except StepError as error:
            say(str(error))
            artifacts = []
        return self._body("FAILED", shown, sentence, {}, artifacts)

    def _body(
        self, state: str, code: int, error: str, values: dict[str, Json], artifacts: list[dict[str, Json]]
    ) -> dict[str, Json]:
        return {
            "attempt": self.task.attempt,
            "state": state,
            "exit_code": code,
            "error": error,
            "outputs": {"parameters": values, "artifacts": [_reported(a) for a in artifacts]},
            "used": _used(),
            "started_at": self._began,
        }

    # Artifacts

    def _fetch_inputs(self) -> None:
        groups: Mapping[str, Json] = self.task.executor_input.get("inputs", {}).get("artifacts") or {}
        for name, group in groups.items():
            for artifact in group.get("artifacts") or []:
                uri = str(artifact.get("uri", ""))
                path = self.task.path_of_artifact(artifact)
                if path is None:
                    say(f"Input artifact {name!r} has the URI {uri!r}, which is not fetched.")
                elif in_workspace(artifact):
                    if not _exists(path):
                        self._fetch_to_workspace(name, uri, path)
                    self._show_outside(uri, path)
                elif not _exists(path):
                    self._fetch(name, uri, path)

    def _show_outside(self, uri: str, path: str) -> None:
        """SDKs before 2.15 look for every artifact where its URI says."""
        usual = self.task.path_of(uri)
        if usual and not _exists(usual):
            make_parent(usual)
            Path(usual).symlink_to(path)

    def _fetch_to_workspace(self, name: str, uri: str, path: str) -> None:
        """Other steps may do the same at the same time: whole or not at all, and whoever is first."""
        part = f"{path}.{self.task.task_id}.part"
        self._fetch(name, uri, part)
        if not _exists(part):
            raise StepError(f"Input artifact {name!r} cannot be fetched: there is nothing at {uri}.")
        try:
            Path(part).rename(path)
        except OSError:
            if not _exists(path):
                raise
            import shutil

            shutil.rmtree(part, ignore_errors=True)

    def _fetch(self, name: str, uri: str, path: str) -> None:
        bucket, key = object_of(uri)
        try:
            if self._s3().exists(bucket, key):
                make_parent(path)
                self._s3().download(bucket, key, path)
                return
            below = self._s3().list(bucket, key.rstrip("/") + "/")
            for found, _size in below:
                relative = found[len(key.rstrip("/")) + 1 :]
                if relative and not relative.endswith("/"):
                    target = _inside(path, relative)
                    make_parent(target)
                    self._s3().download(bucket, found, target)
        except (self._s3client.S3Error, OSError) as error:
            raise StepError(f"Input artifact {name!r} cannot be fetched from {uri}: {error}") from error
        if not below:
            # A metrics artifact has metadata only; whoever reads its path finds no file.
            make_parent(path)

    def _store_outputs(self, artifacts: list[dict[str, Json]]) -> None:
        for artifact in artifacts:
            path = self.task.path_of_artifact(artifact)
            if path is None or not _exists(path):
                continue  # a component need not write its artifact
            uri = str(artifact["uri"])
            bucket, key = object_of(uri)
            try:
                if Path(path).is_dir():
                    for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
                        self._s3().upload(bucket, f"{key.rstrip('/')}/{file.relative_to(path).as_posix()}", file)
                else:
                    self._s3().upload(bucket, key, path)
            except (self._s3client.S3Error, OSError) as error:
                raise StepError(f"Output artifact {artifact['output']!r} cannot be stored at {uri}: {error}") from error

    def _s3(self) -> Any:
        if self._store is None:
            missing = [name for name in (S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY) if not self.env.get(name)]
            if missing:
                raise StepError(f"The step has no credentials for the object store ({', '.join(missing)} not set).")
            self._store = self._s3client.S3(self.env[S3_ENDPOINT], self.env[S3_ACCESS_KEY], self.env[S3_SECRET_KEY])
        return self._store


def explain(code: int, reason: str = "") -> tuple[int, str]:
    """An exit code as a shell shows it, and a sentence."""
    if code >= 0:
        return code, f"The step's program exited with code {code}{': ' + reason if reason else '.'}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (often: out of memory)" if -code == signal.SIGKILL else ""
    return 128 - code, f"The step's program was ended by {name}{hint}."


def _used() -> dict[str, Json]:
    """What this process and the author's program have cost so far."""
    import resource

    mine, below = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = mine.ru_utime + mine.ru_stime + below.ru_utime + below.ru_stime
    return {"cpu_seconds": round(seconds, 4), "peak_bytes": max(mine.ru_maxrss, below.ru_maxrss) << 10}


def _reported(artifact: Mapping[str, Json]) -> dict[str, Json]:
    kind = artifact.get("type") or {}
    return {
        "output": artifact["output"],
        "name": artifact.get("name") or artifact["output"],
        "type": kind.get("schemaTitle") or kind.get("instanceSchema") or "system.Artifact",
        "schema_version": kind.get("schemaVersion", ""),
        "uri": artifact.get("uri", ""),
        "metadata": artifact["metadata"],
    }


def _exists(path: str | None) -> bool:
    return bool(path) and Path(path or "").exists()


def _inside(folder: str, relative: str) -> str:
    """A path below a folder. Raises StepError for an object whose name would lead out of it."""
    path = os.path.normpath(f"{folder}/{relative}")
    if not path.startswith(os.path.normpath(folder) + os.sep):
        raise StepError(f"An object named {relative!r} would be written outside of its artifact.")
    return path

"""Runs of pipelines as commands see them: plain HTTP to the gateway with a token, and lines that say what changes."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from typing import TYPE_CHECKING, Any

import click

from headrace.api import _wire
from headrace.cli.process import needed
from headrace.cli.token import request_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import aiohttp

    from headrace.machinery.settings import Settings

FINAL = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
EXIT_CODES = {"SUCCEEDED": 0, "SKIPPED": 0, "FAILED": 1, "CANCELED": 3}
STEPS = ("RUNTIME", "IMPORTER")
"""Types of tasks that do something; all others are scopes."""
TOKEN_SECONDS = 86400
LOG_LINES = 40
_SHORTEST, _LONGEST = 0.1, 1.0
_COLORS = {"SUCCEEDED": "green", "FAILED": "red", "CANCELED": "yellow", "SKIPPED": "bright_black", "RUNNING": "cyan"}


class Runs:
    """The pipelines API of a running platform, in one namespace."""

    def __init__(self, chosen: Settings, namespace: str, session: aiohttp.ClientSession) -> None:
        self.settings, self.namespace, self._session = chosen, namespace, session

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The answer's JSON. Raises ClickException with the API's own sentence."""
        import aiohttp

        url = f"{self.settings.gateway_url}/apis/v2beta1{path}"
        data = None if body is None else _wire.encode(body)
        try:
            async with self._session.request(method, url, data=data, params=query) as response:
                raw = await response.read()
        except aiohttp.ClientError as error:
            raise click.ClickException(
                f"the gateway at {self.settings.gateway_url} does not answer: {error}"
            ) from error
        try:
            answer: Any = _wire.decode_any(raw)
        except _wire.DecodeError:
            answer = {}
        if response.status != 200:
            said = answer.get("message") if isinstance(answer, dict) else None
            raise click.ClickException(said or f"{method} {path} was answered with {response.status}")
        return answer

    async def find(self, name: str) -> dict[str, Any]:
        """A run by its id, the beginning of its id, or its name; the newest of several of that name."""
        if len(name) == 36:
            found: dict[str, Any] = await self.call("GET", f"/runs/{name}")
            return found
        listed = await self.call("GET", "/runs", namespace=self.namespace, sort_by="created_at desc", page_size="200")
        runs: list[dict[str, Any]] = listed.get("runs", [])
        named = [run for run in runs if run["display_name"] == name]
        begun = [run for run in runs if run["run_id"].startswith(name)]
        if named:
            return named[0]
        if len(begun) == 1:
            return begun[0]
        what = f"{len(begun)} runs begin with" if begun else "there is no recent run named"
        raise click.ClickException(f"{what} {name!r} in {self.namespace}: `headrace runs` lists them")

    async def tasks(self, run_id: str) -> list[dict[str, Any]]:
        """Every task of a run, in upstream's native form."""
        found: list[dict[str, Any]] = (await self.call("GET", f"/runs/{run_id}/tasks")).get("tasks", [])
        return found

    async def follow(self, run_id: str) -> str:
        """Print a line for each change of a step until the run ends; its state."""
        seen: dict[str, str] = {}
        wait = _SHORTEST
        while True:
            run = await self.call("GET", f"/runs/{run_id}")
            changed = False
            for task in await self.tasks(run_id):
                line = describe(task)
                if line is not None and seen.get(task["task_id"]) != line:
                    seen[task["task_id"]] = line
                    changed = True
                    click.echo(f"{_clock()}  {line}")
            if run["state"] in FINAL:
                await self.explain(run)
                state: str = run["state"]
                return state
            wait = _SHORTEST if changed else min(wait * 1.5, _LONGEST)
            await asyncio.sleep(wait)

    async def explain(self, run: Mapping[str, Any]) -> None:
        """The run's end, after the last lines of each step that failed."""
        for task in await self.tasks(run["run_id"]):
            if task.get("state") == "FAILED" and task.get("type") in STEPS:
                await self._show_failure(task)
        state = click.style(run["state"], fg=_COLORS.get(run["state"]))
        click.echo(
            f"{_clock()}  run {run['display_name']!r} {state}{_took(run.get('created_at'), run.get('finished_at'))}"
        )
        if run.get("error"):
            click.echo(f"          {run['error']['message']}")

    async def _show_failure(self, task: Mapping[str, Any]) -> None:
        from headrace.api.core import Pod
        from headrace.api.errors import StatusError
        from headrace.client.http import HttpClient

        click.echo(f"\n--- {place(task)}: {task.get('error', {}).get('message', 'failed')}")
        pods = task.get("pods")
        if not pods:
            return
        path = Pod.INFO.path(self.namespace, pods[-1]["name"], "log")
        query = {"tailLines": str(LOG_LINES), "container": "main"}
        async with HttpClient.from_kubeconfig(self.settings.kubeconfig) as client:
            try:
                async with client.open("GET", path, query=query, timeout=30) as response:
                    async for chunk in response.content.iter_any():
                        click.echo(chunk, nl=False)
            except StatusError as error:
                click.echo(f"(its log cannot be read: {error.message})")
        click.echo("---")


@contextlib.asynccontextmanager
async def open_runs(chosen: Settings, namespace: str) -> AsyncIterator[Runs]:
    """The API with a token of the namespace's editor. Raises ClickException when no platform runs."""
    import aiohttp

    needed(chosen)
    token = await request_token(chosen, namespace, "default-editor", TOKEN_SECONDS)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield Runs(chosen, namespace, session)


def place(task: Mapping[str, Any]) -> str:
    """Where a task is in its run: `train-loop/2/fit`."""
    return str(task.get("scope_path", task["name"])).removeprefix("root/")


def describe(task: Mapping[str, Any]) -> str | None:
    """A step's line; None when there is nothing to say: scopes, and steps that have not begun."""
    state = str(task.get("state", "PENDING"))
    error = task.get("error", {}).get("message", "")
    if task.get("type") not in STEPS or (state == "PENDING" and not error and not task.get("pods")):
        return None
    more = _took(task.get("start_time"), task.get("end_time")) if state in {"SUCCEEDED", "FAILED"} else ""
    if task.get("cached_from_task_id"):
        more = "  from the cache"
    if error and state != "FAILED":
        more += f"  {error}"
    return f"{click.style(f'{state:<10}', fg=_COLORS.get(state))} {place(task)}{more}"


def _took(start: str | None, end: str | None) -> str:
    if not start or not end:
        return ""
    seconds = (dt.datetime.fromisoformat(end) - dt.datetime.fromisoformat(start)).total_seconds()
    return f"  {seconds:.2f} s"


def _clock() -> str:
    return dt.datetime.now(dt.UTC).astimezone().strftime("%H:%M:%S")

"""A laboratory for runs: the API, the engine, an object store and a node that runs launchers as local processes."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pipelines_harness import HOME, serve

from headrace.api.core import Pod, Secret, ServiceAccount
from headrace.api.meta import ObjectMeta
from headrace.components.objectstore import policy as s3_policy
from headrace.components.objectstore.api.app import App
from headrace.components.objectstore.component import domains
from headrace.components.objectstore.store.objects import ObjectStore
from headrace.components.objectstore.types import Principal
from headrace.components.pipelines.controller import Engine
from headrace.components.pipelines.controller.afterwards import Afterwards
from headrace.components.pipelines.store.followups import FollowUps
from headrace.images.s3client import S3
from headrace.machinery.clock import SystemClock
from headrace.machinery.events import EventRecorder
from headrace.machinery.serve import Server
from headrace.testing.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pipelines_harness import Api

    from headrace.components.pipelines.store.models import RunRow, RuntimeState, TaskRow

KEYS = Principal("home-key", "home-secret", HOME)
"""The profile's own keys: they reach only what lies below its prefixes."""


def _load_node() -> Any:
    name = "pipelines_local_node"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("node.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def document(pipeline: Callable[..., Any]) -> dict[str, Any]:
    """What kfp compiles, in the form in which its client sends it."""
    import yaml
    from kfp import compiler

    with contextlib.ExitStack() as stack:
        import tempfile

        folder = stack.enter_context(tempfile.TemporaryDirectory())
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        parts = list(yaml.safe_load_all(path.read_text()))
    return parts[0] if len(parts) == 1 else {"pipeline_spec": parts[0], "platform_spec": parts[1]}


@dataclass
class Ended:
    """A finished run."""

    row: RunRow
    logs: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> RuntimeState:
        return self.row.run.state

    @property
    def states(self) -> dict[str, str]:
        return {t.path.removeprefix("root/"): t.state.value for t in self.row.tasks if t.path != "root"}

    def task(self, path: str) -> TaskRow:
        return next(t for t in self.row.tasks if t.path in {f"root/{path}", path})

    def output(self, path: str, name: str = "Output") -> Any:
        return self.task(path).outputs.parameters[name]

    def artifacts(self, path: str, name: str) -> list[Any]:
        return [self.row.artifacts[i] for i in self.task(path).outputs.artifacts[name]]


@dataclass
class Lab:
    api: Api
    engine: Engine
    node: Any
    s3: str
    folder: Path
    afterwards: Afterwards

    def compiled(self, pipeline: Callable[..., Any]) -> dict[str, Any]:
        return document(pipeline)

    async def start(self, pipeline: Any, **parameters: Any) -> str:
        spec = pipeline if isinstance(pipeline, dict) else document(pipeline)
        run = await self.api.start_run(pipeline_spec=spec, runtime_config={"parameters": parameters})
        return run["run_id"]

    async def ended(self, run_id: str, timeout: float = 60.0) -> Ended:
        async def finished() -> Ended | None:
            row = await self.api.runs.load_run(run_id)
            return Ended(row, self.node.logs) if row.run.state.final else None

        try:
            return await eventually(finished, timeout=timeout, interval=0.02)
        except AssertionError:
            row = await self.api.runs.load_run(run_id)
            states = {t.path: (t.state.value, t.error_message, t.pod_name) for t in row.tasks}
            raise AssertionError(f"the run did not end: {states}\n{self.node.logs}") from None

    async def run(self, pipeline: Any, **parameters: Any) -> Ended:
        return await self.ended(await self.start(pipeline, **parameters))

    async def pods(self) -> list[Pod]:
        return (await self.api.cluster.client.list(Pod, HOME)).items

    async def get(self, key: str) -> bytes:
        return await asyncio.to_thread(self._s3, lambda s3: s3.get("mlpipeline", key))

    async def put(self, key: str, data: bytes) -> None:
        await asyncio.to_thread(self._s3, lambda s3: s3.put("mlpipeline", key, data))

    def _s3(self, action: Callable[[S3], Any]) -> Any:
        s3 = S3(self.s3, KEYS.access_key, KEYS.secret_key)
        try:
            return action(s3)
        finally:
            s3.close()

    async def log_of(self, pod: str) -> str:
        return await eventually(lambda: self.node.logs.get(pod))

    @property
    def namespace(self) -> str:
        return HOME

    async def until_pods(self, count: int) -> list[Pod]:
        async def there() -> bool:
            return len(await self.pods()) == count

        await eventually(there)
        return await self.pods()

    async def restart_engine(self) -> None:
        """As a kill -9 of the control plane would: nothing is said to anyone."""
        await self.engine.stop()
        await self.afterwards.stop()
        self.engine, self.afterwards = _engine(self.api)
        await self.engine.start()
        await self.afterwards.start()


def _engine(api: Api) -> tuple[Engine, Afterwards]:
    client, clock = api.cluster.client, SystemClock()
    afterwards = Afterwards(client, clock, api.runs, FollowUps(api.database), EventRecorder(client, clock, "pipelines"))
    return Engine(client, clock, api.runs, afterwards=afterwards), afterwards


@contextlib.asynccontextmanager
async def objectstore(folder: Path) -> AsyncIterator[str]:
    principals = {p.access_key: p for p in (s3_policy.ADMINISTRATOR, KEYS)}

    async def find(access_key: str) -> Principal | None:
        return principals.get(access_key)

    store = ObjectStore(folder)
    store.open()
    await store.create_bucket(s3_policy.DEFAULT_BUCKET, SystemClock().precise())
    server = Server(App(store, SystemClock(), find, domains()), "127.0.0.1", 0)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.address[1]}"
    finally:
        await server.stop()
        await store.close()


@pytest.fixture
async def lab(database_url, tmp_path) -> AsyncIterator[Lab]:
    async with objectstore(tmp_path / "s3") as s3, serve(database_url, s3) as api:
        client = api.cluster.client
        values = {"accesskey": KEYS.access_key, "secretkey": KEYS.secret_key}
        await client.apply(ServiceAccount(metadata=ObjectMeta(name="default-editor", namespace=HOME)))
        await client.apply(Secret(metadata=ObjectMeta(name=s3_policy.SECRET_NAME, namespace=HOME), string_data=values))
        folder = tmp_path / "node"
        folder.mkdir()
        node = _load_node().LocalNode(client, folder, api=api.url, s3=s3)
        engine, afterwards = _engine(api)
        await node.start()
        await engine.start()
        await afterwards.start()
        found = Lab(api, engine, node, s3, folder, afterwards)
        try:
            yield found
        finally:
            await found.afterwards.stop()
            await found.engine.stop()
            await node.stop()

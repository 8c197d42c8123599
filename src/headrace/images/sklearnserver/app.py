"""The HTTP face: a plain ASGI application without a framework, because the framework would cost more than the model.

A prediction runs on the event loop while predictions are short (a thread would cost more than it saves) and in one
worker thread as soon as they are long, so that health checks are answered meanwhile.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from . import binary, codec
from .codec import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from .model import Model

    Answer = tuple[int, bytes, int | None]
    """Status, body, and how much of the body is JSON when some of it is binary."""
    Handler = Callable[[dict[str, Any], bytes], Any]

MAX_BODY = 1 << 30
SLOW_SECONDS = 0.02
"""Predictions that take longer than this on average leave the event loop."""

_JSON = (b"content-type", b"application/json")
_BYTES = (b"content-type", b"application/octet-stream")


class App:
    """Serves one model. `__call__` is ASGI 3 for HTTP."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._average = 0.0
        self._thread = ThreadPoolExecutor(1, "predict")
        self._ids = (f"{os.getpid():x}-{time.time_ns():x}-{n}" for n in itertools.count())
        self._posts: dict[str, Handler] = {
            f"/v1/models/{model.name}:predict": self._predict_v1,
            f"/v2/models/{model.name}/infer": self._infer_v2,
        }
        name = model.name
        ready = {"name": name, "ready": True}
        self._gets: dict[str, bytes] = {
            path: codec.encode(body)
            for path, body in {
                "/": {"status": "alive"},
                "/v1/models": {"models": [name]},
                f"/v1/models/{name}": ready,
                "/v2": {"name": "headrace-sklearnserver", "version": "0.1.0", "extensions": ["binary_tensor_data"]},
                "/v2/health/live": {"live": True},
                "/v2/health/ready": {"ready": True},
                "/v2/models": {"models": [name]},
                f"/v2/models/{name}": {"name": name, "platform": "", "inputs": [], "outputs": []},
                f"/v2/models/{name}/ready": ready,
            }.items()
        }

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not served here")
        status, body, json_length = await self._answer(scope, receive)
        headers = [_JSON, (b"content-length", b"%d" % len(body))]
        if json_length is not None:
            headers = [_BYTES, headers[1], (binary.HEADER, b"%d" % json_length)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: dict[str, Any], receive: Any) -> Answer:
        method, path = scope["method"], scope["path"]
        try:
            handler = self._posts.get(path)
            if handler is not None and method == "POST":
                message = await receive()
                body = message.get("body", b"")
                if message.get("more_body"):
                    body = await _rest(body, receive)
                return (200, *await handler(scope, body))
            if method in {"GET", "HEAD"} and path in self._gets:
                return 200, self._gets[path], None
            raise self._unknown(method, path)
        except BadInput as error:
            return error.status, _error(str(error)), None

    async def _predict_v1(self, _scope: dict[str, Any], body: bytes) -> tuple[bytes, None]:
        return codec.encode_v1(await self._ask(codec.decode_v1(body))), None

    async def _infer_v2(self, scope: dict[str, Any], body: bytes) -> tuple[bytes, int | None]:
        json_length = next((value for name, value in scope["headers"] if name == binary.HEADER), None)
        request, rows = codec.decode_v2(body, json_length)
        return codec.encode_v2(self._model.name, request, await self._ask(rows), next(self._ids))

    async def _ask(self, rows: Any) -> Any:
        try:
            if self._average > SLOW_SECONDS:
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, rows)
            return self._predict(rows)
        except (ValueError, TypeError, KeyError) as error:
            # scikit-learn says with these that the rows are not what the model was trained on
            raise BadInput(str(error)) from error
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            raise BadInput(f"{type(error).__name__} : {error}", 500) from error

    def _predict(self, rows: Any) -> Any:
        began = time.perf_counter()
        try:
            return self._model.predict(rows)
        finally:
            self._average += (time.perf_counter() - began - self._average) / 8

    def _unknown(self, method: str, path: str) -> BadInput:
        if path in self._posts:
            return BadInput(f"{path} takes POST, not {method}.", 405)
        if path in self._gets:
            return BadInput(f"{path} takes GET, not {method}.", 405)
        parts = path.strip("/").split("/")
        if len(parts) >= 3 and parts[0] in {"v1", "v2"} and parts[1] == "models":
            name, _, verb = parts[2].partition(":")
            if name != self._model.name:
                return BadInput(f"Model with name {name} does not exist.", 404)
            if verb == "explain":
                return BadInput(f"Model with name {name} has no explainer.", 501)
            if "versions" in parts:
                return BadInput("Model versioning not supported yet: leave /versions/… out of the path.", 501)
        if parts[:2] == ["v2", "repository"]:
            return BadInput("This server loads its model at start; it has no model repository.", 501)
        return BadInput(
            f"No such path: {path}. Try /v1/models/{self._model.name}:predict or /v2/models/{self._model.name}/infer.",
            404,
        )


async def _rest(first: bytes, receive: Any) -> bytes:
    chunks, size = [first], len(first)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadInput("The client left before the request was complete.")
        chunk = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY:
            raise BadInput(f"The request is larger than {MAX_BODY >> 20} MiB.", 413)
        if not message.get("more_body"):
            return b"".join(chunks)


def _error(message: str) -> bytes:
    return codec.encode({"error": message})

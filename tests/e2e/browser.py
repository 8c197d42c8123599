"""A headless browser over its own protocol: pages, their console, screenshots. No driver, no extra package.

Here is what all browsers share, and Chromium over its DevTools protocol; Firefox is in `firefox.py`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def executable() -> str | None:
    return os.environ.get("CHROMIUM") or next((found for name in NAMES if (found := shutil.which(name))), None)


T = TypeVar("T", bound="Tab")


class Tab:
    """One tab of some browser: numbered calls and their answers over a WebSocket, and what it tells in between."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self._ws, self._ids = ws, itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.problems: list[str] = []
        """What the console called an error, exceptions, refused resources."""

    async def call(self, method: str, **params: Any) -> Any:
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._ws.send_json({"id": number, "method": method, "params": params})
        return await asyncio.wait_for(future, 60)

    async def read(self) -> None:
        async for message in self._ws:
            data = message.json()
            if data.get("id") is None:
                self.heard(data["method"], data["params"])
            elif "error" in data:
                self._waiting.pop(data["id"]).set_exception(RuntimeError(str(data)))
            else:
                self._waiting.pop(data["id"]).set_result(data["result"])

    def heard(self, method: str, params: dict[str, Any]) -> None:
        raise NotImplementedError

    async def js(self, expression: str) -> Any:
        raise NotImplementedError

    async def until(self, expression: str, seconds: float = 30) -> Any:
        """Waits until the expression is true in the page."""
        value = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    # A page that is being left has no context for a moment.
                    with contextlib.suppress(RuntimeError):
                        value = await self.js(expression)
                        if value:
                            return value
                    await asyncio.sleep(0.05)
        text = await self.js("document.body ? document.body.innerText.slice(0, 1500) : ''")
        raise AssertionError(f"not within {seconds} s: {expression}; the page says:\n{text}")


class Chromium(Tab):
    """A tab of Chromium."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        super().__init__(ws)
        self._loaded = asyncio.Event()
        self.requests: list[str] = []
        self.bytes = 0

    def heard(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Runtime.exceptionThrown":
                self.problems.append(str(params["exceptionDetails"].get("exception", params)))
            case "Runtime.consoleAPICalled" if params["type"] in {"error", "warning", "assert"}:
                self.problems.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in {"error", "warning"}:
                self.problems.append(str(params["entry"]))
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Network.loadingFinished":
                self.bytes += int(params["encodedDataLength"])

    async def open(self, url: str) -> None:
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), 60)

    async def js(self, expression: str) -> Any:
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def look(self, *, width: int, height: int = 860, dark: bool = False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=scheme)

    async def key(self, key: str) -> None:
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def key_named(self, key: str, code: int, text: str = "") -> None:
        """A key that programs know by its number."""
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, text=text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    async def screenshot(self, path: Path) -> None:
        answer = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))


@contextlib.asynccontextmanager
async def started(*command: str, ready: Path, complete: str):
    """A browser's process, once a file says where it listens: the file's text, which is whole when it holds that."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(60):
            while not (ready.exists() and complete in ready.read_text()):
                assert process.returncode is None, f"{command[0]} ended with {process.returncode}"
                await asyncio.sleep(0.05)
        yield ready.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        await process.wait()


@contextlib.asynccontextmanager
async def connected(kind: type[T], session: aiohttp.ClientSession, address: str):
    """A tab whose answers and events are read."""
    async with session.ws_connect(address, max_msg_size=1 << 28) as ws:
        tab = kind(ws)
        reader = asyncio.create_task(tab.read())
        try:
            yield tab
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


@contextlib.asynccontextmanager
async def browser(folder: Path):
    """A Chromium with a profile of its own."""
    program = executable()
    assert program is not None
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--hide-scrollbars",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder / 'profile'}",
        "about:blank",
    ]
    active = folder / "profile" / "DevToolsActivePort"
    async with (
        started(program, *options, ready=active, complete="/devtools") as text,
        aiohttp.ClientSession() as session,
    ):
        port = int(text.splitlines()[0])
        async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
            tabs = await response.json()
        address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        async with connected(Chromium, session, address) as tab:
            for domain in ("Page", "Runtime", "Log", "Network"):
                await tab.call(f"{domain}.enable")
            yield tab

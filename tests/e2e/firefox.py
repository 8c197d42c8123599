"""A headless Firefox over WebDriver BiDi: pages, their console, what their policy refused."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import aiohttp
from e2e_browser import Tab, connected, started

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("firefox-esr", "firefox")
REFUSED = """() => {
  window.refused = [];
  document.addEventListener("securitypolicyviolation", (event) => {
    window.refused.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
  });
}"""


def executable() -> str | None:
    return os.environ.get("FIREFOX") or next((found for name in NAMES if (found := shutil.which(name))), None)


class Firefox(Tab):
    """A tab of Firefox."""

    context = ""

    def heard(self, method: str, params: dict[str, Any]) -> None:
        if method == "log.entryAdded" and params["level"] in {"error", "warn"}:
            self.problems.append(str(params.get("text") or params))
        if method == "network.fetchError":
            self.problems.append(f"{params['request']['url']}: {params['errorText']}")

    async def begin(self) -> None:
        await self.call("session.new", capabilities={})
        tree = await self.call("browsingContext.getTree")
        self.context = tree["contexts"][0]["context"]
        await self.call("script.addPreloadScript", functionDeclaration=REFUSED)
        await self.call("session.subscribe", events=["log.entryAdded"])

    async def open(self, url: str) -> None:
        await self.call("browsingContext.navigate", context=self.context, url=url, wait="complete")

    async def js(self, expression: str) -> Any:
        answer = await self.call(
            "script.evaluate", expression=expression, target={"context": self.context}, awaitPromise=True
        )
        assert answer["type"] == "success", answer
        return value(answer["result"])

    async def look(self, *, width: int, height: int = 860) -> None:
        await self.call(
            "browsingContext.setViewport", context=self.context, viewport={"width": width, "height": height}
        )

    async def screenshot(self, path: Path) -> None:
        answer = await self.call("browsingContext.captureScreenshot", context=self.context)
        path.write_bytes(base64.b64decode(answer["data"]))


def value(found: dict[str, Any]) -> Any:
    """A value of the page as JSON would have it."""
    match found["type"]:
        case "array":
            return [value(each) for each in found["value"]]
        case "object":
            return {key: value(each) for key, each in found["value"]}
        case _:
            return found.get("value")


@contextlib.asynccontextmanager
async def browser(folder: Path):
    """A Firefox with a profile of its own."""
    program = executable()
    assert program is not None
    profile = folder / "profile"
    profile.mkdir()
    options = ["--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port=0", "about:blank"]
    ready = profile / "WebDriverBiDiServer.json"
    async with started(program, *options, ready=ready, complete="}") as text:
        listens = json.loads(text)
        address = f"ws://{listens['ws_host']}:{listens['ws_port']}/session"
        async with aiohttp.ClientSession() as session, connected(Firefox, session, address) as tab:
            await tab.begin()
            yield tab

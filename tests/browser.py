"""A real Chromium without a screen, driven over its DevTools protocol: what a visitor's browser would show."""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

BROWSER = "chromium"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
START_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 15.0
POLL_S = 0.05


class Browser:
    """One browser with one page, a profile of its own, nothing kept. Use it as a context."""

    def __init__(self, profile: Path) -> None:
        if shutil.which(BROWSER) is None:
            raise FileNotFoundError(f"this test needs a real {BROWSER}: run `make tools`, which says how to get it")
        self.console: list[str] = []
        self._profile = profile
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._page: Any = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Browser:
        command = [BROWSER, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdout=null, stderr=null)  # noqa: ASYNC220 - a moment, in a test
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._connect()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _connect(self) -> None:
        told = self._profile / "DevToolsActivePort"
        while not told.exists() or not told.read_text().strip():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(POLL_S)
        port = told.read_text().split()[0]
        self._session = aiohttp.ClientSession()
        while not (pages := await self._pages(port)):  # noqa: ASYNC110 - it comes up
            await asyncio.sleep(POLL_S)
        self._page = await self._session.ws_connect(pages[0], max_msg_size=0)
        self._reading = asyncio.create_task(self._read())
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")

    async def _pages(self, port: str) -> list[str]:
        assert self._session is not None
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            found = await answer.json(content_type=None)
        return [one["webSocketDebuggerUrl"] for one in found if one["type"] == "page"]

    async def _read(self) -> None:
        async for message in self._page:
            told = message.json()
            if (waiting := self._waiting.pop(told.get("id", 0), None)) is not None and not waiting.done():
                waiting.set_result(told)
            elif told.get("method") == "Log.entryAdded":
                self.console.append(told["params"]["entry"]["text"])
            elif told.get("method") == "Runtime.exceptionThrown":
                self.console.append(str(told["params"]["exceptionDetails"].get("text")))

    async def _close(self) -> None:
        if self._page is not None:
            await self._page.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def send(self, method: str, **parameters: Any) -> Any:
        """Give a command of the protocol; its result."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._page.send_json({"id": number, "method": method, "params": parameters})
        told = await asyncio.wait_for(self._waiting[number], ANSWER_TIMEOUT_S)
        assert "error" not in told, told
        return told["result"]

    async def look(self, *, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True) -> None:
        """Be a window of this size, light or dark, with or without scripts."""
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])
        await self.send("Emulation.setScriptExecutionDisabled", value=not scripts)

    async def open(self, url: str) -> None:
        """Go there and wait until the page is loaded."""
        await self.send("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def ask(self, expression: str) -> Any:
        """What a JavaScript expression is worth in the page, as JSON."""
        told = await self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, expression: str, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        """Wait for a JavaScript expression to be true; its value."""
        async with asyncio.timeout(timeout_s):
            while not (value := await self.ask(expression)):  # noqa: ASYNC110 - the page changes by itself
                await asyncio.sleep(POLL_S)
        return value

    async def screenshot(self, file: Path, *, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as PNG."""
        told = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(told["data"]))

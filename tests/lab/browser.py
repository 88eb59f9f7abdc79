"""A headless Chromium, driven over the DevTools protocol as a user would: it looks, types and clicks."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.lab.waiting import PATIENCE_S, wait_until
from workers.embedded import child

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

#: A screenshot in base64 is one message.
_LARGEST_MESSAGE = 64 * 1024 * 1024


class Browser:
    """One page of a browser."""

    def __init__(self, runner: asyncio.Runner, connection: WebSocketClientConnection) -> None:
        self._runner = runner
        self._connection = connection
        self._number = 0
        self._heard: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self.evaluate("location.href"))

    @property
    def text(self) -> str:
        """All that can be read on the page."""
        return str(self.evaluate("document.body.innerText"))

    @property
    def faults(self) -> list[str]:
        """What the page's scripts and their requests complained about."""
        self.call("Runtime.evaluate", expression="0")  # what was said before it is read with its answer
        errors = [heard["params"] for heard in self._heard if heard["method"] == "Runtime.exceptionThrown"]
        entries = [heard["params"]["entry"] for heard in self._heard if heard["method"] == "Log.entryAdded"]
        return [str(error["exceptionDetails"]) for error in errors] + [
            f"{entry['text']} {entry.get('url', '')}" for entry in entries if entry["level"] == "error"
        ]

    def forget_faults(self) -> None:
        """Do not hold against the page what it complained about until now."""
        self._heard = []

    def go(self, url: str) -> None:
        """Open a page and wait until it is there."""
        self._leave(lambda: self.call("Page.navigate", url=url))

    def reload(self) -> None:
        """Open the page again."""
        self._leave(lambda: self.call("Page.reload"))

    def follow(self, selector: str) -> None:
        """Click on something that leads to another page, and wait until that is there."""
        self._leave(lambda: self.click(selector))

    def click(self, selector: str) -> None:
        """Click on the middle of an element, as a mouse does."""
        self.await_true(f"document.querySelector({json.dumps(selector)})", f"{selector} is there")
        place = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Put the cursor into a field and type."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def choose(self, selector: str, value: str) -> None:
        """Choose a value of a list that leads to another page, and wait until that is there."""
        self._leave(
            lambda: self.evaluate(
                f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(value)};"
                "e.dispatchEvent(new Event('change', {bubbles: true})); })()"
            )
        )

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def await_true(self, expression: str, what: str) -> None:
        """Wait until an expression is true."""
        wait_until(lambda: self.evaluate(f"!!({expression})"), what, say=lambda: f"It shows: {self.text[:2000]}")

    def await_text(self, text: str) -> None:
        """Wait until the page shows this text."""
        wait_until(lambda: text in self.text, f"the page shows {text!r}", say=lambda: f"It shows: {self.text[:2000]}")

    def size(self, width: int, height: int) -> None:
        """Give the window another size, in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def use_scripts(self, used: bool) -> None:
        """Let pages use JavaScript, or not, from the next page on."""
        self.call("Emulation.setScriptExecutionDisabled", value=not used)

    def photograph(self, file: Path) -> None:
        """Write what it shows into a PNG file."""
        taken = self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(taken["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol and return its result."""
        return self._runner.run(asyncio.wait_for(self._call(method, parameters), PATIENCE_S))

    def _leave(self, act: Callable[[], object]) -> None:
        self._heard = [heard for heard in self._heard if heard["method"] != "Page.loadEventFired"]
        act()
        wait_until(self._has_loaded, "another page is loaded", say=lambda: f"It shows: {self.text[:2000]}")

    def _has_loaded(self) -> bool:
        self.call("Page.getFrameTree")
        return any(heard["method"] == "Page.loadEventFired" for heard in self._heard)

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._connection.write_message(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = await self._connection.read_message()
            assert message is not None, "the browser has ended"
            heard = json.loads(message)
            if heard.get("id") == self._number:
                assert "error" not in heard, f"{method}: {heard['error']}"
                return dict(heard["result"])
            if "method" in heard:
                self._heard.append(heard)


@contextmanager
def browser() -> Iterator[Browser]:
    """Run a browser; the test is skipped where there is none."""
    program = next((found for name in _PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="arcfleet-browser-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        options = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [program, *options, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
        started = child.start(child.Program(command, folder / "log", environment={**os.environ, "HOME": name}))
        try:
            with asyncio.Runner() as runner:
                connection = runner.run(_connected(_page_of(folder, started)))
                made = Browser(runner, connection)
                made.size(1400, 1000)
                yield made
                connection.close()
        finally:
            started.kill()


async def _connected(url: str) -> WebSocketClientConnection:
    return await websocket_connect(url, max_message_size=_LARGEST_MESSAGE)


def _page_of(folder: Path, started: child.Child) -> str:
    """Return the WebSocket of the first page."""
    file = folder / "DevToolsActivePort"

    def found() -> str | None:
        assert started.exit_code() is None, f"the browser has ended: {(folder / 'log').read_text()[-2000:]}"
        if not file.exists() or "\n" not in file.read_text():
            return None
        port = file.read_text().split("\n")[0]
        pages = httpx.get(f"http://127.0.0.1:{port}/json/list", trust_env=False).json()
        return next((page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"), None)

    url = wait_until(found, "the browser is ready")
    assert url is not None
    return url

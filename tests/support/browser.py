"""A headless Chromium, driven over its DevTools pipe without a driver program or library."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.waiting import wait_until

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TIMEOUT = 30.0
SETTLED = "new Promise(resolve => setTimeout(resolve, 800))"
"""The browser decodes photos when they come into view."""
LAUNCHER = """
import fcntl, os, sys
# the browser reads commands from descriptor 3 and writes to 4; the pipes may have these numbers the other way round
source, target = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(source, 3)
os.dup2(target, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> str | None:
    """The browser's program, or None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a headless browser; `problems` collects console errors, exceptions and refused loads."""

    def __init__(self, program: str):
        # child processes of the browser may run a moment longer and still write there
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()

        self._process = subprocess.Popen(
            [
                sys.executable, "-c", LAUNCHER, str(commands), str(answers),
                program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                "--disable-dev-shm-usage", "--disable-extensions", "--remote-debugging-pipe",
                # turns off background activity of the browser
                "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
                f"--user-data-dir={self._profile.name}", "about:blank",
            ],
            pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self._buffer = b""
        self._count = 0
        self._session: str | None = None
        self._loaded = False
        self.problems: list[str] = []
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a DevTools method and waits for its result."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, file: Path, fragment: str = "") -> None:
        """Loads a file from disk and waits until it is complete."""
        self.visit(file.absolute().as_uri() + fragment)

    def visit(self, address: str) -> None:
        """Loads a page of a server and waits until it is complete."""
        self._loaded = False
        self.send("Page.navigate", url="about:blank")
        self._wait_for_load()
        self.problems.clear()
        self._loaded = False
        self.send("Page.navigate", url=address)
        self._wait_for_load()

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression (a promise is awaited)."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def click(self, selector: str) -> None:
        """Clicks on the first element of a CSS selector."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def text(self, selector: str) -> str:
        """The text of the first element of a CSS selector, without spaces around it."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")).strip()

    def wait_until(self, condition: str) -> None:
        """Waits until a JavaScript expression is true."""
        wait_until(lambda: self.evaluate(condition), description=condition)

    def busy(self, expression: str) -> float:
        """Seconds that the page computes, lays out and paints for an expression, without other processes."""
        self.send("Performance.enable", timeDomain="threadTicks")

        def so_far() -> float:
            metrics = self.send("Performance.getMetrics")["metrics"]
            return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

        start = so_far()
        self.evaluate(expression)
        return so_far() - start

    def press(self, key: str) -> None:
        """Presses and releases a key."""
        code = {"ArrowLeft": 37, "ArrowRight": 39, "Escape": 27, "Enter": 13, "Tab": 9, "Backspace": 8}.get(
            key, ord(key.upper()[0])
        )
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def view(self, width: int, height: int, dark: bool = False, phone: bool = False) -> None:
        """Sets the size of the window in CSS pixels, and the preferred colours."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self) -> bytes:
        """A screenshot as a PNG file."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        """Ends the browser."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._commands)
        os.close(self._answers)
        self._profile.cleanup()

    def _wait_for_load(self) -> None:
        while not self._loaded:
            self._receive()

    def _receive(self) -> dict[str, Any]:
        """The next message; events before it are recorded."""
        deadline = time.monotonic() + TIMEOUT
        while b"\0" not in self._buffer:
            if time.monotonic() > deadline:
                raise TimeoutError("the browser does not answer")
            chunk = os.read(self._answers, 1 << 20)
            if not chunk:
                raise RuntimeError("the browser has ended")
            self._buffer += chunk
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(raw)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, event: str | None, parameters: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.problems.append(str(parameters["args"]))
        elif event == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append(str(parameters["entry"]))


def opened_browser() -> Iterator[Browser]:
    """For fixtures: a browser that is closed afterwards; skips the test if none is installed."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium or Chrome is installed")
    browser = Browser(program)
    yield browser
    browser.close()


def save_screenshot(browser: Browser, file: Path) -> None:
    """Writes a screenshot as JPEG without colour subsampling, which keeps text sharp."""
    browser.evaluate(SETTLED)
    screenshot = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    screenshot.save(file, quality=88, subsampling=0, optimize=True)

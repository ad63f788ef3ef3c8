"""A real Chromium without a window, driven over WebDriver (W3C) by its own chromedriver."""

from __future__ import annotations

import base64
import http.client
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 60.0
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the name that the standard gives to references


class Browser:
    """One session with an empty profile."""

    def __init__(self, folder: Path, *, dark: bool = False) -> None:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if chromium is None or driver is None:
            pytest.skip("chromium is not installed (Debian: chromium and chromium-driver)")
        self._log = open(folder / "chromedriver.log", "w+")  # noqa: SIM115 - it lives as long as the driver
        self._process = subprocess.Popen([driver, "--port=0"], stdout=self._log, stderr=subprocess.STDOUT)
        try:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=PATIENCE_S)
            options = {
                "binary": chromium,
                "args": [*self._flags(folder), *(["--force-dark-mode"] if dark else [])],
            }
            made = self._call(
                "POST", "/session", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
            )
            self._session = f"/session/{made['sessionId']}"
        except BaseException:
            self.close()
            raise

    def _flags(self, folder: Path) -> list[str]:
        return [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1200,900",
            f"--user-data-dir={folder / 'profile'}",
        ]

    def _port(self) -> int:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            self._log.seek(0)
            found = re.search(r"successfully on port (\d+)", self._log.read())
            if found:
                return int(found[1])
            assert self._process.poll() is None, "chromedriver ended"
            time.sleep(0.05)
        raise AssertionError("chromedriver says no port")

    def _call(self, method: str, path: str, body: object = None) -> Any:
        self._connection.request(method, path, None if body is None else json.dumps(body))
        answer = json.loads(self._connection.getresponse().read())["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(f"{answer['error']}: {answer['message']}")
        return answer

    def open(self, address: str) -> None:
        self._call("POST", f"{self._session}/url", {"url": address})

    @property
    def address(self) -> str:
        return str(self._call("GET", f"{self._session}/url"))

    def run(self, script: str, *args: object) -> Any:
        """The value that a function body returns, in the page."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": list(args)})

    def fetched(self, script: str) -> Any:
        """As `run`, of a promise."""
        text = f"const done = arguments[0]; (async () => {{ {script} }})().then(done, (e) => done(String(e)))"
        return self._call("POST", f"{self._session}/execute/async", {"script": text, "args": []})

    @property
    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def until(self, holds: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, f"it never came:\n{self.text}"
            time.sleep(0.05)

    def click(self, label: str) -> None:
        """Presses the first button with this label, with the mouse."""
        path = f"//button[normalize-space()={label!r}]"
        found = self._call("POST", f"{self._session}/element", {"using": "xpath", "value": path})
        self._call("POST", f"{self._session}/element/{found[_ELEMENT]}/click", {})

    def screenshot(self, target: Path) -> None:
        target.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))

    def resize(self, width: int, height: int) -> None:
        self._call("POST", f"{self._session}/window/rect", {"width": width, "height": height})

    def close(self) -> None:
        with suppress(AttributeError, OSError, http.client.HTTPException, AssertionError):
            self._call("DELETE", self._session)
            self._connection.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

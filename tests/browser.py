"""A page in Chromium, for tests of what is drawn and done there.

Spoken to over its debugging pipe (file descriptors 3 and 4, JSON ended by a zero byte), so that no driver is needed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PIPES = """
import os, sys
for number, wanted in zip(sys.argv[1:3], (3, 4)):
    spare = os.dup(int(number))  # may be the very one
    os.dup2(spare, wanted)
    os.set_inheritable(wanted, True)
os.execv(sys.argv[3], sys.argv[3:])
"""
needs_browser = pytest.mark.skipif(BINARY is None, reason="there is no Chromium here: apt-get install chromium")


class Browser:
    """One page."""

    def __init__(self, reading: int, writing: int, *, offline: bool) -> None:
        self._in, self._out = os.fdopen(reading, "rb"), os.fdopen(writing, "wb")
        self._rest = b""
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send(
            "Network.emulateNetworkConditions", offline=offline, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )

    def send(self, method: str, **params: Any) -> Any:
        """Ask, and wait for the answer; events on the way are kept."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while (answer := self._receive()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._in.fileno(), 1 << 16)
            assert more, "Chromium has gone"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)  # type: ignore[no-any-return]

    def run(self, expression: str) -> Any:
        """The value of JavaScript in the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def show(self, page: Path | str, scheme: str, width: int, *, mobile: bool = False) -> None:
        """Open a file or an address, and wait until it is drawn."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=mobile)
        self.send("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        self.run(
            "new Promise(done => { const look = () => document.readyState === 'complete' && (document.querySelector('main') || location.href === 'about:blank')"
            " ? requestAnimationFrame(() => requestAnimationFrame(done)) : setTimeout(look, 20); look(); }).then(() => 1)"
        )

    def problems(self) -> list[Any]:
        """Errors and warnings of the page, and what it asked for besides itself."""
        found: list[Any] = []
        for event in self.events:
            match event:
                case {"method": "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded"}:
                    found.append(event["params"])
                case {"method": "Network.requestWillBeSent", "params": {"type": kind}} if kind != "Document":
                    found.append(event["params"])
        return found


@contextlib.contextmanager
def opened(folder: Path, *, offline: bool = True) -> Iterator[Browser]:
    """Chromium with one page.

    Args:
        folder: for its profile.
        offline: whether it has no network.
    """
    down, up = os.pipe(), os.pipe()  # to Chromium, from it
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run", "--disable-extensions",
        f"--user-data-dir={folder}",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", PIPES, str(down[0]), str(up[1]), str(BINARY), *options],
        pass_fds=(down[0], up[1]), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(down[0])
    os.close(up[1])
    made = Browser(up[0], down[1], offline=offline)
    try:
        yield made
    finally:
        made._session = None
        with contextlib.suppress(AssertionError, OSError):
            made.send("Browser.close")
        process.wait(30)
        made._in.close()
        made._out.close()

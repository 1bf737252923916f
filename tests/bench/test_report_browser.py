"""The report in Chromium without a network: no error, nothing requested, every figure to be seen, in both colour schemes.

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

from cloche_bench import report
from tests.bench.report_results import results

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PIPES = """
import os, sys
for number, wanted in zip(sys.argv[1:3], (3, 4)):
    spare = os.dup(int(number))  # may be the very one
    os.dup2(spare, wanted)
    os.set_inheritable(wanted, True)
os.execv(sys.argv[3], sys.argv[3:])
"""
pytestmark = pytest.mark.skipif(BINARY is None, reason="there is no Chromium here: apt-get install chromium")


class Browser:
    """One page."""

    def __init__(self, reading: int, writing: int) -> None:
        self._in, self._out = os.fdopen(reading, "rb"), os.fdopen(writing, "wb")
        self._rest = b""
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)

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

    def show(self, path: Path, scheme: str, width: int) -> None:
        """Open a file, and wait until it is drawn."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.send("Page.navigate", url=path.as_uri())
        self.run(
            "new Promise(done => { const look = () => document.readyState === 'complete' && document.querySelector('main')"
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


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    down, up = os.pipe(), os.pipe()  # to Chromium, from it
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run", "--disable-extensions",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", PIPES, str(down[0]), str(up[1]), str(BINARY), *options],
        pass_fds=(down[0], up[1]), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(down[0])
    os.close(up[1])
    made = Browser(up[0], down[1])
    try:
        yield made
    finally:
        made._session = None
        with contextlib.suppress(AssertionError, OSError):
            made.send("Browser.close")
        process.wait(30)
        made._in.close()
        made._out.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "page.html"
    report.write_html(results(node=True), path, old=results(slower=2.0), old_name="old.json")
    return path


@pytest.mark.parametrize("width", [1280, 390], ids=["wide", "narrow"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_drawn_and_nothing_goes_wrong(browser: Browser, page: Path, scheme: str, width: int) -> None:
    """What the author's machine showed, the reader's shows too."""
    browser.events.clear()
    browser.show(page, scheme, width)
    sizes = browser.run(
        "[...document.querySelectorAll('svg.figure, svg.bar, svg.dist')].filter(one => getComputedStyle(one).display !== 'none')"
        ".map(one => one.getBoundingClientRect()).map(box => [box.width, box.height])"
    )
    assert len(sizes) > 60
    assert min(min(size) for size in sizes) > 10
    assert browser.run("document.querySelectorAll('svg.figure').length") == 5
    drawn = browser.run(
        "[...document.querySelectorAll('svg.bar .fill, svg.figure .mark')].map(one => one.getBoundingClientRect()).map(b => b.height)"
    )
    assert min(drawn) > 3
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) > 380) == (scheme == "light")
    assert browser.run("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    assert browser.problems() == []


def test_the_reader_can_choose_sort_and_filter(browser: Browser, page: Path) -> None:
    """The tools do what they say, from the keyboard's events as well."""
    browser.show(page, "light", 1280)
    assert browser.run("theme.click(), [document.documentElement.dataset.theme, theme.textContent]") == [
        "dark",
        "Light",
    ]
    assert browser.run("theme.click(), document.documentElement.dataset.theme") == "light"

    visible = "[...document.querySelectorAll('article.case')].filter(one => one.offsetHeight).length"
    everything = browser.run(visible)
    browser.run("filter.value = 'Arrays leased', filter.dispatchEvent(new Event('input')), 1")
    assert browser.run(visible) == 3
    assert browser.run("count.textContent") == f"3 of {everything} cases"
    assert browser.run("[...document.querySelectorAll('section.group')].filter(one => one.offsetHeight).length") == 1

    rows = "[...document.querySelectorAll('.row.c1')].filter(one => one.offsetHeight).length"
    assert browser.run(rows) == 3
    browser.run("document.querySelector('.c1 input[data-contender]').click(), 1")
    assert browser.run(rows) == 0

    column = "[...document.querySelectorAll('#cases table')[0].tBodies[0].rows].map(row => row.cells[3].textContent)"
    head = "document.querySelectorAll('#cases table')[0].tHead.rows[0].cells[3]"
    browser.run(f"{head}.querySelector('button').click(), 1")
    assert browser.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    texts = [text for text in browser.run(column) if text[:1].isdigit()]
    units = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
    seconds = [float(text.split()[0].replace(",", "")) * units[text.split()[1]] for text in texts]
    assert len(seconds) > 10
    assert seconds == sorted(seconds)
    assert browser.problems() == []


def test_without_javascript_the_content_is_there(browser: Browser, page: Path) -> None:
    """Mail programs and strict readers run none."""
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.send("Page.navigate", url=page.as_uri())
        for _ in range(200):
            shown = browser.run("document.querySelectorAll('svg.bar').length * (document.readyState === 'complete')")
            if shown:
                break
        assert shown > 50
        assert browser.run("[theme.hidden, tools.hidden]") == [True, True], "tools that would do nothing are not shown"
        assert browser.run("document.querySelector('svg.bar').getBoundingClientRect().width") > 100
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)

"""The page of ``--serve`` in Chromium: the graph is drawn, the figures follow, nothing goes wrong, on a telephone as well."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloche.cli._options import Address
from cloche.cli._serve import Server
from cloche.cli._watch import Watch
from cloche.pipeline import NodeSpec, Pipeline, Skip
from tests.browser import Browser, needs_browser, opened

pytestmark = needs_browser
HOSTILE = "</title></script><img src=x onerror=alert(1)><b>bold</b>{title}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with opened(tmp_path_factory.mktemp("chromium"), offline=False) as made:
        yield made


@dataclass
class Running:
    url: str
    step: threading.Semaphore
    server: Server


@pytest.fixture
def running() -> Iterator[Running]:
    """Eight nodes with branches, of which the first one takes an item each time that the test lets it."""
    step = threading.Semaphore(0)

    def gate(item: int) -> int:
        step.acquire(timeout=100)
        return item

    def fails(item: int) -> int:
        raise ValueError(item)

    names = ["gate", *(f"a-node-with-quite-a-long-name-{number}" for number in range(5)), "bad", "end"]
    code = {"gate": gate, "bad": fails}
    nodes = [NodeSpec(code.get(name, abs), id=name, placement="native", on_error=Skip(), batch=1) for name in names]
    edges = [("gate", name) for name in names[1:-1]] + [(name, "end") for name in names[1:-1]]
    with Pipeline(nodes, edges) as pipeline:
        watch = Watch(pipeline)
        outputs = pipeline.run(range(100))
        taker = threading.Thread(target=lambda: list(outputs))
        taker.start()
        try:
            with Server(Address("127.0.0.1", 0), watch, pipeline.graph, HOSTILE) as server:
                yield Running(server.url, step, server)
        finally:
            for _ in range(100):
                step.release()
            taker.join(100)


def until(browser: Browser, condition: str) -> None:
    """Wait in the page until it is so."""
    met = browser.run(
        f"new Promise(done => {{ let left = 400; const look = () => ({condition}) ? done(true) : left-- > 0"
        " ? setTimeout(look, 50) : done(false); look(); })"
    )
    assert met, condition


@pytest.mark.parametrize("width", [1280, 390, 320], ids=["wide", "telephone", "small telephone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_graph_and_the_figures_are_shown(browser: Browser, running: Running, scheme: str, width: int) -> None:
    """In both colour schemes and at each width, without scrolling sideways, and without an error or a foreign request."""
    browser.show("about:blank", scheme, width)  # the page before asks no more
    browser.events.clear()
    browser.show(running.url, scheme, width, mobile=width < 1000)
    until(browser, "document.querySelectorAll('#graph g').length === 8")
    assert browser.run("document.querySelectorAll('#graph .edge').length") == 12
    boxes = browser.run(
        "[...document.querySelectorAll('#graph g')].map(one => one.getBoundingClientRect()).map(b => [b.left, b.top, b.right, b.bottom])"
    )
    assert min(box[2] - box[0] for box in boxes) > 100, "the names are too small to be read"
    assert min(box[0] for box in boxes) >= 0 and max(box[2] for box in boxes) <= width
    for at, one in enumerate(boxes):
        for other in boxes[at + 1 :]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1], (
                "two boxes overlap"
            )
    assert browser.run("document.querySelectorAll('#rows tr').length") == 8
    assert browser.run("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) > 380) == (scheme == "light")
    problems = browser.problems()
    asked = [one for one in problems if "request" in one]
    assert {one["request"]["url"] for one in asked} <= {f"{running.url}status.json"}
    assert [one for one in problems if one not in asked] == []


def test_the_figures_follow_the_run(browser: Browser, running: Running) -> None:
    """Without a reload; what goes wrong is marked; the last figures stay when the run has ended."""
    browser.show(running.url, "light", 1280)
    until(browser, "document.querySelectorAll('#rows tr').length === 8")
    for _ in range(3):
        running.step.release()
    until(browser, "rows.rows[0].cells[2].textContent === '3'")
    until(browser, "rows.rows[6].cells[10].textContent === '3'")
    assert browser.run("rows.rows[6].cells[10].className") == "bad"
    assert browser.run("document.querySelectorAll('#graph g')[6].classList.contains('broken')")
    for _ in range(2):
        running.step.release()
    until(browser, "rows.rows[0].cells[2].textContent === '5'")
    running.server.__exit__(None, None, None)
    until(browser, "state.textContent.startsWith('The run has ended')")
    assert browser.run("rows.rows[0].cells[2].textContent") == "5"


def test_a_name_is_a_text(browser: Browser, running: Running) -> None:
    """Whatever is in it: names are a stranger's."""
    browser.show(running.url, "light", 1280)
    until(browser, "document.querySelectorAll('#rows tr').length === 8")
    assert browser.run("[document.title, document.querySelector('h1').textContent]") == [HOSTILE, HOSTILE]
    assert browser.run("document.querySelectorAll('img, b').length") == 0


def test_the_pages_own_policy_holds(browser: Browser, running: Running, tmp_path: Path) -> None:
    """If a script got into the page, it would not run, nor could it send anything elsewhere."""
    browser.show(running.url, "light", 1280)
    browser.run(
        "{ const one = document.createElement('script'); one.textContent = 'window.hacked = 1'; document.body.append(one); } 1"
    )
    assert browser.run("window.hacked") is None
    assert browser.run("fetch('http://localhost:1/').then(() => 'sent', error => error.name)") == "TypeError"
    blocked = [event["params"]["entry"]["text"] for event in browser.events if event.get("method") == "Log.entryAdded"]
    assert sum("Content Security Policy" in text for text in blocked) >= 2, blocked

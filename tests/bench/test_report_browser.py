"""The report in Chromium without a network: no error, nothing requested, every figure to be seen, in both colour schemes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche_bench import report
from tests.bench.report_results import results
from tests.browser import Browser, needs_browser, opened

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with opened(tmp_path_factory.mktemp("chromium")) as made:
        yield made


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

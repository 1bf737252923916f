"""The report without a browser: that it is one file, holds everything, and that nothing in the results becomes markup."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cloche_bench import report
from cloche_bench import results as bench_results
from cloche_bench.report import _model, _scale, _theme
from tests.bench.report_results import CONTENDERS, HOSTILE, results

VOID = {"meta", "input", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """What a browser would make of the page; fails on tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def count(self, tag: str) -> int:
        """How many there are of a tag."""
        return sum(name == tag for name, _ in self.tags)


def write(tmp_path: Path, data: dict[str, Any], **options: Any) -> str:
    bench_results.validate(data, "made up")
    report.write_html(data, tmp_path / "page.html", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_every_case_and_every_contender_is_there(tmp_path: Path) -> None:
    """A report that leaves out what looks bad would be worth nothing."""
    data = results()
    page = Page(write(tmp_path, data))
    names = [attributes["data-name"] for tag, attributes in page.tags if tag == "article"]
    assert len(names) == len(data["cases"])
    for case, name in zip(
        sorted(data["cases"], key=lambda c: [g["id"] for g in data["groups"]].index(c["group"])), names, strict=True
    ):
        assert case["id"].lower() in (name or "")
    assert {f"label of {name}" for name in CONTENDERS} <= {text.strip() for text in page.texts["dt"]}
    assert "Native is not isolated." in page.texts["li"]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """Names of nodes, cases and machines are anybody's."""
    text = write(tmp_path, results(node=True), old=results(slower=2.0), old_name=HOSTILE)
    page = Page(text)
    assert "<script>alert" not in text
    assert page.count("script") == 1
    assert page.count("img") == 0
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert HOSTILE in "".join(page.texts["dd"]), "and it is shown as it is"


def test_the_page_may_load_nothing_and_run_its_own_script_only(tmp_path: Path) -> None:
    """One file, no network: the policy says so to the browser, by digest."""
    text = write(tmp_path, results())
    page = Page(text)
    policy = next(a["content"] or "" for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy and "http" not in policy
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}" in policy
    assert not [a for _, a in page.tags if "src" in a or "style" in a]
    assert all((a.get("href") or "").startswith("#") for tag, a in page.tags if tag in ("a", "use"))
    assert page.count("link") == 0
    assert "@import" not in text and "url(" not in text


def test_links_and_ids_fit_together(tmp_path: Path) -> None:
    """Contents, skip link and the shared lines of the bars."""
    page = Page(write(tmp_path, results(node=True), old=results(slower=2.0), old_name="old.json"))
    assert len(set(page.ids)) == len(page.ids)
    targets = {a["href"][1:] for tag, a in page.tags if tag in ("a", "use") and a["href"]}
    assert targets <= set(page.ids)
    assert {"summary", "unfair", "node", "timeline-section", "comparison", "cases", "machine"} <= set(page.ids)


def test_every_figure_has_a_text_and_a_table(tmp_path: Path) -> None:
    """For those who cannot see it."""
    text = write(tmp_path, results(node=True), old=results(slower=2.0), old_name="old.json")
    figures = re.findall(r"<figure.*?</figure>", text, re.DOTALL)
    assert len(figures) == 5, "ratios, node, timeline, sizes, changes"
    for figure in figures:
        drawn = re.search(r'<svg class="figure" role="img" aria-label="([^"]+)"', figure)
        assert drawn and len(drawn[1]) > 30
        assert figure.count("<td>") > 3 and "<figcaption>" in figure
    assert text.count("<h3>") >= 4


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    """A run may be interrupted, or have one contender."""
    data = results()
    data |= {
        "timeline": None,
        "geomean": {},
        "unfair": [],
        "cases": data["cases"][-1:],
        "notes": ["a note"],
        "interrupted": True,
    }
    data["cases"][0]["contenders"]["epoch"] = {"error": "it broke"}
    del data["groups"][0]["about"]
    page = Page(write(tmp_path, data))
    assert "figure" not in page.texts
    assert page.count("figure") == 0
    assert page.texts["span"].count("it broke") == 1
    assert "a note" in page.texts["p"]


@pytest.mark.parametrize(
    "change",
    [
        {"timeline": {"phases": [{"name": 3, "start": "x"}, None]}},
        {"timeline": []},
        {"node": {"inputs": "many", "memory": 3, "per_call": "x", "advice": [None]}},
        {"geomean": {"epoch": {"python": {"ratio": -1}}}},
        {"machine": {"load": "high", "cores": None}},
        {"contenders": []},
    ],
    ids=["phases", "timeline", "node", "geomean", "machine", "contenders"],
)
def test_odd_values_do_not_break_the_page(tmp_path: Path, change: dict[str, Any]) -> None:
    """The file may come from another version, or from a stranger."""
    assert "</html>" in write(tmp_path, results() | change)


def test_odd_samples_do_not_break_a_row(tmp_path: Path) -> None:
    """Equal samples have no spread, and a clock may say 0."""
    data = results()
    entries = data["cases"][0]["contenders"]
    entries["epoch"]["samples"] = [1e-6] * 200
    entries["fuel"]["samples"] = ["x", None, -1, 0.0, float("inf")]
    entries["none"] |= {"median": 0, "min": 0, "ratio": 0.0, "ratio_low": 0, "ratio_high": 0}
    entries["guard"].pop("samples")
    text = write(tmp_path, data)
    assert "nan" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert Page(text)


def test_a_full_run_stays_below_a_megabyte(tmp_path: Path) -> None:
    """It is mailed, and opened on telephones."""
    data = results(cases=55)
    assert len(data["cases"]) > 115
    assert len(write(tmp_path, data).encode()) < 1_000_000


def test_a_comparison_shows_what_has_changed(tmp_path: Path) -> None:
    """And what it was compared with."""
    text = write(tmp_path, results(slower=3.0), old=results(), old_name="monday.json")
    assert "Compared with monday.json" in text
    assert re.search(r"comparisons: 0 faster, \d+ slower", text)
    assert "New over old" in text


def test_figures_are_files_of_their_own(tmp_path: Path) -> None:
    """For a README: in two palettes, small, well-formed, with a title."""
    written = report.write_figures(results(), tmp_path / "figures")
    assert sorted(path.name for path in written) == [
        f"{name}-{scheme}.svg" for name in ("ratios", "size", "timeline") for scheme in ("dark", "light")
    ]
    for path in written:
        assert path.stat().st_size < 150_000
        root = ET.fromstring(path.read_text(encoding="utf-8"))  # written here
        assert root.find("{http://www.w3.org/2000/svg}title") is not None
        assert "http" not in path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")


def test_the_report_of_a_saved_run(tmp_path: Path) -> None:
    """The command of the module, and its errors."""
    (tmp_path / "run.json").write_text(json.dumps(results()))
    command = [sys.executable, "-m", "cloche_bench.report", "run.json", "--html", "page.html", "--figures", "figures"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "page.html").stat().st_size > 10_000
    assert len(list((tmp_path / "figures").iterdir())) == 6
    (tmp_path / "run.json").write_text("{}")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "schema is missing" in done.stderr


def test_the_bench_writes_it(tmp_path: Path) -> None:
    """From measurement to page, as a user does it."""
    command = [
        sys.executable, "-m", "cloche.cli", "bench", "--only", "passthrough/int", "--contenders", "native,epoch",
        "--seconds", "0.01", "--html", "page.html", "--figures", "figures", "--json", "run.json", "--compare", "old.json",
    ]  # fmt: skip
    (tmp_path / "old.json").write_text(json.dumps(results()))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [a["data-name"] for tag, a in page.tags if tag == "article"] == ["3 pass-through passthrough/int int"]
    assert "Compared with old.json" in page.texts["h2"]
    assert (tmp_path / "figures" / "ratios-light.svg").is_file()


def test_a_report_that_cannot_be_written_is_refused_before_measuring(tmp_path: Path) -> None:
    """A full run takes a quarter of an hour."""
    command = [sys.executable, "-m", "cloche.cli", "bench", "--html", "missing/page.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        f"error: --html: there is no folder {tmp_path}/missing for missing/page.html\n",
    )


def test_the_results_are_not_changed(tmp_path: Path) -> None:
    """They are written after the report, perhaps."""
    data = results(node=True)
    before = copy.deepcopy(data)
    write(tmp_path, data)
    assert data == before


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ns"),
        (1.234e-9, "1.23 ns"),
        (9.999e-7, "1.00 µs"),
        (12.3e-6, "12.3 µs"),
        (0.5, "500 ms"),
        (75, "75.0 s"),
        (1234.5, "1,234 s"),
    ],
)
def test_times_have_a_unit_and_three_digits(seconds: float, text: str) -> None:
    """The reader compares them by eye."""
    assert _scale.time_text(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(None, "–"), (1.0, "1×"), (0.02326, "0.0233×"), (2.345, "2.35×"), (1387, "1,387×"), (147_030, "147k×")],
)
def test_ratios_stay_short(ratio: float | None, text: str) -> None:
    """They stand in a narrow column."""
    assert _scale.ratio_text(ratio) == text


@pytest.mark.parametrize(("low", "high"), [(1, 2), (0.9, 1.1), (1e-9, 1e3), (0.02, 1400), (99, 101)])
def test_axes_have_some_ticks_inside(low: float, high: float) -> None:
    """Too few cannot be read, too many lie on each other."""
    axis = _scale.Log.around([low, high])
    ticks = axis.ticks(8)
    assert 1 <= len(ticks) <= 8
    assert all(0 <= axis.at(tick) <= 1 for tick in ticks) and ticks == sorted(ticks)
    assert axis.at(low * 1e-6) == 0 and axis.at(high * 1e6) == 1 and axis.at(0) == 0


@pytest.mark.parametrize("high", [10**power for power in range(1, 12)])
def test_ratios_have_a_tick_at_one(high: float) -> None:
    """It is what they are compared with."""
    assert 1.0 in _scale.Log.around([1e-3, high]).ticks(7)


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("palette", [_theme.LIGHT, _theme.DARK], ids=["light", "dark"])
def test_colours_can_be_told_from_their_paper(palette: str) -> None:
    """WCAG 2.2: 4.5:1 for text, 3:1 for what is drawn."""
    colours = dict(re.findall(r"--([a-z0-9-]+):(#[0-9a-f]+)", palette))
    for name, least, paper in [
        *((name, 4.5, "paper") for name in ("ink", "soft", "accent")),
        *((name, 4.5, "raise") for name in ("ink", "soft")),
        ("note-ink", 4.5, "note"),
        *((name, 3.0, "paper") for name in colours if re.fullmatch(r"[cp]\d|good|bad|base", name)),
    ]:
        light, dark = sorted((luminance(colours[name]), luminance(colours[paper])), reverse=True)
        contrast = (light + 0.05) / (dark + 0.05)
        assert contrast >= least, f"{name} on {paper}: {contrast:.2f}"


@pytest.mark.parametrize(
    ("default", "main"), [("guard", "guard"), ("epoch", "epoch"), (None, "guard"), ("odd", "guard")]
)
def test_headlines_are_about_the_default_of_where_the_run_was_made(default: str | None, main: str) -> None:
    """A file says which metering was the default there; one that does not say it is read as made on Linux on x86-64."""
    found = _model.read(results() | ({"default": default} if default else {})).main
    assert found is not None
    assert found.id == main

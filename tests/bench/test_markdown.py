"""The page of documentation: everything that its reader has to know stands on it, and nothing breaks its tables."""

from __future__ import annotations

from typing import Any

from cloche_bench import markdown, published
from tests.bench.test_results import made


def results(**changes: Any) -> dict[str, Any]:
    data = made() | {
        "created": "2026-01-02T03:04:05Z",
        "command": "cloche bench --markdown page.md",
        "machine": {"cpu": "Abacus 9", "cores": 4, "memory_bytes": 8 << 30, "os": "Debian", "kernel": "6.1", "load": [0.1, 0, 0]},
        "versions": {"cloche": "0.1.0", "image": "0123456789abcdef", "python": "3.11.2", "guest_python": "3.13.5"},
        "contenders": [
            {"id": name, "label": name.title(), "note": f"what {name} is"} for name in ("native", "epoch", "monty")
        ],
        "unfair": ["Versions differ."],
        "notes": ["something was left out"],
        "groups": [{"id": "python", "title": "Pure Python", "about": "Kernels."}],
        "published": [published.RUSTPYTHON],
    }  # fmt: skip
    return data | changes


def test_the_page_says_where_when_and_what_is_unfair() -> None:
    page = markdown.render(results())
    assert "Written by `cloche bench --markdown page.md` on 2026-01-02" in page
    assert "| machine | Abacus 9, 4 cores, 8 GiB |" in page
    assert "| Python | native 3.11.2, guest 3.13.5 |" in page
    assert "## What is unfair\n\n- Versions differ.\n- Something was left out.\n" in page
    assert "| Epoch | what epoch is |" in page
    assert "busy" not in page


def test_a_case_has_its_median_and_ratio_with_the_interval() -> None:
    """And a contender without any figure in a group has no column there."""
    page = markdown.render(results())
    assert "| case | Native | Epoch |\n| --- | ---: | ---: |\n| made | 1 ms | 2 ms<br>2.00x (" in page
    assert "| Pure Python | 2.00x (" in page


def test_published_figures_stand_apart_as_a_quotation() -> None:
    """Only beside the cases that they are of."""
    data = results()
    data["cases"][0]["id"] = "passthrough/int"
    page = markdown.render(data)
    assert "| case | Native | Epoch | *RustPython, published* |" in page
    assert page.split("| made | ")[1].splitlines()[0].endswith("| 102 us |")
    assert "RustPython" not in markdown.render(results())


def test_what_could_not_run_is_listed_with_the_reason() -> None:
    data = results()
    data["cases"][0]["contenders"]["monty"]["error"] = "no a | b"
    assert "| Monty | no a \\| b | 1 | python/made |" in markdown.render(data)


def test_a_busy_machine_is_told() -> None:
    busy = results()["machine"] | {"load": [3.5, 1, 1]}
    assert "**The machine was busy** (load 3.5 on 4 cores)" in markdown.render(results(machine=busy))


def test_an_empty_run_makes_a_page() -> None:
    assert markdown.render(results(cases=[], groups=[], geomean={})).startswith("# Benchmarks\n")

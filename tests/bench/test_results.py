"""The file of results: what is written is read again, and what is none is refused with the place."""

from __future__ import annotations

import copy
import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from cloche_bench import results
from cloche_bench.case import Case
from cloche_bench.measure import Lane
from cloche_bench.operations import Operation

CASE = Case(id="python/made", title="made", make=lambda _: Operation(lambda: None), items=5, bytes=100)


def made() -> dict[str, Any]:
    """A small file, from lanes."""
    lanes = [
        Lane("native", rounds=[[1e-3, 1e-3], [1e-3, 3e-3]]),
        Lane("epoch", rounds=[[2e-3, 2e-3], [2e-3, 2e-3]]),
        Lane("monty", error="it has no yield"),
    ]
    entry = results.case_entry(CASE, lanes, random.Random(1))
    return {
        "schema": 1, "created": "2026-01-01T00:00:00Z", "quick": True, "command": "cloche bench", "interrupted": False,
        "machine": {}, "versions": {}, "flags": {}, "contenders": [{"id": "native", "label": "native"}], "unfair": [],
        "groups": [{"id": "python", "title": "Python"}], "cases": [entry],
        "geomean": results.geomeans([entry], ["native", "epoch", "monty"]), "node": None, "timeline": None,
    }  # fmt: skip


def test_the_figures_of_a_case() -> None:
    """Each by hand."""
    figures = made()["cases"][0]["contenders"]
    native, epoch = figures["native"], figures["epoch"]
    assert (native["n"], native["median"], native["min"], native["max"]) == (4, 1e-3, 1e-3, 3e-3)
    assert native["mean"] == pytest.approx(1.5e-3)
    assert native["stdev"] == pytest.approx(1e-3)
    assert native["p95"] == pytest.approx(2.7e-3)
    assert native["throughput"] == pytest.approx(5 / 1.5e-3)
    assert (native["ratio"], native["ratio_low"], native["ratio_high"]) == (1, 1, 1)
    assert epoch["ratio"] == pytest.approx(2.0)
    assert epoch["ratio_low"] <= 2.0 <= epoch["ratio_high"]
    assert epoch["samples"] == [2e-3] * 4
    monty = figures["monty"]
    assert monty.pop("error") == "it has no yield"
    assert monty.keys() >= {"median", "p99", "throughput", "ratio"} and set(monty.values()) == {None}


def test_without_native_there_is_no_ratio() -> None:
    entry = results.case_entry(CASE, [Lane("epoch", rounds=[[1e-3], [1e-3]])], random.Random(1))
    assert entry["contenders"]["epoch"]["ratio"] is None
    assert results.geomeans([entry], ["epoch"]) == {"epoch": {}}


def test_the_means_leave_out_what_could_not_run() -> None:
    means = made()["geomean"]
    assert means["epoch"]["python"]["ratio"] == pytest.approx(2.0)
    assert means["monty"] == {}


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    data = made()
    results.save(data, tmp_path / "r.json")
    assert results.load(tmp_path / "r.json") == data
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_a_file_that_cannot_be_written_whole_is_not_written(tmp_path: Path) -> None:
    """JSON has no NaN: the old file stays."""
    results.save(made(), tmp_path / "r.json")
    before = (tmp_path / "r.json").read_text()
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.save({"value": float("nan")}, tmp_path / "r.json")
    assert (tmp_path / "r.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_csv_has_a_row_for_each_case_and_contender(tmp_path: Path) -> None:
    results.save_csv(made(), tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["contender"]) for row in rows] == [
        ("python/made", "native"), ("python/made", "epoch"), ("python/made", "monty"),
    ]  # fmt: skip
    assert float(rows[1]["ratio"]) == pytest.approx(2.0)
    assert (rows[2]["median"], rows[2]["error"]) == ("", "it has no yield")


def without(path: str) -> dict[str, Any]:
    data = copy.deepcopy(made())
    *way, last = path.split(".")
    place: Any = data
    for step in way:
        place = place[int(step)] if step.isdigit() else place[step]
    del place[last]
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "r.json: it is no object: these are no results of cloche bench"),
        (
            {"schema": 2} | {k: v for k, v in made().items() if k != "schema"},
            "r.json has schema 2, this Cloche reads 1",
        ),
        (without("machine"), "r.json: machine is missing"),
        (made() | {"quick": 1}, "r.json: quick is int, not bool"),
        (without("cases.0.title"), "r.json: cases[0].title is missing"),
        (without("cases.0.contenders.epoch.p99"), "r.json: cases[0].contenders.epoch.p99 is None, not a number"),
        (without("contenders.0.label"), "r.json: contenders[0].label is missing"),
    ],
    ids=["list", "schema", "top", "type", "case", "figure", "contender"],
)
def test_what_is_no_result_is_refused_with_the_place(data: Any, message: str) -> None:
    with pytest.raises(results.ResultsError) as caught:
        results.validate(data, "r.json")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0, "1", True, None])
def test_a_figure_is_a_finite_number(value: Any) -> None:
    data = made()
    data["cases"][0]["contenders"]["epoch"]["mean"] = value
    with pytest.raises(results.ResultsError, match=r"contenders\.epoch\.mean is "):
        results.validate(data, "r.json")


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("<html>")
    with pytest.raises(results.ResultsError, match="is not JSON"):
        results.load(tmp_path / "r.json")


def test_written_json_is_json_for_everyone(tmp_path: Path) -> None:
    """No NaN and no Infinity, which other readers refuse."""
    results.save(made(), tmp_path / "r.json")

    def refuse(word: str) -> None:
        raise AssertionError(word)

    assert json.loads((tmp_path / "r.json").read_text(), parse_constant=refuse)

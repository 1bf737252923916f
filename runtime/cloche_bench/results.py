"""The file of results: how it is made from what was timed, written as JSON or CSV, read again and checked."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

from cloche._atomic_file import AtomicFile
from cloche.errors import ClocheError
from cloche_bench import stats
from cloche_bench.case import Case
from cloche_bench.measure import Lane

__all__ = [
    "SCHEMA",
    "ResultsError",
    "case_entry",
    "failures",
    "geomeans",
    "load",
    "rows",
    "save",
    "save_csv",
    "validate",
]

SCHEMA: Final = 1
MAX_SAMPLES: Final = 200
FIGURES: Final = ("median", "mean", "p95", "p99", "min", "max", "stdev", "throughput")
_ALL: Final = ("n", *FIGURES, "ratio", "ratio_low", "ratio_high")
COLUMNS: Final = ("case", "title", "contender", *_ALL, "error")


class ResultsError(ClocheError):
    """A file holds no results of ``cloche bench``, or results of another version; the message says which part is wrong."""


def case_entry(case: Case, lanes: Sequence[Lane], rng: Random) -> dict[str, Any]:
    """A case as it stands in the file, with the figures of every contender."""
    native = next((lane for lane in lanes if lane.id == "native" and lane.rounds), None)
    rounds = min((len(lane.rounds) for lane in lanes if lane.rounds), default=0)
    chosen = stats.picks(rounds, rng) if rounds else []
    base = stats.bootstrap_medians(_medians(native, rounds), chosen) if native else None
    base_median = statistics.median(_flat(native)) if native else None
    entries: dict[str, Any] = {}
    for lane in lanes:
        if not lane.rounds:
            entries[lane.id] = dict.fromkeys(_ALL) | {"error": lane.error or "not measured"}
            continue
        figures = _figures(lane, case.items)
        resampled = stats.bootstrap_medians(_medians(lane, rounds), chosen)
        figures["low"], figures["high"] = stats.interval(resampled, figures["median"])
        figures["ratio"] = figures["ratio_low"] = figures["ratio_high"] = None
        if base is not None and base_median:
            ratio = figures["median"] / base_median
            low, high = (1.0, 1.0) if lane is native else stats.ratio_interval(resampled, base, ratio)
            figures.update(ratio=ratio, ratio_low=low, ratio_high=high)
        entries[lane.id] = figures
    return {
        "id": case.id,
        "group": case.group,
        "title": case.title,
        "unit": "s",
        "bytes": case.bytes,
        "items": case.items,
        "contenders": entries,
    }


def _flat(lane: Lane) -> list[float]:
    return [sample for samples in lane.rounds for sample in samples]


def _medians(lane: Lane, rounds: int) -> list[float]:
    return [statistics.median(samples) for samples in lane.rounds[:rounds]]


def _figures(lane: Lane, items: int) -> dict[str, Any]:
    ordered = sorted(_flat(lane))
    mean = statistics.fmean(ordered)
    return {
        "n": len(ordered),
        "loops": lane.loops,
        "rounds": len(lane.rounds),
        "preempted": lane.preempted,
        "median": stats.quantile(ordered, 0.5),
        "mean": mean,
        "p95": stats.quantile(ordered, 0.95),
        "p99": stats.quantile(ordered, 0.99),
        "min": ordered[0],
        "max": ordered[-1],
        "stdev": statistics.stdev(ordered) if len(ordered) > 1 else 0.0,
        "throughput": items / mean if mean else 0.0,
        "samples": stats.thinned(ordered, MAX_SAMPLES),
    }


def geomeans(cases: Sequence[Mapping[str, Any]], contenders: Sequence[str]) -> dict[str, Any]:
    """Geometric means of the ratios to native, by contender and group, over the cases that have a ratio."""
    found: dict[str, dict[str, Any]] = {}
    for contender in contenders:
        if contender == "native":
            continue
        by_group: dict[str, list[tuple[float, float, float]]] = {}
        for case in cases:
            figures = case["contenders"].get(contender, {})
            if figures.get("ratio"):
                ratios = by_group.setdefault(case["group"], [])
                ratios.append((figures["ratio"], figures["ratio_low"], figures["ratio_high"]))
        found[contender] = {
            group: dict(zip(("ratio", "low", "high"), stats.geomean(ratios), strict=True)) | {"cases": len(ratios)}
            for group, ratios in by_group.items()
        }
    return found


def rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures as rows, one for each case and contender."""
    return [
        {"case": case["id"], "title": case["title"], "contender": contender}
        | {name: figures.get(name) for name in COLUMNS[3:]}
        for case in results["cases"]
        for contender, figures in case["contenders"].items()
    ]


def failures(results: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """What could not run: the contender, the reason, and the ids of the cases that failed for that reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows(results):
        if row["error"]:
            found.setdefault((row["contender"], row["error"]), []).append(row["case"])
    return [(contender, error, ids) for (contender, error), ids in found.items()]


def save_csv(results: Mapping[str, Any], path: Path) -> None:
    """Write the rows as CSV; the file appears whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows(results))
    with AtomicFile(path) as file:
        file.write(text.getvalue().encode())


def save(results: Mapping[str, Any], path: Path) -> None:
    """Write the results as JSON; the file appears whole or not at all."""
    text = json.dumps(results, indent=1, allow_nan=False)
    with AtomicFile(path) as file:
        file.write(f"{text}\n".encode())


def load(path: Path) -> dict[str, Any]:
    """Read and check a file of results.

    Raises:
        ResultsError: the file holds no results of this version.
        OSError: the file cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResultsError(f"{path} is not JSON: {error}") from error
    validate(data, str(path))
    return data  # type: ignore[no-any-return]  # a dict: validate has seen to it


_TOP: Final[dict[str, Any]] = {
    "schema": int, "created": str, "quick": bool, "command": str, "machine": dict, "versions": dict, "flags": dict,
    "contenders": list, "unfair": list, "groups": list, "cases": list, "geomean": dict,
}  # fmt: skip
_CASE: Final[dict[str, Any]] = {"id": str, "group": str, "title": str, "items": int, "contenders": dict}


def validate(data: Any, name: str) -> None:
    """Check that a value has the form of results, as far as readers rely on it.

    Raises:
        ResultsError: it has another form; the message names the first place that differs.
    """
    _has(data, _TOP, name, "")
    if data["schema"] != SCHEMA:
        raise ResultsError(f"{name} has schema {data['schema']}, this Cloche reads {SCHEMA}: run its bench again")
    for index, contender in enumerate(data["contenders"]):
        _has(contender, {"id": str, "label": str}, name, f"contenders[{index}]")
    for index, group in enumerate(data["groups"]):
        _has(group, {"id": str, "title": str}, name, f"groups[{index}]")
    for index, case in enumerate(data["cases"]):
        where = f"cases[{index}]"
        _has(case, _CASE, name, where)
        for contender, figures in case["contenders"].items():
            place = f"{where}.contenders.{contender}"
            if not isinstance(figures, dict):
                raise ResultsError(f"{name}: {place} is no object")
            if "error" in figures:
                continue
            for field in FIGURES:
                value: Any = figures.get(field)
                if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
                    raise ResultsError(f"{name}: {place}.{field} is {value!r}, not a number of seconds or items")


def _has(value: Any, fields: Mapping[str, type], name: str, where: str) -> None:
    if not isinstance(value, dict):
        raise ResultsError(f"{name}: {where or 'it'} is no object: these are no results of cloche bench")
    for field, kind in fields.items():
        place = f"{where}.{field}" if where else field
        if field not in value:
            raise ResultsError(f"{name}: {place} is missing: these are no results of cloche bench")
        if not isinstance(value[field], kind) or (kind is int and isinstance(value[field], bool)):
            raise ResultsError(f"{name}: {place} is {type(value[field]).__name__}, not {kind.__name__}")

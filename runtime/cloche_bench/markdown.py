"""Results as a page of Markdown (docs/reference/benchmarks.md): what was measured, on which machine, and what is unfair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cloche._atomic_file import AtomicFile
from cloche_bench.results import failures
from cloche_bench.table import duration, ratio

__all__ = ["render", "save"]

_HOW = """\
Each case is run by all contenders in one process, in turns: a round is a short burst of each, in random order, so that whatever
else the machine does falls on all alike. Every contender runs the same source and must give the same results, or it is
refused. A figure is the median of one operation; beside it stands the ratio to native, with a 95 % interval from a
bootstrap over rounds. Samples during which the kernel gave the processor to another program are left out where there are
others. `cloche bench --json` has the mean, P95, P99, minimum, maximum, standard deviation and throughput too, and
`cloche bench --compare OLD.json` says what changed, where that is outside the noise."""


def save(results: Mapping[str, Any], path: Path) -> None:
    """Write the page into a file, which appears whole or not at all."""
    with AtomicFile(path) as file:
        file.write(render(results).encode())


def render(results: Mapping[str, Any]) -> str:
    """The text of the page."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    machine, versions = results["machine"], results["versions"]
    yield "# Benchmarks"
    yield ""
    yield f"Written by `{results['command']}` on {results['created'][:10]}; do not edit."
    yield ""
    yield from _table(("what", "value"), _facts(results, machine, versions), "ll")
    cores = machine.get("cores") or 1
    if machine["load"][0] > cores / 2:
        yield f"**The machine was busy** (load {machine['load'][0]} on {cores} cores): take the ratios, not the times."
        yield ""
    yield "## How it is measured"
    yield ""
    yield _HOW
    yield ""
    yield "## What is unfair"
    yield ""
    for sentence in results["unfair"]:
        yield f"- {sentence}"
    for note in results.get("notes", ()):
        yield f"- {note[:1].upper()}{note[1:]}."
    yield ""
    yield "## Contenders"
    yield ""
    yield from _table(("contender", "what it is"), [(c["label"], c["note"]) for c in results["contenders"]], "ll")
    if any(results["geomean"].values()):
        yield "## In short: geometric means of the ratios to native"
        yield ""
        yield from _geomeans(results)
    for group in results["groups"]:
        yield f"## {group['title']}"
        yield ""
        yield group["about"]
        yield ""
        yield from _group(results, group["id"])
    failed = failures(results)
    if failed:
        yield "## What could not run"
        yield ""
        labels = {c["id"]: c["label"] for c in results["contenders"]}
        rows = [(labels.get(who, who), _cell(why), str(len(ids)), ", ".join(ids[:3])) for who, why, ids in failed]
        yield from _table(("contender", "why", "cases", "for example"), rows, "llrl")


def _facts(
    results: Mapping[str, Any], machine: Mapping[str, Any], versions: Mapping[str, str]
) -> list[tuple[str, str]]:
    flags = ", ".join(f"{name}={value}" for name, value in results["flags"].items())
    return [
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / (1 << 30):.0f} GiB"),
        ("system", f"{machine['os']}, Linux {machine['kernel']}"),
        ("load before", ", ".join(map(str, machine["load"]))),
        ("Cloche", f"{versions.get('cloche', 'none')}, image {versions.get('image', 'none')[:12]}"),
        ("Python", f"native {versions.get('python', '?')}, guest {versions.get('guest_python', 'none')}"),
        ("numpy", f"native {versions.get('numpy', 'none')}, guest {versions.get('guest_numpy', 'none')}"),
        ("wasmtime", versions.get("wasmtime", "none")),
        ("flags", flags),
    ]


def _geomeans(results: Mapping[str, Any]) -> Iterator[str]:
    chosen = [c for c in results["contenders"] if results["geomean"].get(c["id"])]
    rows = []
    for group in results["groups"]:
        means = [results["geomean"][c["id"]].get(group["id"]) for c in chosen]
        if any(means):
            rows.append((group["title"], *[_ratio(m["ratio"], m["low"], m["high"]) if m else "" for m in means]))
    yield from _table(("group", *[c["label"] for c in chosen]), rows, "l" + "r" * len(chosen))


def _group(results: Mapping[str, Any], group: str) -> Iterator[str]:
    cases = [case for case in results["cases"] if case["group"] == group]
    contenders = [
        c for c in results["contenders"] if any(case["contenders"].get(c["id"], {}).get("median") for case in cases)
    ]
    quoted = [q for q in results.get("published", ()) if any(case["id"] in q["cases"] for case in cases)]
    rows = [
        (
            case["title"],
            *[_figures(case["contenders"].get(c["id"], {})) for c in contenders],
            *[duration(q["cases"][case["id"]]) if case["id"] in q["cases"] else "" for q in quoted],
        )
        for case in cases
    ]
    heads = ("case", *[c["label"] for c in contenders], *[f"*{q['label']}*" for q in quoted])
    yield from _table(heads, rows, "l" + "r" * (len(heads) - 1))


def _figures(figures: Mapping[str, Any]) -> str:
    if figures.get("median") is None:
        return ""
    if figures["ratio"] in (None, 1.0):
        return duration(figures["median"])
    return f"{duration(figures['median'])}<br>{_ratio(figures['ratio'], figures['ratio_low'], figures['ratio_high'])}"


def _ratio(value: float, low: float, high: float) -> str:
    return f"{ratio(value)} ({low:.3g} to {high:.3g})" if high < 1000 else f"{ratio(value)} ({low:,.0f} to {high:,.0f})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' if side == 'l' else '---:' for side in align)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""

"""The page: one HTML file that loads no other. Texts come from the file of results, and the template escapes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cloche_bench import compare
from cloche_bench.report import _calls, _figure, _node, _ratios, _rows, _sizes, _theme
from cloche_bench.report._model import Case, Figures, Group, Report, number
from cloche_bench.report._scale import Log, bytes_text, count_text, ratio_text, time_text

__all__ = ["page"]

_COLUMNS: Final = (
    "case", "contender", "samples", "median", "mean", "p95", "p99", "min", "max", "stdev", "per second", "ratio",
    "95 % interval",
)  # fmt: skip
_TILES: Final = (
    ("passthrough/dict", "One call, a dict of 5 keys"),
    ("create/x3", "New sandbox, one call, closed"),
    ("arrays/copied-1MiB", "1 MiB array, in and out"),
    ("arrays/leased-1MiB", "1 MiB array, leased"),
    ("clone/2MiB", "Clone with 2 MiB of state"),
)
_GROUP_TILES: Final = (("pyperformance", "Python programs"), ("numpy", "numpy"))


def page(report: Report, *, old: Mapping[str, Any] | None = None, old_name: str = "") -> str:
    """The text of the page.

    Args:
        report: what to show.
        old: an earlier run to compare with.
        old_name: the name of that run.
    """
    environment = Environment(
        loader=PackageLoader("cloche_bench.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    style, script = _theme.page_style(), _theme.page_script()
    raw = report.raw
    ratios, timeline = _ratios.means(report), _calls.timeline(raw.get("timeline"))
    sizes = [figure for group in report.groups if (figure := _sizes.sizes(report, group))]
    node = _node.section(raw.get("node"))
    comparison = _comparison(report, old, old_name) if old else None
    title = f"{node['name']} in the sandbox" if node else "Native CPython against WebAssembly"
    return environment.get_template("page.html.j2").render(
        title=title,
        subtitle=_subtitle(raw),
        warnings=list(_warnings(raw)),
        versions=raw["versions"],
        command=raw["command"],
        csp=Markup(_theme.csp(style, script)),  # no text of the results in it
        style=Markup(style),
        script=Markup(script),
        shapes=_figure.SHAPES,
        phases=[(name, _calls.phase_slot(name)) for name in (*_calls.PHASES, "rest")],
        contenders=report.contenders,
        tiles=[] if node else list(_tiles(report)),
        contents=_contents(report, ratios, node, timeline, sizes, comparison),
        ratios=ratios,
        unfair=report.unfair,
        node=node,
        timeline=timeline,
        sizes=sizes,
        comparison=comparison,
        columns=_COLUMNS,
        groups=[_group(group, report) for group in report.groups],
        spread_axis=_rows.axis(_rows.SPREAD, most=5),
        facts=list(_facts(raw)),
    )


def _contents(
    report: Report, ratios: Any, node: Any, timeline: Any, sizes: Sequence[Any], comparison: Any
) -> list[tuple[str, str]]:
    found = [
        ("summary", "Ratios to native", ratios),
        ("unfair", "What is unfair", report.unfair),
        ("node", "Your node", node),
        ("timeline-section", "One call", timeline),
        *((f"{figure.id}-section", figure.title.partition(":")[0], True) for figure in sizes),
        ("comparison", "Comparison", comparison),
        ("cases", "Every case", True),
        *((f"group-{index}", group.title, True) for index, group in enumerate(report.groups, 1)),
        ("machine", "Machine, versions", True),
        ("contenders", "Contenders", True),
    ]
    return [(name, text) for name, text, there in found if there]


def _subtitle(raw: Mapping[str, Any]) -> str:
    machine, versions = raw["machine"], raw["versions"]
    cores = f"{machine.get('cores')} cores" if machine.get("cores") else ""
    parts = [
        str(raw["created"]).replace("T", " ").replace("Z", " UTC"),
        ", ".join(filter(None, (str(machine.get("cpu") or ""), cores))),
        f"Cloche {versions.get('cloche', '?')}",
        f"native Python {versions.get('python', '?')}",
        f"guest Python {versions.get('guest_python', '?')}",
        f"{len(raw['cases'])} cases",
    ]
    return " · ".join(filter(None, parts))


def _warnings(raw: Mapping[str, Any]) -> Iterator[str]:
    if raw["quick"]:
        yield "A quick run: fewer cases and samples, so wider intervals. Publish a full one."
    load, cores = raw["machine"].get("load"), number(raw["machine"].get("cores")) or 1
    busy = number(load[0]) if isinstance(load, list) and load else None
    if busy and busy > cores / 2:
        yield f"The machine was busy (load {busy:g} on {cores:g} cores): read the ratios, not the times."
    if raw.get("interrupted"):
        yield "The run was interrupted: what had been measured by then is here."
    for note in raw.get("notes") or ():
        yield str(note)


def _tiles(report: Report) -> Iterator[dict[str, str]]:
    main = report.main
    if main is None:
        return
    for name, label in _GROUP_TILES:
        group = next((group for group in report.groups if group.id == name), None)
        for contender, ratio, low, high, cases in group.means if group else ():
            if contender == main:
                yield {
                    "label": label,
                    "value": ratio_text(ratio),
                    "detail": f"native = 1, mean of {cases}; {ratio_text(low)} to {ratio_text(high)}",
                }
    for name, label in _TILES:
        case = report.case(name)
        for entry in case.measured if case else ():
            if entry.contender == main:
                p95 = entry.values.get("p95")
                yield {
                    "label": label,
                    "value": time_text(entry.median),
                    "detail": f"{main.label}; p95 {time_text(p95)}",
                }


def _group(group: Group, report: Report) -> dict[str, Any]:
    scale, behind = _rows.value_axis(group), f"t{report.groups.index(group)}"
    return {
        "title": group.title,
        "about": group.about,
        "ratios": group.has_ratios,
        "marks": _rows.marks(behind, scale, base=group.has_ratios),
        "axis": _rows.axis(scale, seconds=not group.has_ratios),
        "cases": [
            {
                "title": case.title,
                "id": case.id,
                "search": f"{group.title} {case.id} {case.title}".lower(),
                "rows": [
                    _row(entry, group, scale, behind, report.contenders.index(entry.contender))
                    for entry in case.entries
                ],
            }
            for case in group.cases
        ],
        "table": [_cells(case, entry) for case in group.cases for entry in case.entries],
    }


def _row(entry: Figures, group: Group, scale: Log, behind: str, index: int) -> dict[str, Any]:
    who = {"index": index, "slot": entry.contender.slot, "who": entry.contender.id, "error": entry.error}
    if entry.error:
        return who
    compared = entry.ratio and entry.contender.id != "native"
    return who | {
        "bar": _rows.bar(entry, group, scale, behind),
        "ratio": ratio_text(entry.ratio) if entry.ratio else "",
        "interval": _span(entry) if compared else "",
        "spread": _rows.spread(entry),
        "median": time_text(entry.median),
    }


def _span(entry: Figures) -> str:
    return f"{ratio_text(entry.low)[:-1]}–{ratio_text(entry.high)[:-1]}" if entry.low and entry.high else ""


def _cells(case: Case, entry: Figures) -> list[str]:
    if entry.error:
        return [case.id, entry.contender.id, "", entry.error, *[""] * 9]
    values = entry.values
    return [
        case.id, entry.contender.id, count_text(values.get("n")), time_text(entry.median),
        *(time_text(values.get(name)) for name in ("mean", "p95", "p99", "min", "max", "stdev")),
        count_text(values.get("throughput")), ratio_text(entry.ratio), _span(entry),
    ]  # fmt: skip


def _facts(raw: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for heading, field in (("Machine", "machine"), ("Versions", "versions"), ("Settings", "flags")):
        yield heading, [(str(name).replace("_", " "), _fact(str(name), value)) for name, value in raw[field].items()]


def _fact(name: str, value: Any) -> str:
    amount = number(value)
    if amount is not None and name.endswith("_bytes"):
        return bytes_text(amount)
    if amount is not None and name.endswith("_s"):
        return time_text(amount, short=True)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _comparison(report: Report, old: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = compare.compare(old, report.raw)
    verdicts = [change.verdict for change in found]
    faster, slower = verdicts.count("faster"), verdicts.count("slower")
    known = {contender.id: contender for contender in report.contenders}
    return {
        "name": name or str(old["created"]),
        "summary": f"{len(found)} comparisons: {faster} faster, {slower} slower, {len(found) - faster - slower} within the noise.",
        "warnings": compare.warnings(old, report.raw),
        "figure": _ratios.changes(found, known),
        "columns": ("case", "contender", "basis", "new / old", "95 % interval", "verdict"),
        "rows": [
            (
                c.case,
                c.contender,
                c.basis,
                ratio_text(c.change),
                f"{ratio_text(c.low)} to {ratio_text(c.high)}",
                c.verdict,
            )
            for c in found
        ],
    }

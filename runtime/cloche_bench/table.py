"""Results and comparisons as tables for a terminal: a table for each group, with medians and ratios to native."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["comparison_table", "duration", "geomean_table", "group_tables", "node_tables", "ratio"]


def duration(seconds: float) -> str:
    """A number of seconds with three digits and a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds / scale < 1000 else f"{seconds / scale:.0f} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def ratio(value: float) -> str:
    """A ratio to native, with as many digits as it is worth."""
    return f"{value:.2f}x" if value < 10 else f"{value:.1f}x" if value < 100 else f"{value:,.0f}x"


def group_tables(results: Mapping[str, Any]) -> Iterator[Table]:
    """The table of each group that was measured."""
    from rich.table import Table

    contenders = results["contenders"]
    for group in results["groups"]:
        table = Table(title=group["title"], title_justify="left", caption=group.get("about"), caption_justify="left")
        table.add_column("case", overflow="fold")
        for contender in contenders:
            table.add_column(contender["label"], justify="right")
        for case in results["cases"]:
            if case["group"] == group["id"]:
                cells = [cell(case["contenders"].get(contender["id"]), contender["id"]) for contender in contenders]
                table.add_row(case["title"], *cells)
        yield table


def cell(figures: Mapping[str, Any] | None, contender: str) -> str:
    """The median and the ratio of one contender in one case; a dash if it could not run."""
    if not figures or "error" in figures:
        return "-"
    if contender == "native" or figures["ratio"] is None:
        return duration(figures["median"])
    return f"{duration(figures['median'])}  {ratio(figures['ratio'])}"


def geomean_table(results: Mapping[str, Any]) -> Table:
    """The table of the geometric means of ratios, with their intervals."""
    from rich.table import Table

    table = Table(title="Geometric mean against native (95 % interval)", title_justify="left")
    table.add_column("group")
    chosen = [contender for contender in results["contenders"] if results["geomean"].get(contender["id"])]
    for contender in chosen:
        table.add_column(contender["label"], justify="right")
    for group in results["groups"]:
        means = [results["geomean"][contender["id"]].get(group["id"]) for contender in chosen]
        if any(means):
            table.add_row(
                group["title"],
                *[f"{ratio(m['ratio'])} [{m['low']:.3g}, {m['high']:.3g}]" if m else "-" for m in means],
            )
    return table


def comparison_table(changes: Sequence[Mapping[str, Any]]) -> Table:
    """The table of changes between two runs."""
    from rich.table import Table

    table = Table(title="New against old", title_justify="left")
    for name, justify in (
        ("case", "left"),
        ("contender", "left"),
        ("new / old", "right"),
        ("95 %", "right"),
        ("verdict", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]  # two of rich's words
    for change in changes:
        table.add_row(
            change["case"],
            change["contender"],
            f"{change['change']:.3f}",
            f"{change['low']:.3f} to {change['high']:.3f}",
            change["verdict"],
        )
    return table


def node_tables(node: Mapping[str, Any]) -> Iterator[Table]:
    """Two tables on a node of the user's: where the time of a call goes; and what the node costs, with advice."""
    from rich.table import Table

    table = Table(title=f"{node['name']}: where the time goes ({node['contender']})", title_justify="left")
    for name in ("input", "bytes in", "bytes out", *node["inputs"][0]["phases"], "whole call", "native"):
        table.add_column(name, justify="left" if name == "input" else "right")
    for row in node["inputs"]:
        table.add_row(
            row["title"],
            f"{row['bytes_in']:,}",
            f"{row['bytes_out']:,}",
            *[duration(seconds) for seconds in row["phases"].values()],
            duration(row["total"]),
            "-" if row["native"] is None else duration(row["native"]),
        )
    yield table
    facts = Table(title=f"{node['name']}: what it takes", title_justify="left", show_header=False)
    per_byte = (
        "not known: give inputs of several sizes" if node["per_byte"] is None else f"{node['per_byte'] * 1e9:.3g} ns"
    )
    facts.add_row("each call", duration(node["per_call"]))
    facts.add_row("each byte, in and out", per_byte)
    for name, text in (
        ("fresh_bytes", "guest memory, fresh"),
        ("after_bytes", "guest memory, after"),
        ("private_bytes", "of it written to"),
    ):
        facts.add_row(text, f"{node['memory'][name] / (1 << 20):.1f} MiB")
    for advice in node["advice"]:
        facts.add_row(advice["what"], advice["text"])
    yield facts

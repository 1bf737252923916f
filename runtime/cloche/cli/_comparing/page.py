"""The matrix as one HTML page, which needs no other file, no script and no network. Every text is escaped: it is a stranger's."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cloche._atomic_file import AtomicFile
from cloche.cli._comparing.table import COLUMNS, cells
from cloche.texts import line
from cloche_bench.report import page_style, policy

if TYPE_CHECKING:
    from cloche.cli._report import Report

__all__ = ["page", "write"]

_VERDICTS: Final = {
    "works": "do in the sandbox what they do natively",
    "differs": "do something else there",
    "broken": "do not work there",
    "unknown": "could not be tried",
}
_COLORS: Final = {"works": "good", "differs": "c3", "broken": "bad", "unknown": "c4"}
_STYLE: Final = "".join(f".{name}{{color:var(--{color});font-weight:600}}" for name, color in _COLORS.items()) + (
    ".page.wide{display:block}table.data td{white-space:normal;text-align:left;vertical-align:top;overflow-wrap:anywhere;"
    "min-width:6rem}table.data th{text-align:left}"
)


def write(report: Report, path: Path) -> None:
    """Write the page, whole or not at all."""
    with AtomicFile(path) as file:
        file.write(page(report).encode("utf-8", "backslashreplace"))


def page(report: Report) -> str:
    """The text of the page."""
    style = f"{page_style()}\n{_STYLE}"
    title = f"Which nodes of {_text(Path(report.node).name)} can move?"
    counts = {verdict: sum(row.verdict == verdict for row in report.nodes) for verdict in _VERDICTS}
    tiles = "".join(
        f'<div><dt>{verdict}</dt><dd class="{verdict}">{counts[verdict]}</dd><dd class="detail">{told}</dd></div>'
        for verdict, told in _VERDICTS.items()
    )
    head = "".join(f"<th>{column}</th>" for column in COLUMNS)
    body = "".join(_row(row) for row in report.nodes)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy(style))}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}</title><style>{style}</style></head><body><div class="page wide"><main><h1>{title}</h1>'
        f'<dl class="tiles">{tiles}</dl><div class="scroll"><table class="data"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{''.join(map(_section, report.nodes))}{_sources(report)}"
        "<footer><p>Written by cloche check. This page is one file: it loads nothing and sends nothing.</p></footer>"
        "</main></div></body></html>\n"
    )


def _text(value: Any, most: int = 1000) -> str:
    return escape(line(str(value), most))


def _row(row: Any) -> str:
    node, verdict, *others = map(_text, cells(row))
    return f'<tr><td>{node}</td><td class="{verdict}">{verdict}</td>{"".join(f"<td>{one}</td>" for one in others)}</tr>'


def _section(row: Any) -> str:
    if not (row.differences or row.unstable or row.notes or row.params):
        return ""
    parts = [f"<h2>{_text(row.node)}</h2>"]
    if row.params:
        told = ", ".join(f"{key}={value}" for key, value in row.params.items())
        parts.append(f'<p class="about">made with <code>{_text(told)}</code></p>')
    if row.differences:
        columns = ("what", "input", "where", "how", "native", "sandbox")
        head = "".join(f"<th>{column}</th>" for column in columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{_text(getattr(one, column))}</td>' for column in columns)}</tr>"
            for one in row.differences
        )
        parts.append(
            f'<div class="scroll"><table class="data"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )
    more = [f"{row.more} more differences"] if row.more else []
    more += [f"changes from run to run natively: {', '.join(row.unstable)}"] if row.unstable else []
    parts.append(f'<ul class="prose">{"".join(f"<li>{_text(one)}</li>" for one in [*more, *row.notes])}</ul>')
    return "".join(parts)


def _sources(report: Report) -> str:
    """What reading the sources has found."""
    found = [
        f"{item.file}:{item.line}: import {item.module}: {item.problem}" + (f" {item.remedy}" if item.remedy else "")
        for item in report.imports
        if item.problem
    ]
    found += [f"{one.file}: {one.module}: {one.problem} {one.remedy}" for one in report.modules]
    found += [f"{one.file}:{one.line}: {one.use}: {one.problem}. {one.remedy}" for one in report.findings]
    if not found:
        return ""
    return f'<h2>In the sources</h2><ul class="prose">{"".join(f"<li>{_text(one)}</li>" for one in found)}</ul>'

"""The page of ``--serve``: one document, whose script draws the graph and the table. It asks for nothing but ``/status.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cloche.cli._watch import HOST_HEADS

__all__ = ["SCRIPT", "STYLE", "page"]

STYLE: Final = """
:root {
  color-scheme: light dark;
  --paper: #fcfcfb; --ink: #1d2326; --faint: #667177; --line: #d4dadd; --box: #ffffff;
  --wasm: #0b7a75; --native: #a8571c; --bad: #b3261e; --fill: #cfe8e6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14191b; --ink: #e4e9eb; --faint: #98a4aa; --line: #39444a; --box: #1d2427;
    --wasm: #4fc3bc; --native: #e39a5f; --bad: #ff8a80; --fill: #1f4a48;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 75rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.3rem; margin: 0; }
p { margin: .2rem 0 1rem; color: var(--faint); }
svg { display: block; width: 100%; height: auto; }
svg .box { fill: var(--box); stroke: var(--wasm); stroke-width: 1.5; }
svg .native .box { stroke: var(--native); stroke-dasharray: 5 3; }
svg .broken .box { stroke: var(--bad); }
svg .queue { fill: var(--fill); }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .name { font-weight: 600; }
svg .faint { fill: var(--faint); font-size: 11px; }
svg .edge { fill: none; stroke: var(--faint); stroke-width: 1.3; }
svg .tip { fill: var(--faint); }
table { width: 100%; border-collapse: collapse; margin-top: 1rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right; }
th { color: var(--faint); font-weight: 500; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
#machines th, #machines td { text-align: left; }
td.bad { color: var(--bad); font-weight: 600; }
@media (max-width: 48rem) {
  table, tbody, tr, td { display: block; }
  thead { display: none; }
  tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  td, td:first-child, td:nth-child(2) { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .1rem 0;
    text-align: right; }
  td::before { content: attr(data-head); color: var(--faint); }
}
"""

SCRIPT: Final = """
"use strict";
const SVG = "http://www.w3.org/2000/svg", WIDE = 168, HIGH = 62;
const graph = document.getElementById("graph"), rows = document.getElementById("rows"), state = document.getElementById("state");
const machines = document.getElementById("machines"), hosts = document.getElementById("hosts");
const events = document.getElementById("events");
const count = new Intl.NumberFormat("en"), short = new Intl.NumberFormat("en", {notation: "compact", maximumSignificantDigits: 3});
const time = s => s === null ? "-" : s < 1e-3 ? (s * 1e6).toFixed(0) + " \\u00b5s"
  : s < 1 ? (s * 1e3).toFixed(1) + " ms" : s.toFixed(2) + " s";
const size = b => b === null ? "-" : (b / 1048576).toFixed(1) + " MiB";
const heads = new Set([...document.querySelectorAll("#nodes th")].map(one => one.textContent));
const columns = [
  ["node", n => n.id], ["place", n => n.place], ["host", n => n.host || "-"],
  ["items", n => count.format(n.items)], ["items/s", n => short.format(n.rate)],
  ["p50", n => time(n.p50_s)], ["p99", n => time(n.p99_s)], ["memory", n => size(n.memory_bytes)],
  ["queue", n => n.place === "inline" ? "-" : n.waiting + "/" + n.room], ["breaks", n => count.format(n.breaks)],
  ["retries", n => count.format(n.retried)], ["rejected", n => count.format(n.rejected)],
].filter(([head]) => heads.has(head));
const hostColumns = [
  ["host", h => h.name], ["machine", h => h.machine], ["load", h => h.load.toFixed(2)], ["memory", h => size(h.memory_bytes)],
  ["chains", h => (h.chains.join(", ") || "-") + (h.is_draining ? " (draining)" : "")],
];
const warns = {breaks: n => n.breaks, rejected: n => n.rejected};
let drawn = "", boxes = new Map();

function make(kind, attributes, text) {
  const made = document.createElementNS(SVG, kind);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
const cut = (text, most) => [...text].length > most ? [...text].slice(0, most - 1).join("") + "\\u2026" : text;

function layers(status) {
  const depth = new Map(status.nodes.map(n => [n.id, 0])), found = [];
  for (let round = 0; round < status.nodes.length; round++)
    for (const e of status.edges) depth.set(e.to, Math.max(depth.get(e.to), depth.get(e.from) + 1));
  for (const n of status.nodes) (found[depth.get(n.id)] ??= []).push(n);
  return found;
}

function draw(status) {
  let found = layers(status);
  const room = graph.parentElement.clientWidth, across = room >= 700 && found.length * (WIDE + 56) <= 1400;
  if (!across) { // so many side by side that names can be read
    const beside = Math.max(1, Math.floor((room + 16) / (WIDE + 16)));
    found = found.flatMap(one => one.flatMap((_, at) => at % beside ? [] : [one.slice(at, at + beside)]));
  }
  const most = Math.max(...found.map(one => one.length));
  const step = across ? WIDE + 56 : HIGH + 46, side = across ? HIGH + 22 : WIDE + 16;
  const long = found.length * step - (across ? 56 : 46), broad = most * side - (across ? 22 : 16);
  const width = (across ? long : broad) + 8, height = (across ? broad : long) + 8, places = new Map();
  graph.replaceChildren();
  graph.setAttribute("viewBox", `0 0 ${width} ${height}`);
  graph.style.maxWidth = width + "px";
  boxes = new Map();
  found.forEach((layer, at) => layer.forEach((n, row) => {
    const shift = (most - layer.length) * side / 2 + row * side;
    places.set(n.id, across ? [at * step + 4, shift + 4] : [shift + 4, at * step + 4]);
  }));
  for (const e of status.edges) {
    const [ax, ay] = places.get(e.from), [bx, by] = places.get(e.to);
    const [x1, y1, x2, y2] = across ? [ax + WIDE, ay + HIGH / 2, bx - 6, by + HIGH / 2]
      : [ax + WIDE / 2, ay + HIGH, bx + WIDE / 2, by - 6];
    const [mx, my] = [(x1 + x2) / 2, (y1 + y2) / 2];
    const bend = across ? `${mx} ${y1} ${mx} ${y2}` : `${x1} ${my} ${x2} ${my}`;
    graph.append(make("path", {class: "edge", d: `M${x1} ${y1}C${bend} ${x2} ${y2}`}));
    graph.append(make("path", {class: "tip", d: across ? `M${x2} ${y2 - 4}l7 4l-7 4z` : `M${x2 - 4} ${y2}l4 7l4 -7z`}));
    if (e.label) graph.append(make("text", {class: "faint", x: mx, y: my - 4, "text-anchor": "middle"}, cut(e.label, 12)));
  }
  for (const n of status.nodes) {
    const [x, y] = places.get(n.id), kind = n.place === "wasm" ? "node" : "node native";
    const box = make("g", {transform: `translate(${x} ${y})`, class: kind});
    const parts = {
      box, queue: make("rect", {class: "queue", x: 1, y: 1, width: 0, height: HIGH - 2, rx: 6}),
      rate: make("text", {x: 10, y: 38}), more: make("text", {class: "faint", x: 10, y: 54}),
    };
    box.append(make("rect", {class: "box", width: WIDE, height: HIGH, rx: 7}), parts.queue,
      make("text", {class: "name", x: 10, y: 20}, cut(n.id, 20)),
      make("text", {class: "faint", x: WIDE - 10, y: 38, "text-anchor": "end"}, n.place), parts.rate, parts.more,
      make("title", {}, n.id));
    graph.append(box);
    boxes.set(n.id, parts);
  }
}

function row(columns, of) {
  const made = document.createElement("tr");
  for (const [head, text] of columns) {
    const cell = document.createElement("td");
    cell.dataset.head = head;
    cell.textContent = text(of);
    if (warns[head]?.(of)) cell.className = "bad";
    made.append(cell);
  }
  return made;
}

function show(status) {
  const shape = JSON.stringify([status.nodes.map(n => n.id), status.edges, graph.parentElement.clientWidth]);
  if (shape !== drawn && status.nodes.length) { draw(status); drawn = shape; }
  for (const n of status.nodes) {
    const parts = boxes.get(n.id);
    if (!parts) continue;
    parts.rate.textContent = short.format(n.rate) + " items/s";
    parts.more.textContent = "p50 " + time(n.p50_s) + (n.place === "inline" ? "" : ", queue " + n.waiting + "/" + n.room);
    parts.queue.setAttribute("width", (WIDE - 2) * Math.min(1, n.waiting / n.room));
    parts.box.classList.toggle("broken", n.breaks + n.rejected > 0);
  }
  rows.replaceChildren(...status.nodes.map(n => row(columns, n)));
  machines.hidden = !status.hosts.length;
  hosts.replaceChildren(...status.hosts.map(h => row(hostColumns, h)));
  events.replaceChildren(...status.events.slice(-8).reverse().map(e => {
    const entry = document.createElement("li");
    entry.textContent = e.seconds_ago.toFixed(0) + " s ago: " + e.text;
    return entry;
  }));
  state.textContent = "running for " + status.seconds.toFixed(0) + " s";
}

async function follow() {
  for (;;) {
    try {
      const answer = await fetch("/status.json", {cache: "no-store"});
      if (!answer.ok) throw new Error(answer.status);
      show(await answer.json());
    } catch {
      state.textContent = "The run has ended, or cannot be reached. These are the last figures.";
      await new Promise(done => setTimeout(done, 2000));
    }
    await new Promise(done => setTimeout(done, document.hidden ? 2000 : 300));
  }
}
follow();
"""

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p id="state">waiting for the first figures</p>
<noscript><p>This page needs JavaScript. Its figures are at <a href="/status.json">/status.json</a>.</p></noscript>
<div><svg id="graph" role="img" aria-label="The nodes of the pipeline, and how they are connected"></svg></div>
<table id="nodes">
<thead><tr>{heads}</tr></thead>
<tbody id="rows"></tbody>
</table>
<section id="machines" hidden>
<table>
<thead><tr>{host_heads}</tr></thead>
<tbody id="hosts"></tbody>
</table>
<ul id="events"></ul>
</section>
</main>
<script>{script}</script>
</body>
</html>
"""


def page(title: str, heads: Sequence[str]) -> str:
    """The document.

    Args:
        title: the pipeline's name, escaped.
        heads: the columns of the nodes' table.
    """
    return _PAGE.format(title=title, style=STYLE, heads=_heads(heads), host_heads=_heads(HOST_HEADS), script=SCRIPT)


def _heads(heads: Sequence[str]) -> str:
    return "".join(f"<th>{head}</th>" for head in heads)

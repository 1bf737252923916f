"""Results of a bench, made up: every part of the schema, a contender that is missing here and there, and hostile names."""

from __future__ import annotations

import random
from typing import Any

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
CONTENDERS = ("native", "pipe", "epoch", "guard", "fuel", "none", "monty")


def figures(median: float, base: float | None, rng: random.Random) -> dict[str, Any]:
    """One contender in one case."""
    samples = sorted(median * rng.lognormvariate(0, 0.1) for _ in range(200))
    ratio = median / base if base else None
    return {
        "n": 2000, "median": median, "mean": median * 1.02, "p95": samples[190], "p99": samples[198], "min": samples[0],
        "max": samples[-1], "stdev": median / 10, "throughput": 1 / median, "low": median * 0.97, "high": median * 1.03,
        "ratio": ratio, "ratio_low": ratio and ratio * 0.95, "ratio_high": ratio and ratio * 1.05, "samples": samples,
    }  # fmt: skip


def case(
    name: str, base: float | None, factors: dict[str, float], rng: random.Random, size: int | None = None
) -> dict[str, Any]:
    """One case; a factor of 0 is a contender that could not run it."""
    entries = {
        contender: figures((base or 1e-3) * factor, base, rng) if factor else {"error": f"Unsupported: {HOSTILE}"}
        for contender, factor in factors.items()
    }
    group = name.partition("/")[0]
    return {"id": name, "group": group, "title": name, "unit": "s", "bytes": size, "items": 1, "contenders": entries}


def results(*, cases: int = 3, node: bool = False, slower: float = 1.0) -> dict[str, Any]:
    """A whole file."""
    rng = random.Random(1)
    factors = {"native": 1.0, "pipe": 40.0, "epoch": 2.2 * slower, "guard": 1.8, "fuel": 2.9, "none": 1.7, "monty": 0.0}
    groups = {
        "passthrough": "3 Pass-through",
        "python": "Pure Python",
        "arrays": "Arrays by size",
        "cold": "Cold start",
    }
    made = [
        case(f"{group}/case{index}", 1e-6 * 10**index, factors, rng)
        for group in ("passthrough", "python")
        for index in range(cases)
    ]
    made.append(case("passthrough/dict", 1e-7, factors, rng))
    made += [
        case(f"arrays/{kind}-{size}KiB", 1e-6 * (size if kind == "copied" else 1), factors, rng, 2048 * size)
        for kind in ("copied", "leased")
        for size in (1, 32, 1024)
    ]
    made.append(case("cold/first", None, {"native": 0.0, "epoch": 3.0, "fuel": 4.0}, rng))
    return {
        "schema": 1, "created": "2026-11-24T11:00:00Z", "quick": True, "command": f"cloche bench {HOSTILE}", "interrupted": False,
        "machine": {"cpu": HOSTILE, "cores": 2, "memory_bytes": 1 << 34, "os": "Linux", "kernel": "6.1", "load": [3.0, 1.0, 1.0]},
        "versions": {"cloche": "0.1.0", "python": "3.11.7", "guest_python": "3.13.5", "wasmtime": "50.0.1"},
        "flags": {"seconds_per_case": 0.1, "interleaved": True},
        "contenders": [{"id": name, "label": f"label of {name}", "note": HOSTILE} for name in CONTENDERS],
        "unfair": ["Native is not isolated.", HOSTILE],
        "groups": [{"id": name, "title": title, "about": HOSTILE} for name, title in groups.items()],
        "cases": made,
        "geomean": {
            name: {group: {"ratio": factor, "low": factor * 0.9, "high": factor * 1.1, "cases": cases} for group in ("passthrough", "python")}
            for name, factor in factors.items()
            if factor and name != "native"
        },
        "node": NODE if node else None,
        "timeline": {
            "case": "passthrough/dict",
            "phases": [
                {"name": "encode", "start": 1e-6, "end": 3e-6},
                {"name": "guest", "start": 3.2e-6, "end": 7e-6},
                {"name": "decode", "start": 7.5e-6, "end": 9e-6},
            ],
        },
    }  # fmt: skip


NODE: dict[str, Any] = {
    "name": HOSTILE, "source": "node.py", "contender": "epoch",
    "inputs": [
        {
            "title": f"{rows} rows", "bytes_in": 4 * rows, "bytes_out": 4 * rows, "total": 1e-6 * rows, "native": 4e-7 * rows,
            "phases": {"encode": 1e-6, "lower": 1e-6, "guest": 9e-7 * rows, "lift": 1e-6, "decode": 2e-6, "logs": 0.0},
        }
        for rows in (1024, 4096)
    ],
    "memory": {"fresh_bytes": 1 << 25, "after_bytes": 1 << 26, "private_bytes": 1 << 20},
    "per_call": 1e-5, "per_byte": 1e-9,
    "advice": [{"what": "lease", "saves": 0.3, "text": f"leasing saves 30 % {HOSTILE}"}],
}  # fmt: skip

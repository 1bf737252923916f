"""Two runs of the bench, case by case: a verdict only where the difference is larger than the noise.

The ratios to native are compared, not the times: native is in both runs, so a machine that was slower on the second day changes
nothing. Where a run has no native figure, the medians themselves are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

__all__ = ["NO_DIFFERENCE", "Change", "as_rows", "compare", "warnings"]

NO_DIFFERENCE: Final = "no difference shown"
CAUTION: Final = 1.7
"""Factor by which intervals are widened for a verdict: a run gives some hundred, and at 95 % each, one in twenty would be wrong."""
BETWEEN_RUNS: Final = 0.04
"""How far two runs of the same code differ (where memory happens to lie, what else is loaded): half of the 95 % interval of the
logarithm of their quotient. The samples of one run cannot show it, so it is added to their interval."""


@dataclass(frozen=True, slots=True)
class Change:
    """How the figure of one contender in one case has changed.

    Attributes:
        case: id of the case.
        contender: id of the contender.
        basis: which figure is compared: "ratio" to native, or "median".
        change: new / old: below 1 is faster.
        low: lower end of the 95 % interval of `change`.
        high: upper end of it.
        verdict: "faster", "slower", or `NO_DIFFERENCE`.
    """

    case: str
    contender: str
    basis: str
    change: float
    low: float
    high: float
    verdict: str


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """The changes of all that both runs have measured, in the order of the new run."""
    before = {case["id"]: case["contenders"] for case in old["cases"]}
    found = []
    for case in new["cases"]:
        for contender, now in case["contenders"].items():
            then = before.get(case["id"], {}).get(contender)
            if then and "error" not in then and "error" not in now and contender != "native":
                found.append(_change(case["id"], contender, then, now))
    return found


def _change(case: str, contender: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Change:
    if then.get("ratio") and now.get("ratio"):
        basis, fields = "ratio", ("ratio", "ratio_low", "ratio_high")
    else:
        basis, fields = "median", ("median", "low", "high")
    old, old_low, old_high = (then.get(name) or then["median"] for name in fields)
    new, new_low, new_high = (now.get(name) or now["median"] for name in fields)
    change = new / old
    # errors of the two runs are independent: their squares add, on the scale of logarithms
    below = math.hypot(math.log(new / new_low), math.log(old_high / old), BETWEEN_RUNS)
    above = math.hypot(math.log(new_high / new), math.log(old / old_low), BETWEEN_RUNS)
    return Change(
        case, contender, basis, change, change * math.exp(-below), change * math.exp(above),
        _verdict(math.log(change), below, above),
    )  # fmt: skip


def _verdict(change: float, below: float, above: float) -> str:
    if change + CAUTION * above < 0:
        return "faster"
    if change - CAUTION * below > 0:
        return "slower"
    return NO_DIFFERENCE


def warnings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Reasons why the two runs may not be comparable, a sentence each."""
    found = []
    for field in ("cpu", "cores", "kernel"):
        a, b = old["machine"].get(field), new["machine"].get(field)
        if a != b:
            found.append(f"the machines differ: {field} was {a!r}, is {b!r}")
    for name in ("python", "numpy"):
        a, b = old["versions"].get(name), new["versions"].get(name)
        if a != b:
            found.append(f"native {name} was {a!r}, is {b!r}: the ratios refer to something else")
    if old["quick"] != new["quick"]:
        found.append("one of them is a quick run")
    cores = new["machine"].get("cores") or 1
    for what, results in (("old", old), ("new", new)):
        load = (results["machine"].get("load") or [0])[0]
        if load > cores / 2:
            found.append(f"the machine was busy when the {what} run began: load {load}")
    return found


def as_rows(changes: list[Change]) -> list[dict[str, Any]]:
    """The changes as dicts, for tables and JSON."""
    return [asdict(change) for change in changes]

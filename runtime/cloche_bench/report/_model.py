"""Results in the form that the report draws. A file may come from anywhere: what is missing or has another form is left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Case", "Contender", "Figures", "Group", "Report", "read"]

SLOTS: Final = 10
"""Number of colours and markers; the contenders after the ninth share the last one."""
_FIXED: Final = ("native", "epoch", "guard", "fuel", "none", "pipe")


@dataclass(frozen=True, slots=True)
class Contender:
    """One contender. `slot` is the number of its colour and marker, which are the same in every report."""

    id: str
    label: str
    note: str
    slot: int


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one contender in one case, in seconds; or the reason why there are none, as `error`."""

    contender: Contender
    median: float = 0.0
    values: Mapping[str, float] = field(default_factory=dict)
    samples: tuple[float, ...] = ()
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `size` is the number of bytes that an operation sends and receives; None where that means nothing."""

    id: str
    title: str
    size: int | None
    entries: tuple[Figures, ...]

    @property
    def measured(self) -> list[Figures]:
        """The figures of the contenders that could run the case."""
        return [entry for entry in self.entries if not entry.error]


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that stand together. `means` has the geometric mean of their ratios: (contender, ratio, low, high, number of cases)."""

    id: str
    title: str
    about: str
    cases: tuple[Case, ...]
    means: tuple[tuple[Contender, float, float, float, int], ...]

    @property
    def has_ratios(self) -> bool:
        """Whether any contender but native has a ratio to native."""
        return any(entry.ratio and entry.contender.id != "native" for case in self.cases for entry in case.measured)


@dataclass(frozen=True, slots=True)
class Report:
    """A whole file of results. `raw` is the file itself."""

    raw: Mapping[str, Any]
    contenders: tuple[Contender, ...]
    groups: tuple[Group, ...]
    unfair: tuple[str, ...]

    @property
    def cases(self) -> Iterator[Case]:
        """The cases of all groups."""
        return (case for group in self.groups for case in group.cases)

    @property
    def main(self) -> Contender | None:
        """The contender that headlines are about: Cloche under the metering that was the default where the run was made, if that
        was measured, else under another that keeps deadlines.
        """
        wanted = (self.raw.get("default"), "guard", "epoch")
        return next((found for name in wanted for found in self.contenders if found.id == name), None)

    def case(self, name: str) -> Case | None:
        """The case with that id, or None."""
        return next((case for case in self.cases if case.id == name), None)


def read(raw: Mapping[str, Any]) -> Report:
    """The report on a file that `cloche_bench.results.validate` has accepted."""
    contenders = _contenders(raw)
    by_id = {contender.id: contender for contender in contenders}
    groups = []
    for group in raw["groups"]:
        cases = tuple(_case(case, by_id) for case in raw["cases"] if case["group"] == group["id"])
        if cases:
            means = tuple(_means(raw, group["id"], contenders))
            groups.append(Group(group["id"], group["title"], _text(group.get("about")), cases, means))
    unfair = tuple(_text(sentence) for sentence in raw["unfair"])
    return Report(raw, contenders, tuple(groups), unfair)


def _contenders(raw: Mapping[str, Any]) -> tuple[Contender, ...]:
    named = {entry["id"]: entry for entry in raw["contenders"]}
    for case in raw["cases"]:
        for name in case["contenders"]:
            named.setdefault(name, {"id": name, "label": name})
    others = iter(range(len(_FIXED), 1000))
    return tuple(
        Contender(
            name, _text(entry.get("label")) or name, _text(entry.get("note")),
            min(SLOTS - 1, _FIXED.index(name) if name in _FIXED else next(others)),
        )
        for name, entry in named.items()
    )  # fmt: skip


def _case(case: Mapping[str, Any], contenders: Mapping[str, Contender]) -> Case:
    entries = [
        _figures(contenders[name], case["contenders"][name]) for name in contenders if name in case["contenders"]
    ]
    size = number(case.get("bytes"))
    return Case(case["id"], case["title"], int(size) if size else None, tuple(entries))


def _figures(contender: Contender, entry: Mapping[str, Any]) -> Figures:
    median = number(entry.get("median"))
    if "error" in entry or median is None:
        return Figures(contender, error=_text(entry.get("error")) or "no figures")
    values = {name: value for name, raw in entry.items() if (value := number(raw)) is not None}
    samples = entry.get("samples")
    known = [value for raw in samples if (value := number(raw))] if isinstance(samples, list) else []
    return Figures(
        contender, median, values, tuple(sorted(known[:1000])),
        number(entry.get("ratio")), number(entry.get("ratio_low")), number(entry.get("ratio_high")),
    )  # fmt: skip


def _means(
    raw: Mapping[str, Any], group: str, contenders: tuple[Contender, ...]
) -> Iterator[tuple[Contender, float, float, float, int]]:
    for contender in contenders:
        entry = raw["geomean"].get(contender.id, {}).get(group, {})
        ratio = number(entry.get("ratio"))
        if ratio:
            low, high = number(entry.get("low")) or ratio, number(entry.get("high")) or ratio
            yield contender, ratio, low, high, int(number(entry.get("cases")) or 0)


def number(value: Any) -> float | None:
    """The value as a float if it is a finite number that is not negative, else None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""

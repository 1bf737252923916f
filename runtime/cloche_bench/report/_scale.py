"""Axes: where a value lies on an axis, which ticks the axis has; and numbers as texts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Log", "bytes_text", "count_text", "ratio_text", "round_steps", "time_text"]

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


@dataclass(frozen=True, slots=True)
class Log:
    """A logarithmic axis from `low` to `high`, both above 0."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float], *, include: Iterable[float] = (), pad: float = 0.04) -> Log:
        """The axis for these values, with some room at both ends. Values that are not above 0 are ignored."""
        known = [value for value in (*values, *include) if value > 0 and math.isfinite(value)]
        low, high = (min(known), max(known)) if known else (1.0, 10.0)
        if high / low < 1.2:
            low, high = low / 1.1, high * 1.1
        room = (high / low) ** pad
        return cls(low / room, high * room)

    def at(self, value: float) -> float:
        """Where a value lies on the axis: from 0, the low end, to 1, the high end. Values outside lie at the nearer end."""
        if not value > 0:
            return 0.0
        place = math.log(value / self.low) / math.log(self.high / self.low)
        return min(1.0, max(0.0, place))

    def ticks(self, most: int = 8) -> list[float]:
        """Round values for ticks, about `most` of them at most: powers of ten, and 2 and 5 (or 1.5, 3 ...) if there is room."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        decades = range(first, last + 1)
        found: list[float] = []
        for digits in (
            (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 7, 8, 9), (1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,),
        ):  # fmt: skip
            found = [digit * 10.0**power for power in decades for digit in digits]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) <= most:
                return found
        step = -(-len(found) // most)
        return found[found.index(1.0) % step if 1.0 in found else 0 :: step]


def round_steps(end: float, most: int = 5) -> list[float]:
    """Ticks of a linear axis: 0, and round values up to `end`."""
    raw = end / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= raw * 0.999)
    return [step * index for index in range(int(end / step) + 1)]


def _digits(value: float) -> str:
    """A number with three significant digits, without an exponent."""
    if value == 0:
        return "0"
    value = float(f"{value:.3g}") if value < 1000 else value
    places = max(0, 2 - math.floor(math.log10(abs(value)) + 1e-9))
    return f"{value:,.{places}f}"


def _short(value: float) -> str:
    text = _digits(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _united(value: float, units: Iterable[tuple[float, str]], short: bool) -> str:
    *_, smallest = chosen = [(size, name) for size, name in units]
    size, name = next(((size, name) for size, name in chosen if value >= size * 0.9995), smallest)
    return f"{(_short if short else _digits)(value / size)} {name}".rstrip()


def time_text(seconds: float | None, *, short: bool = False) -> str:
    """Seconds with a unit and three digits: "12.3 µs"; `short`: without zeros at the end."""
    return "–" if seconds is None else _united(seconds, _TIMES, short)


def bytes_text(size: float | None) -> str:
    """Bytes in binary units."""
    return "–" if size is None else _united(size, _BYTES, True)


def count_text(count: float | None) -> str:
    """A large number with k, M or G."""
    return "–" if count is None else _united(count, _COUNTS, True)


def ratio_text(ratio: float | None) -> str:
    """A ratio: "2.31×", "38.2k×"."""
    if ratio is None:
        return "–"
    text = _short(ratio) if ratio < 9999.5 else count_text(float(f"{ratio:.3g}")).replace(" ", "")
    return f"{text}×"

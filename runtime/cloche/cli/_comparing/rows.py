"""`Row`: what the matrix says of one node. Made of the lives that it had on both sides; nothing is run here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from cloche import remedies
from cloche.cli._comparing.life import Life, Outcome
from cloche.cli._comparing.values import Found, Path, Unstable, compare, shown, where

__all__ = ["SAME_PYTHON", "Cost", "Difference", "Row", "Verdict", "differences", "judged", "unstable_paths"]

Verdict = Literal["works", "differs", "broken", "unknown"]
"""``works``: the sandbox does what native Python does, or, without the comparison, takes what it is given. ``differs``: results,
logs, errors or state are others. ``broken``: it does not load, or fails where native Python does not. ``unknown``: not tried.
"""

_MOST: Final = 10
"""Differences that a row has."""
_MESSAGE: Final = ("error", 1)
SAME_PYTHON: Final = f"{sys.version_info[0]}.{sys.version_info[1]}" == remedies.PYTHON
"""Whether this program runs on the sandbox's version of Python."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that is other in the sandbox.

    Attributes:
        what: "output", "error", "log", "stream", "state" or "end" (what `flush` returned).
        input: what the node was called with, as text; "" if it is about no single call.
        where: the place in the value, as ``[0]['name']``, or the name of the attribute.
        how: what is different.
        native: the native value, as text.
        sandbox: the sandbox's value, as text.
        smallest: whether `input` is the smallest one that shows it, as far as could be found.
    """

    what: str
    input: str
    where: str
    how: str
    native: str
    sandbox: str
    smallest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the sandbox costs.

    Attributes:
        native_s: seconds of a native call; None: it was not run natively.
        sandbox_s: seconds of a call in the sandbox.
        ratio: the one divided by the other.
        memory_bytes: the most memory that the node had in the sandbox.
        native_memory_bytes: the most memory of the whole native process, with its interpreter.
    """

    native_s: float | None
    sandbox_s: float
    ratio: float | None
    memory_bytes: int
    native_memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One node of the matrix. The fields are those of the JSON object.

    Attributes:
        node: its label: ``file:entry``, or its id in a pipeline.
        path: its file or folder, or the name of its module.
        entry: its class or function; null: the only one.
        params: the parameters it was made with, as text.
        verdict: see `Verdict`.
        why: how it differs, why it is broken, or why nothing is known; "" if it works.
        workaround: what can be done.
        compared: whether it ran natively as well.
        inputs: where the inputs come from: "given", "generated" or "none".
        tried: number of inputs.
        accepted: number of those on which it did not raise (natively, if it ran there).
        at: where it fails: the lines that were running, the innermost first, as ``file:line``.
        failed: number of those that it failed on in the sandbox alone.
        differences: the first ones.
        more: how many there are beyond these.
        unstable: what changes from run to run natively, and was compared by type only.
        notes: what else should be known.
        cost: null if it could not be measured.
    """

    node: str
    path: str
    entry: str | None
    params: dict[str, str] = field(default_factory=dict)
    verdict: Verdict
    why: str = ""
    workaround: str = ""
    compared: bool = False
    inputs: str = "none"
    tried: int = 0
    accepted: int = 0
    failed: int = 0
    at: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    more: int = 0
    unstable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cost: Cost | None = None


def unstable_paths(one: Life, other: Life) -> Unstable:
    """Where two native lives differ: what depends on the time, on addresses, on the order in sets, on real randomness."""
    return Unstable(found.path for found in compare(one.plain(), other.plain()))


def told(unstable: Unstable) -> list[str]:
    """Unstable places as texts. What a stream shows as the calls do comes once."""
    return list(dict.fromkeys(_place(path) for path in unstable.places))[:_MOST]


def _place(path: Path) -> str:
    match path:
        case ("call", _, part, *rest):
            return f"{_PARTS.get(part, part)}{where(rest)}"
        case ("call", index):
            return f"whether call {index} raises"
        case ("stream", "output", _, *rest):
            return f"output{where(rest)}"
        case ("stream" | "end" as head, part, *rest):
            return f"{_PARTS.get(part, part)} of {'a stream' if head == 'stream' else 'flush'}{where(rest)}"
        case ("state", attribute, *rest):
            return f"attribute {attribute}{where(rest)}"
        case ("load", *rest):
            return f"log of loading{where(rest)}"
    return where(path)


_PARTS: Final = {"output": "output", "error": "error", "logs": "log"}


def failures(native: Life, sandbox: Life, *, given: bool) -> list[tuple[int, Outcome]]:
    """Calls that fail in the sandbox alone: index, and what happened there.

    Args:
        native: what happened natively.
        sandbox: what happened in the sandbox.
        given: whether somebody gave the inputs. A result that cannot be sent fails then. Of inputs that were made up some are odd,
            and their results as well, so there it fails if no result can be sent.
    """
    cannot_be_sent = not any(outcome.kind == "value" for outcome in native.calls)
    pairs = zip(native.calls, sandbox.calls, strict=False)
    return [
        (index, there)
        for index, (here, there) in enumerate(pairs)
        if there.kind == "broken"
        or (there.kind != "value" and here.kind == "value")
        or (there.kind == "encode" and (cannot_be_sent or given))
    ]


def differences(
    native: Life, sandbox: Life, unstable: Unstable, items: Sequence[Any], failed: Sequence[tuple[int, Outcome]]
) -> list[tuple[Difference, Found, int | None]]:
    """All that is other in the sandbox, but for calls that fail there alone: with the index of the call.

    Args:
        native: what happened natively.
        sandbox: what happened in the sandbox.
        unstable: see `unstable_paths`.
        items: what the calls were made with.
        failed: the calls that fail in the sandbox alone.
    """
    count = min(len(native.calls), len(sandbox.calls))
    fails = {index for index, _ in failed}
    one, other = native.plain(list(sandbox.state)), sandbox.plain()
    one["call"] = [None if index in fails else outcome for index, outcome in enumerate(one["call"][:count])]
    other["call"] = [None if index in fails else outcome for index, outcome in enumerate(other["call"][:count])]
    # when a call has failed on one side, the node's state, and all that comes of it, need not be the same
    for part in ("stream", "end", "state"):
        if fails or native.stream is None or (part == "stream" and sandbox.stream is None):
            one.pop(part), other.pop(part)
    attributes = {**one.get("state", {})}
    if "state" in one:
        one["state"] = {name: value for name, value in attributes.items() if name in other["state"]}
        other["state"] = {name: value for name, value in other["state"].items() if name in one["state"]}
    return [
        (_difference(found, items, native, sandbox), found, _index(found)) for found in compare(one, other, unstable)
    ]


def _index(found: Found) -> int | None:
    return found.path[1] if found.path[:1] == ("call",) and len(found.path) > 1 else None


def _difference(found: Found, items: Sequence[Any], native: Life, sandbox: Life) -> Difference:
    index = _index(found)
    given = "" if index is None or index >= len(items) else shown(items[index])
    match found.path:
        case ("call", int(), part, *rest):
            what = {"output": "output", "error": "error"}.get(part, "log")
            place = where(rest)
        case ("call", int(number)):  # a call that fails in the sandbox alone is not compared
            here = native.calls[number]
            return Difference(
                what="error", input=given, where="", how="raises natively, and not in the sandbox",
                native=here.told, sandbox=shown(sandbox.calls[number].value),
            )  # fmt: skip
        case ("state", name, *rest):
            what, place = "state", f"{name}{where(rest)}"
        case ("stream" | "end" as what, "output", *rest):
            place = where(rest)
        case (head, *rest):
            what, place = {"load": "log"}.get(head, str(head)), where(rest)
        case _:
            what, place = "output", ""
    return Difference(what=what, input=given, where=place, how=found.how, native=found.native, sandbox=found.sandbox)


def is_of_another_python(found: Found) -> bool:
    """Whether it is the wording of an error alone, while the two sides are different versions of Python."""
    return not SAME_PYTHON and found.path[2:4] == _MESSAGE and found.path[0] == "call"


def judged(
    found: Sequence[tuple[Difference, Found, int | None]],
    failed: Sequence[tuple[int, Outcome]],
    accepted: int,
    given: str,
) -> tuple[Verdict, str, str]:
    """The verdict of a comparison, why, and what can be done.

    Args:
        found: the differences.
        failed: calls that failed in the sandbox alone.
        accepted: how many items the node accepts natively.
        given: the input that shows it best, as text; "": that is not known.
    """
    if failed:
        outcome = failed[0][1]
        share = "each input" if len(failed) >= accepted else f"{len(failed)} of {accepted} inputs"
        example = f", such as {given}" if given else ""
        remedy = outcome.remedy or next((one.remedy for _, one in failed if one.remedy), "")
        return "broken", f"fails on {share}{example}: {outcome.told}", remedy
    if not found:
        return "works", "", ""
    sizes = [one.relative for _, one, _ in found]
    if all(size is not None for size in sizes):
        largest = max(size for size in sizes if size is not None)
        if largest < 1e-6:
            return (
                "differs",
                f"floats are rounded otherwise, by {largest:.2g} of a value at most",
                "Compare with a tolerance: the sandbox's C library rounds some functions otherwise.",
            )
        return "differs", f"floats differ, by up to {largest:.2g} of a value", ""
    kinds = list(dict.fromkeys(one.what for one, _, _ in found))
    first = next(one for one, found_there, _ in found if found_there.relative is None)
    place = f" at {first.where}" if first.where else ""
    return "differs", f"{', '.join(kinds)}: {first.how}{place}", _advice(first)


def _advice(first: Difference) -> str:
    if first.how.startswith("dtype"):
        return "Name the dtype where the array is made."
    if first.what == "log":
        return "Compare what is logged: grant what the node asks its surroundings for, or leave it out of the texts."
    return ""


def cut(found: Sequence[Difference]) -> tuple[list[Difference], int]:
    """The first differences, and how many more there are."""
    return list(found[:_MOST]), max(0, len(found) - _MOST)


def python_of_both() -> str:
    """A note on the versions."""
    return f"natively this is Python {sys.version_info[0]}.{sys.version_info[1]}, in the sandbox {remedies.PYTHON}"

"""What a host and the process of a native node send each other: an `Order`, and for each of them an answer: a `Kind` and a value.

Both sides are trusted: these are pickles.
"""

from __future__ import annotations

import pickle
import traceback
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

__all__ = ["Kind", "Order", "packed_outcome", "portable"]


@dataclass(frozen=True, slots=True)
class Order:
    """What the host asks of the process: one of the verbs of `Placement`, with its arguments; or "load" or "apart"."""

    verb: str
    arguments: tuple[Any, ...] = ()


class Kind(IntEnum):
    """What the value of an answer is."""

    VALUE = 0
    """What the verb returns."""
    RAISED = 1
    """What it has raised."""
    REFUSED = 2
    """Why the order could not be read. Nothing was done."""
    APART = 3
    """For "call": the pickle of each outcome, and whether the node wants no more items."""


def packed_outcome(outcome: list[Any] | Exception) -> bytes:
    """The pickle of an outcome, or of an error that says why it has none."""
    try:
        return pickle.dumps(portable(outcome) if isinstance(outcome, Exception) else outcome)
    except Exception as error:
        return pickle.dumps(TypeError(f"an output cannot be sent from the process of its node: {error}"))


def portable(error: BaseException) -> Exception:
    """The error with the traceback as a note, if it can be pickled; else one that says the same."""
    note = f"in the process of the node:\n{''.join(traceback.format_exception(error)).rstrip()}"
    try:
        error.add_note(note)
        if isinstance(error, Exception) and isinstance(pickle.loads(pickle.dumps(error)), type(error)):
            return error
    except Exception:  # of the error's class: it is taken for what cannot be pickled
        pass
    made = RuntimeError(f"{type(error).__qualname__}: {error}")
    made.add_note(note)
    return made

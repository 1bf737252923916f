"""Writes numbers.h: the numbers that the core shares with Python and the guest. `python runtime/native/write_numbers.py`

They are those of cloche/_wasm/core.py and cloche_wire/abi.py; change them there.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER.parents[1] / "guest"), str(FOLDER.parents[1] / "wasm")]

from cloche._wasm import core
from cloche_wire import abi
from imagebuild import header

FOR_THE_CORE = (
    *("NOTICE_NONE", "NOTICE_DEADLINE", "NOTICE_CANCEL", "NOTICE_POLL", "ANSWER_NONE", "ANSWER_INTERRUPTED"),
    *("CLOCK_ID_REALTIME", "CLOCK_ID_MONOTONIC", "STOP_PAGE", "STOP_PAGE_BYTES", "WASI_EINTR"),
)
PREFIXES = {
    core.Word: "WORD_",
    core.ClockMode: "CLOCK_MODE_",
    core.JournalMode: "JOURNAL_MODE_",
    core.Answered: "ANSWERED_",
    core.Taped: "TAPED_",
    core.Sampled: "CLOCHE_SAMPLED_",
}
NAMES = {"NONE": "NO_REASON"}
"""A member's name in C, where that has no name of its class before it."""


def text() -> str:
    """What numbers.h has to be."""
    source = inspect.getsource(core)
    lines = ["/* clang-format off */", ""]
    kinds = (core.Status, core.Reason, core.Metering, core.Function, core.State, core.ClockMode)
    for kind in (*kinds, core.JournalMode, core.Answered, core.Taped, core.Sampled, core.Word):
        assert kind.__doc__ is not None
        tag = kind.__doc__[kind.__doc__.index("``enum ") :].split()[1].strip("`).,:")
        prefix = PREFIXES.get(kind, "CLOCHE_")
        rows = [(NAMES.get(name, name), number, comment) for name, number, comment in header.commented(source, kind)]
        lines += [f"/* {kind.__doc__.split(' (``')[0]}. */", *header.enum(tag, prefix, rows)]
    lines += header.defines("", {"CLOCHE_WORDS": core.WORDS})
    lines += header.defines("", {name: getattr(abi, name) for name in FOR_THE_CORE})
    lines += header.defines(
        "", {"NOTICE_BYTES": 4 * len(abi.NOTICE_WORDS), "NOTICE_BEGUN": abi.NOTICE_WORDS.index("begun")}
    )
    words = {name.upper(): index for index, name in enumerate(abi.LAYOUT_WORDS)}
    lines += header.defines("LAYOUT_", words | {"COUNT": len(words)})
    return header.header("cloche/_wasm/core.py and cloche_wire/abi.py by write_numbers.py", "CLOCHE_NUMBERS_H", lines)


if __name__ == "__main__":
    (FOLDER / "numbers.h").write_text(text(), "utf-8")

"""Untrusted text made safe to show: what a node returns or prints may hold sequences that repaint a terminal or reorder a line.

Cloche cleans the texts of errors and log records itself. Use these for the values that a node returns, before you print them.

>>> clean("red: \\x1b[31m")
'red: \\\\x1b[31m'
"""

from __future__ import annotations

import re
from typing import Any, Final

__all__ = ["MAX_LINE", "MAX_NAME", "MAX_TEXT", "clean", "clean_ends", "line", "name", "short"]

MAX_NAME: Final = 200
"""Characters of a name: of a node, a class, a function, a file, a logger, a service."""
MAX_LINE: Final = 1024
"""Characters of a line of source text."""
MAX_TEXT: Final = 16 * 1024
"""Characters of a message."""

# C0 and C1 controls but tab and newline (ESC starts an ANSI sequence), bidirectional overrides and isolates, the line and
# paragraph separators, lone surrogates: nothing that repaints a terminal or reorders a line ("Trojan Source", CVE-2021-42574).
_UNSAFE: Final = (
    (0x00, 0x08), (0x0B, 0x1F), (0x7F, 0x9F), (0x61C, 0x61C), (0x200E, 0x200F), (0x2028, 0x202E), (0x2066, 0x2069),
    (0xD800, 0xDFFF),
)  # fmt: skip
_FINDS: Final = re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in _UNSAFE)}]")
_ESCAPES: Final = {
    number: f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
    for first, last in _UNSAFE
    for number in range(first, last + 1)
}
_ON_ONE_LINE: Final = {**_ESCAPES, 9: "\\t", 10: "\\n"}


def clean(text: str, most: int = MAX_TEXT) -> str:
    """The text with control and bidirectional characters as escapes. Newlines and tabs stay.

    A text of more than `most` characters is cut there, and a remark at its end says how many were cut.
    """
    cut = text if len(text) <= most else text[:most]
    if not cut.isprintable() and _FINDS.search(cut):
        cut = cut.translate(_ESCAPES)[:most]
    return cut if len(text) <= most else f"{cut}... [{len(text) - most} characters cut]"


def clean_ends(text: str, most: int = MAX_TEXT) -> str:
    """As `clean`, but of a text of more than `most` characters the beginning and the end are kept: for tracebacks."""
    cleaned = clean(text.rstrip("\n"), 6 * len(text))  # an escape has six characters at most
    if len(cleaned) <= most:
        return cleaned
    first = most // 4
    return f"{cleaned[:first]}\n  [{len(cleaned) - most} characters left out]\n{cleaned[first - most :]}"


def line(text: str, most: int = MAX_LINE) -> str:
    """The text on one line: as `clean` has it, with newlines and tabs as escapes too.

    A longer text is cut to `most` characters, the last three of them dots.
    """
    cut = text[: most + 1]
    if not cut.isprintable():
        cut = cut.translate(_ON_ONE_LINE)
    return cut if len(cut) <= most else f"{cut[: most - 3]}..."


def name(text: str) -> str:
    """A name on one line, as `line` has it, of at most MAX_NAME characters."""
    return line(text, MAX_NAME)


def short(value: Any) -> str:
    """The `repr` of a value, with the first ten items of each container and MAX_NAME characters of each other value."""
    import reprlib  # rarely needed

    shortens = reprlib.Repr()
    shortens.maxdict = shortens.maxlist = shortens.maxtuple = 10
    shortens.maxstring = shortens.maxother = MAX_NAME
    return shortens.repr(value)

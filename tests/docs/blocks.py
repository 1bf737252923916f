"""The code blocks of a page of documentation, and what becomes of each.

====================================  ============================================================================
```` ```python ````                    run; the blocks of one page share their names, as one program
```` ```sh ````                        run, in the folder of the page; a block of ``scripts/...`` alone is only looked up
```` ```... title="nodes.py" ````      written to that file, in the folder of the page
```` ```text title="Output" ````       what the block before it prints, log lines left out; ``...`` stands for anything
``title="requirements.txt"``            written, too: the packages of others that the page needs, with their versions
a first line ``# not run: why``        left alone, and counted: the reader sees it too
any other language                     data, or what some other program shows
====================================  ============================================================================
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Block", "blocks", "requirements"]

_FENCE: Final = re.compile(
    r'^(?P<indent> *)```(?P<language>[\w+-]*)(?: +title="(?P<title>[^"]+)")?[^\n]*\n(?P<text>.*?)^(?P=indent)```$',
    re.MULTILINE | re.DOTALL,
)
_NOT_RUN: Final = re.compile(r"# not run: \S.*")


@dataclass(frozen=True)
class Block:
    """One code block.

    Attributes:
        language: what the fence says; "" if it says none.
        title: what the fence says; "" if it says none.
        text: what is in the block.
        line: the line of the page on which the text begins, from 1.
    """

    language: str
    title: str
    text: str
    line: int

    @property
    def fate(self) -> Literal["python", "sh", "scripts", "file", "output", "not run", "data"]:
        """What the tests do with it."""
        if self.title == "Output":
            return "output"
        if "." in self.title:
            return "file"
        if self.language in ("python", "sh") and _NOT_RUN.match(self.text):
            return "not run"
        if self.language == "sh" and all(re.match(r"scripts/|#|\s*$", line) for line in self.text.splitlines()):
            return "scripts"
        match self.language:
            case "python":
                return "python"
            case "sh":
                return "sh"
        return "data"


def blocks(page: str) -> list[Block]:
    """All of a page's code blocks, from top to bottom."""
    return [
        Block(
            found["language"],
            found["title"] or "",
            textwrap.dedent(found["text"]),
            page.count("\n", 0, found.start("text")) + 1,
        )
        for found in _FENCE.finditer(page)
    ]


def requirements(page: str) -> list[str]:
    """The packages of others that a page needs: the lines of its block ``requirements.txt``."""
    return [
        line for block in blocks(page) if block.title == "requirements.txt" for line in block.text.split("\n") if line
    ]

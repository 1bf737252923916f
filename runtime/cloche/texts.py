"""Untrusted text made safe to show: what a node returns or prints may hold sequences that repaint a terminal or reorder a line.

Cloche cleans the texts of errors and log records itself. Use these for the values that a node returns, before you print them.

>>> clean("red: \\x1b[31m")
'red: \\\\x1b[31m'
"""

from __future__ import annotations

from cloche._texts import clean, line, name

__all__ = ["clean", "line", "name"]

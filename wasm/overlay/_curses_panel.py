"""Panels of a terminal that is not there. Stands in for the C module of that name."""

from cloche_refusal import TERMINAL, refusing

version, __version__ = "2.1", "2.1"


class error(Exception):  # noqa: N801  # the name that users know
    """A node has no terminal."""


class panel:  # noqa: N801
    """Cannot be made."""

    __new__ = refusing("panel", TERMINAL, TypeError, None)


bottom_panel = refusing("bottom_panel", TERMINAL, error, None)
new_panel = refusing("new_panel", TERMINAL, error, None)
top_panel = refusing("top_panel", TERMINAL, error, None)
update_panels = refusing("update_panels", TERMINAL, error, None)

"""The only group there is. Stands in for the C module of that name."""

from __future__ import annotations

import os

from cloche_refusal import Record


class struct_group(Record):  # noqa: N801
    """A group's entry."""

    __slots__ = ()
    _fields = ("gr_name", "gr_passwd", "gr_gid", "gr_mem")


_NODE = struct_group(("node", "x", os.getgid(), []))


def getgrgid(id: int) -> struct_group:  # noqa: A002  # the name that it has in C
    if id == _NODE[2]:
        return _NODE
    raise KeyError(f"getgrgid(): gid not found: {id}")


def getgrnam(name: str) -> struct_group:
    if name == _NODE[0]:
        return _NODE
    raise KeyError(f"getgrnam(): name not found: {name!r}")


def getgrall() -> list[struct_group]:
    return [_NODE]

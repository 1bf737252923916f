"""The only user there is. Stands in for the C module of that name."""

from __future__ import annotations

import os

from cloche_refusal import Record


class struct_passwd(Record):  # noqa: N801
    """A user's entry."""

    __slots__ = ()
    _fields = ("pw_name", "pw_passwd", "pw_uid", "pw_gid", "pw_gecos", "pw_dir", "pw_shell")


_NODE = struct_passwd(("node", "x", os.getuid(), os.getgid(), "node", "/home/node", "/bin/sh"))


def getpwuid(uid: int, /) -> struct_passwd:
    if uid == _NODE[2]:
        return _NODE
    raise KeyError(f"getpwuid(): uid not found: {uid}")


def getpwnam(name: str, /) -> struct_passwd:
    if name == _NODE[0]:
        return _NODE
    raise KeyError(f"getpwnam(): name not found: {name!r}")


def getpwall() -> list[struct_passwd]:
    return [_NODE]

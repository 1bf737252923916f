"""Who can change a file: a cache holds code that runs in this process, so nobody but root and this user may be able to.

A cache that root has filled, while a container image was built, is as good as the program's own files: root put these there, too.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["is_own", "make_folder", "outsider"]


def is_own(found: os.stat_result) -> bool:
    """Whether a file or folder belongs to root or this user, and nobody else can write to it."""
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & 0o022


def outsider(folder: Path) -> str:
    """Why somebody else could put another folder in the place of this one; "" if nobody can.

    Args:
        folder: the folder, which is itself looked at by `is_own`.

    Raises:
        OSError: a folder above it cannot be looked at.
    """
    for above in folder.resolve().parents:
        found = above.stat()
        if found.st_uid not in (0, os.geteuid()) and not _is_of_an_unknown_user(found.st_uid):
            return f"{above} belongs to another user, who can replace what is in it"
        if found.st_mode & stat.S_ISVTX:  # as /tmp: only its owner can rename or remove an entry
            continue
        if found.st_mode & 0o002:
            return f"{above} can be written by every user, who can replace what is in it"
        if found.st_mode & 0o020 and not _is_private_group(found.st_gid):
            return f"{above} can be written by a group, which can replace what is in it"
    return ""


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that others may read them, if the umask says so, and never write to them.

    Raises:
        OSError: it cannot be made.
    """
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o755, exist_ok=True)


def _is_private_group(group: int) -> bool:
    """Whether a group is this user's own, as Debian and Fedora make one for each user: by the user's name, without members."""
    if group == 0 and os.geteuid() == 0:
        return True
    import grp
    import pwd

    try:
        user, found = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return found.gr_name == user and not set(found.gr_mem) - {user}


def _is_of_an_unknown_user(owner: int) -> bool:
    """Whether the owner is one that this user namespace has no number for, as root is in some containers."""
    try:
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
            if int(file.read()) != owner:
                return False
        with open("/proc/self/uid_map", encoding="ascii") as file:
            ranges = [tuple(map(int, line.split())) for line in file]
    except (OSError, ValueError):
        return False
    return not any(inside <= owner < inside + count for inside, _, count in ranges)

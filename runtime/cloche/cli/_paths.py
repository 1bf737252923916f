"""Checks every path of a command line before the work begins: a run of an hour must not end because its report has no folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cloche import source as _source
from cloche.cli._console import InputError

if TYPE_CHECKING:
    from cloche.cli._options import NodeOptions

__all__ = ["check_folder", "check_node", "check_outputs"]


def check_node(node: NodeOptions) -> None:
    """Read the node's code and its packages, and look for the folders that are mounted.

    Raises:
        ClocheError, OSError: one of them is missing, cannot be read, or is not what it has to be.
    """
    _source.read(node.path, packages=bool(node.grants.packages))
    node.grants.archives()
    for point, mount in node.grants.mounts.items():
        folder = Path(mount.path if hasattr(mount, "path") else mount)
        if not folder.exists():
            raise InputError(f"--mount: there is no folder {folder} to mount at {point}")
        if not folder.is_dir():
            raise InputError(f"--mount: {folder} is no folder, and cannot be mounted at {point}")
        if not os.access(folder, os.R_OK | os.X_OK):
            raise InputError(f"--mount: {folder} cannot be read by this user")
        if getattr(mount, "writable", False) and not os.access(folder, os.W_OK):
            raise InputError(f"--mount: {folder} cannot be written by this user: leave :rw out")


def check_outputs(
    outputs: Mapping[str, str | Path | None], node: NodeOptions | None, *, others: Mapping[str, str] | None = None
) -> None:
    """Check that each output can be written, and that none is another one, or the node itself.

    Args:
        outputs: option -> path; None: the option was not given, or is stdout.
        node: the node.
        others: files that no output may be -> what they are.

    Raises:
        InputError: an output cannot be written as it is given.
        OSError: likewise.
    """
    taken = {} if node is None else {os.path.realpath(path): "the node's own" for path in _own(node)}
    taken |= {os.path.realpath(path): what for path, what in (others or {}).items()}
    for option, path in outputs.items():
        if path is None:
            continue
        _check_output(option, os.fspath(path))
        real = os.path.realpath(path)
        if real in taken and not _is_special(real):
            raise InputError(f"{option} {path} is also {taken[real]}: give another file")
        taken[real] = option


def check_folder(option: str, folder: Path | None) -> None:
    """Check that files can be put into a folder, which is made if it is missing."""
    if folder is None:
        return
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise InputError(f"{option}: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{option}: {there} cannot be written by this user")


def _own(node: NodeOptions) -> list[str]:
    return [node.path, *(os.fspath(package) for package in node.grants.packages)]


def _check_output(option: str, path: str) -> None:
    if path in ("", "-"):
        raise InputError(f"{option} is {path!r}: give the path of a file")
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        found = None
    if path.endswith(os.sep) or (found is not None and stat.S_ISDIR(found.st_mode)):
        raise InputError(f"{option}: {path} is a folder: give the path of a file")
    if found is not None and not stat.S_ISREG(found.st_mode):  # it is written in place
        if not os.access(path, os.W_OK):
            raise InputError(f"{option}: {path} cannot be written by this user")
        return
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise InputError(f"{option}: there is no folder {folder} for {path}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{option}: {path} cannot be written: this user cannot put files into {folder}")


def _is_special(path: str) -> bool:
    """Whether a path is that of a device, a pipe or a terminal, which several outputs may share."""
    try:
        return not stat.S_ISREG(Path(path).stat().st_mode)
    except OSError:
        return False

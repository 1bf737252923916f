"""Unpacks .deb packages, tarballs and wheels. Paths are checked, and no script of a package is run."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

Keep = Callable[[str], str | None]
"""Maps a member's name to where it goes, relative to the target folder; None leaves it out."""


def ar_members(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The files of a Unix archive in order, as a .deb has them (short names only)."""
    if body[:8] != b"!<arch>\n":
        raise ValueError("not an ar archive")
    at = 8
    while at < len(body):
        head = body[at : at + 60]
        if len(head) < 60 or head[58:] != b"`\n":
            raise ValueError(f"damaged ar header at byte {at}")
        size = int(head[48:58])
        if at + 60 + size > len(body):
            raise ValueError(f"ar member at byte {at} is cut off")
        yield head[:16].decode("ascii").rstrip(" /"), body[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


def unpack_deb(deb: Path, target: Path, keep: Keep = lambda name: name) -> None:
    """Unpack the files of a Debian package; its scripts are ignored."""
    for name, body in ar_members(deb.read_bytes()):
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(body)) as tar:
                _unpack(tar, target, keep)
            return
    raise ValueError(f"{deb.name} has no data.tar")


def unpack_tar(path: Path, target: Path, keep: Keep = lambda name: name) -> None:
    """Unpack a tarball without its top folder."""
    with tarfile.open(path) as tar:
        _unpack(tar, target, lambda name: keep(rest) if (rest := name.partition("/")[2]) else None)


def unpack_wheel(path: Path, target: Path, keep: Keep = lambda name: name) -> None:
    with zipfile.ZipFile(path) as wheel:
        for info in wheel.infolist():
            place = None if info.is_dir() else keep(info.filename)
            if place is None:
                continue
            out = _below(target, place)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(wheel.read(info))
            if info.external_attr >> 16 & 0o100 or "/bin/" in place:
                out.chmod(0o755)


def _unpack(tar: tarfile.TarFile, target: Path, keep: Keep) -> None:
    for member in tar:
        place = keep(member.name.removeprefix("./"))
        if place is None or member.isdir():
            continue
        out = _below(target, place)
        out.parent.mkdir(parents=True, exist_ok=True)
        if member.issym():
            link = out.parent / member.linkname
            if member.linkname.startswith("/") or not link.resolve().is_relative_to(target.resolve()):
                continue  # points out of the tree: nothing in the build needs it
            out.symlink_to(member.linkname)
        elif member.islnk():
            out.hardlink_to(_below(target, keep(member.linkname.removeprefix("./")) or member.linkname))
        elif member.isfile():
            source = tar.extractfile(member)
            assert source is not None
            with source, out.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            if member.mode & 0o100:
                out.chmod(0o755)


def _below(target: Path, name: str) -> Path:
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts:
        raise ValueError(f"archive member {name!r} lies outside of its archive")
    return target / name

"""Unpacking needs no tool of the system and never leaves the target folder."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from imagebuild import archive


def ar(*members: tuple[str, bytes], magic: bytes = b"!<arch>\n") -> bytes:
    out = bytearray(magic)
    for name, body in members:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode() + body + b"\n" * (len(body) % 2)
    return bytes(out)


def tar_xz(*members: tarfile.TarInfo, bodies: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as tar:
        for member in members:
            body = bodies.get(member.name, b"")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return out.getvalue()


def member(name: str, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode = mode
    if link:
        info.type, info.linkname = tarfile.SYMTYPE, link
    return info


def deb(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "x.deb"
    path.write_bytes(ar(("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", data)))
    return path


def test_a_deb_is_unpacked_without_dpkg(tmp_path: Path) -> None:
    """Files, executable bits and links inside of the tree arrive; a filter leaves files out."""
    bodies = {"./usr/bin/tool": b"#!", "./usr/share/doc": b"text"}
    members = (member("./usr/bin/tool", mode=0o755), member("./usr/bin/alias", "tool"), member("./usr/share/doc"))
    out = tmp_path / "out"
    archive.unpack_deb(deb(tmp_path, tar_xz(*members, bodies=bodies)), out, lambda n: n if "share" not in n else None)
    assert (out / "usr/bin/alias").read_bytes() == b"#!"
    assert (out / "usr/bin/tool").stat().st_mode & 0o111
    assert not (out / "usr/share").exists()


def test_links_out_of_the_tree_are_left_out(tmp_path: Path) -> None:
    """A package's link to /etc must not make a later file land there."""
    members = (member("./a", "/etc/passwd"), member("./b", "../../outside"))
    out = tmp_path / "out"
    out.mkdir()
    archive.unpack_deb(deb(tmp_path, tar_xz(*members, bodies={})), out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "x/../../evil", "/evil"])
def test_paths_out_of_the_tree_are_refused(tmp_path: Path, name: str) -> None:
    """Checked for every kind of archive, although all of them are pinned."""
    with pytest.raises(ValueError, match="outside"):
        archive.unpack_deb(deb(tmp_path, tar_xz(member(name), bodies={name: b""})), tmp_path / "out")
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(name, b"")
    with pytest.raises(ValueError, match="outside"):
        archive.unpack_wheel(wheel, tmp_path / "out")


def test_a_tarball_loses_its_top_folder(tmp_path: Path) -> None:
    """Stage folders do not carry versions in their paths."""
    path = tmp_path / "x.tar.xz"
    path.write_bytes(tar_xz(member("zlib-1.3/adler32.c"), bodies={"zlib-1.3/adler32.c": b"int x;"}))
    archive.unpack_tar(path, tmp_path / "out")
    assert (tmp_path / "out/adler32.c").read_bytes() == b"int x;"


@pytest.mark.parametrize(
    "body", [b"nothing", ar(("a", b"xx"))[:-1], ar(("a", b"xx")) + b"trailing"], ids=["magic", "short", "header"]
)
def test_a_damaged_ar_is_refused(body: bytes) -> None:
    """Not silently cut off."""
    with pytest.raises(ValueError, match="ar"):
        list(archive.ar_members(body))

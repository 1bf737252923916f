"""Makes a tree (`cloche_wire.tree`) of a wheel or zip, which a stranger may have made: it is read inside of a sandbox only."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from typing import Final

from cloche_wire import tree

_WHEEL_DATA: Final = re.compile(r"[^/]+\.data/(purelib|platlib)/")
_LOCAL: Final = struct.Struct("<4s22xHH")  # signature, lengths of the name and of the extra field
_ENCRYPTED: Final = 1
_BEST_RATIO: Final = 1032
"""DEFLATE makes no stream longer than this many times its compressed bytes: a larger size is a lie."""


def tree_of(name: str, content: bytes) -> bytes:
    """The tree of a wheel or zip. Compressed files stay compressed.

    Args:
        name: file name, for errors.
        content: bytes of the file.

    Raises:
        ImportError: the bytes are no zip archive, or one that is damaged, encrypted, or has paths that lead out of it.
    """
    found: dict[str, tree.File] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > tree.MAX_ENTRIES:
                raise ValueError(f"it has {len(members)} files, more than {tree.MAX_ENTRIES}")
            for member in members:
                if member.is_dir():
                    continue
                inner = _WHEEL_DATA.match(member.filename)
                path = member.filename[inner.end() :] if inner else member.filename
                if "__pycache__" in path.split("/"):  # compiled by whoever made the archive, perhaps from other sources
                    continue
                if path in found:
                    raise ValueError(f"it has {path!r} twice")
                if "\0" in member.orig_filename:
                    raise ValueError(f"the name {member.orig_filename!r} has a NUL")
                found[path] = _file(archive, member, content)
        return tree.pack(found)
    except zipfile.BadZipFile as error:
        raise ImportError(f"package {name!r} is not a wheel or zip: {error}") from None
    except (ValueError, NotImplementedError, RuntimeError, EOFError, OverflowError, struct.error) as error:
        raise ImportError(f"package {name!r} cannot be used: {error}") from None


def _file(archive: zipfile.ZipFile, member: zipfile.ZipInfo, content: bytes) -> tree.File:
    """One file, as a view of the archive's bytes where its compression allows that."""
    path = member.filename
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f"{path!r} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        whole = archive.read(member)
        return tree.File(whole, len(whole))
    signature, names, extra = _LOCAL.unpack_from(content, member.header_offset)
    start = member.header_offset + _LOCAL.size + names + extra
    size = member.file_size
    if signature != b"PK\3\4" or start + member.compress_size > len(content):
        raise ValueError(f"{path!r} does not lie in the archive")
    data = memoryview(content)[start : start + member.compress_size]
    if member.compress_type == zipfile.ZIP_STORED:
        if size != member.compress_size:
            raise ValueError(f"{path!r} has not the size that the archive says")
        return tree.File(data, size, tree.STORED, member.CRC)
    if size > _BEST_RATIO * (member.compress_size + 1):
        raise ValueError(f"{path!r} cannot have the size that the archive says ({size} bytes)")
    return tree.File(data, size, tree.DEFLATED, member.CRC)

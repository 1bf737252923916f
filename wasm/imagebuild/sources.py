"""CPython's sources: unpacked as far as the image needs them, with Debian's security patches applied."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from imagebuild import archive, patch
from imagebuild.stages import BuildError

# Debian's patches that fix faults of CPython itself; the others fit it into Debian.
_SECURITY = re.compile(r"(CVE-|dict-use-after-free|traverse-managed-dicts).*\.patch")
_UNPACKED = re.compile(r"(Include|Lib|Modules|Objects|Parser|Python)/.*|pyconfig\.h\.in|configure|LICENSE")
_LEFT_OUT = re.compile(r"Lib/(test|idlelib|tkinter|turtledemo|ensurepip|lib2to3)/.*|.*/(test|tests)/.*")


def unpack(tarball: Path, patches: Path | None, out: Path) -> int:
    """Unpack CPython's sources and apply the security patches; returns their number."""

    def wanted(name: str) -> bool:
        return bool(_UNPACKED.fullmatch(name)) and not _LEFT_OUT.fullmatch(name)

    archive.unpack_tar(tarball, out, lambda name: name if wanted(name) else None)
    if patches is None:
        return 0
    applied = 0
    for name, text in _security_patches(patches):
        try:
            applied += bool(patch.apply(text, out, wanted))
        except patch.PatchError as error:
            raise BuildError(f"{name}: {error}") from error
    return applied


def _security_patches(debian: Path) -> Iterator[tuple[str, str]]:
    with tarfile.open(debian) as tar:

        def text(name: str) -> str:
            file = tar.extractfile(f"debian/patches/{name}")
            assert file is not None
            return file.read().decode("utf-8")

        for line in text("series").splitlines():
            if _SECURITY.fullmatch(line.strip()):
                yield line.strip(), text(line.strip())

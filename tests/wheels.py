"""Wheels of a test's own, made of texts."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

Members = Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]


def archive(members: Members, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The bytes of a wheel or zip. All its files are of the same time, so that they depend on the members alone.

    Args:
        members: path -> content; or pairs of them, if a path comes twice.
        compression: how they are stored.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as out:
        for path, data in members.items() if isinstance(members, Mapping) else members:
            out.writestr(zipfile.ZipInfo(path), data, compression)
    return content.getvalue()


def write_wheel(path: Path, members: Members) -> Path:
    """Write a wheel to a file; answers its path."""
    path.write_bytes(archive(members))
    return path


def metadata(name: str, version: str) -> dict[str, str]:
    """The members by which `importlib.metadata` knows a distribution."""
    folder = f"{name}-{version}.dist-info"
    return {
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{folder}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }

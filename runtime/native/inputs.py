"""The digest of everything that the native core is built from. It names the core's folder in the cache.

The host library loads this file by its path in a source checkout, so it imports nothing but the standard library.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

INPUTS = ("*.c", "*.h", "build.py", "pins.toml")


def core_digest(folder: Path) -> str:
    """Hexadecimal SHA-256 over the names and contents of the core's sources, its build script and its compiler's pin."""
    digest = hashlib.sha256(b"cloche core 1\n")
    for path in sorted(path for pattern in INPUTS for path in folder.glob(pattern)):
        body = path.read_bytes()
        digest.update(f"{path.name}\n{len(body)}\n".encode())
        digest.update(body)
    return digest.hexdigest()

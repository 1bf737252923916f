"""The digest of everything that the native core is built from. The digest is the name of the core's folder in the cache.

In a source checkout the package `cloche` loads this file by its path, so this file imports only the standard library.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

INPUTS = ("*.c", "*.h", "build.py", "pins.toml")


def core_digest(folder: Path) -> str:
    """SHA-256, in hexadecimal, of the names and contents of the core's sources, its build script and its compiler's pin.

    Args:
        folder: the folder of this file.
    """
    digest = hashlib.sha256(b"cloche core 1\n")
    for path in sorted(path for pattern in INPUTS for path in folder.glob(pattern)):
        body = path.read_bytes()
        digest.update(f"{path.name}\n{len(body)}\n".encode())
        digest.update(body)
    return digest.hexdigest()

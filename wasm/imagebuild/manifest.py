"""manifest.json: what an image is and what it was made from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from imagebuild.driver import Abi
from imagebuild.pins import Pins

FORMAT = 1
# Pins of the toolchain that leave code in the image: the C and C++ libraries and the compiler's builtins.
RUNTIME_PARTS = ("wasi-libc", "libc++-19-dev-wasm32", "libc++abi-19-dev-wasm32", "libclang-rt-19-dev-wasm32")

# Which pins of these groups a build uses depends on the machine; the image's bytes do not.
NOT_IN_MANIFEST = ("toolchain-libs", "hosttool-native")


def write(target: Path, pins: Pins, snapshot: Path, abi: Abi, inputs_digest: str, without: frozenset[str]) -> None:
    """Write the manifest of the image at `snapshot`/cloche.wasm."""
    wasm = (snapshot / "cloche.wasm").read_bytes()
    facts = json.loads((snapshot / "snapshot.json").read_text("utf-8"))
    used = [pin for pin in pins.by_name.values() if pin.group not in NOT_IN_MANIFEST and pin.name not in without]
    contained = [pin for pin in used if pin.group == "source" or pin.name in RUNTIME_PARTS]
    names = {
        "cpython": "cpython",
        "numpy": "numpy",
        "cloudpickle": "cloudpickle",
        "tzdata": "tzdata",
        "clang": "clang-19",
    }
    names |= {name: name for name in ("wasi-libc", "zlib", "bzip2", "xz-utils", "sqlite")}
    manifest = {
        "format": FORMAT,
        "abi": abi["VERSION"],
        "image": {"bytes": len(wasm), "sha256": hashlib.sha256(wasm).hexdigest()},
        "memory": {key: facts[key] for key in ("pages", "segments", "data_bytes", "density")},
        "features": {
            "wasm": facts["features"],
            "modules": ["numpy", "cloudpickle", "tzdata", "bz2", "lzma", "zlib", "sqlite3"],
            "security_patches": "cpython-patches" not in without,
        },
        "versions": {name: pins[pin].version for name, pin in sorted(names.items())},
        "inputs": {"digest": inputs_digest, "pins": {pin.name: pin.sha256 for pin in used}},
        "licences": {pin.name: pin.licence for pin in sorted(contained, key=lambda pin: pin.name)},
    }
    target.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", "utf-8")

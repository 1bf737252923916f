"""Finds the guest image and compiles it to native code, once for each machine and configuration.

The native code is kept in the cache as an AOT artifact. An artifact will run in this process, so its folder is trusted as the
folder of a library is: it must belong to this user, and nobody else may write to it. The artifact's name is the digest of
everything that the native code depends on. The cache only saves time: where it cannot be used, the image is compiled at each start.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cloche._wasm import artifacts, bindings
from cloche._wasm.bindings import EngineError
from cloche._wasm.checkout import build_rule, cache_folder, source_tree
from cloche._wasm.engine import Module, options
from cloche._wasm.scarce import EXHAUSTED_ERRNOS, out_of_resources
from cloche.errors import ImageError
from cloche.metering import Metering
from cloche_wire import abi

__all__ = ["Image", "find", "kept", "load"]

_TO_LOAD: Final = "to load the image"
WASM_NAME: Final = "cloche.wasm"
MANIFEST_NAME: Final = "manifest.json"
_AOT_FORMAT: Final = 2
"""Version of the format of an artifact's file. Raise it with each change of the format or of the checksum in `artifacts`: otherwise
every older artifact is reported as damaged."""


@dataclass(frozen=True, slots=True)
class Image:
    """A guest image on disk.

    Attributes:
        folder: the folder of cloche.wasm and manifest.json.
        manifest: content of manifest.json: versions, digests and features, written by the image's build.
    """

    folder: Path
    manifest: dict[str, Any] = field(hash=False)

    @classmethod
    def open(cls, folder: Path) -> Image:
        """Read and check an image's manifest.

        Args:
            folder: the image's folder.

        Raises:
            ImageError: the manifest is missing or damaged, or the image has another ABI, or another size than the manifest says.
        """
        try:
            manifest = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
            found, wanted = manifest["abi"], manifest["image"]["bytes"]
            size = (folder / WASM_NAME).stat().st_size
        except FileNotFoundError as error:
            raise ImageError(f"no guest image in {folder}: {error.filename} is missing. {_remedy()}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ImageError(
                f"the manifest of the guest image in {folder} is damaged ({error!r}). {_remedy()}"
            ) from error
        if found != abi.VERSION:
            raise ImageError(
                f"the guest image in {folder} has ABI {found}, this Cloche speaks {abi.VERSION}. {_remedy()}"
            )
        if size != wanted:
            raise ImageError(f"the guest image in {folder} has {size} bytes, not {wanted}: it was altered. {_remedy()}")
        return cls(folder, manifest)

    @property
    def wasm(self) -> Path:
        """Path of the WebAssembly module."""
        return self.folder / WASM_NAME

    @property
    def sha256(self) -> str:
        """The SHA-256 that the module must have, in hexadecimal, as the manifest says."""
        return str(self.manifest["image"]["sha256"])

    def verify(self) -> None:
        """Read the whole module and compare its digest with the manifest's.

        Raises:
            ImageError: the module was altered.
        """
        import hashlib  # slow to import: it loads OpenSSL

        with self.wasm.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise ImageError(f"{self.wasm} was altered: its sha256 is {found}, not {self.sha256}. {_remedy()}")


def _remedy() -> str:
    """The sentence of an error that says how to get a good image."""
    if source_tree() is not None:
        return "Build it: cloche image build"
    return "Install the package anew: pip install --force-reinstall cloche"


def find(folder: str | os.PathLike[str] | None = None) -> Image:
    """The image to use: the one in `folder`, else the one in the installed package, else the one that was built from this checkout.

    Args:
        folder: the image's folder; None to search.

    Raises:
        ImageError: the image is missing, damaged, stale or of another ABI. The message says which command mends it.
    """
    if folder is not None:
        return Image.open(Path(folder))
    packaged = Path(__file__).parents[1] / "_image"
    if (packaged / MANIFEST_NAME).exists():
        return Image.open(packaged)
    tree = source_tree()
    if tree is None:
        raise ImageError(f"this installation has no guest image. {_remedy()}")
    built = cache_folder() / "images" / str(build_rule(tree / "wasm" / "imagebuild" / "inputs.py").inputs_digest(tree))
    if not built.exists():
        raise ImageError(f"the guest image of this checkout has not been built yet, or is stale. {_remedy()}")
    return Image.open(built)


def _aot_key(image: Image, metering: Metering) -> str:
    """Digest of everything that the native code depends on: image, wasmtime, machine, processor, engine options."""
    import hashlib  # slow to import: it loads OpenSSL

    machine = os.uname().machine
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            cpu = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        cpu = ""
    library = bindings.library_path().stat().st_size
    parts = [_AOT_FORMAT, image.sha256, library, machine, cpu, sorted(options(metering).items())]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _artifact(image: Image, metering: Metering) -> Path:
    """Path of the artifact of an image, whether or not the file exists."""
    return cache_folder() / "aot" / f"{_aot_key(image, metering)}.cwasm"


def kept(image: Image, metering: Metering) -> Path | None:
    """Path of the artifact of an image; None if the cache does not have it."""
    try:
        path = _artifact(image, metering)
    except ImageError:  # no cache folder
        return None
    return path if path.exists() else None


def load(image: Image, metering: Metering, engine: int, progress: Callable[[str], None] = lambda text: None) -> Module:
    """The compiled module of an image: from the cache, or compiled now and put into the cache.

    A cache that cannot be read or written to is not an error: the image is compiled, and `progress` is told why the artifact is not
    kept.

    Args:
        image: the image to load.
        metering: how the guest's time is bounded, which decides the checks that are compiled into the native code.
        engine: address of a ``wasm_engine_t`` that was made with the same `metering`.
        progress: called with a line of text before and after the compilation, and with each warning about the cache.

    Raises:
        ImageError: the image was altered, or another user can write to the cache.
        ClocheError: this process has no memory, address space or open files left.
    """
    try:
        path = _artifact(image, metering)
    except ImageError as error:  # no cache folder
        return _compile(image, engine, progress, f"{error}")
    try:
        artifacts.open_folder(path.parent)
    except OSError as error:
        return _compile(image, engine, progress, f"{error}")
    module = _from_cache(path, engine)
    if module is not None:
        return module
    with artifacts.locked(path):
        module = _from_cache(path, engine, progress)
        if module is not None:
            return module
        return _compile(image, engine, progress, keep_as=path)


def _from_cache(path: Path, engine: int, progress: Callable[[str], None] = lambda text: None) -> Module | None:
    """The module of an artifact; None if the file is missing, damaged, unreadable or of another engine.

    Args:
        path: the artifact's file.
        engine: address of the ``wasm_engine_t``.
        progress: called with a line of text that says why an existing file is not used.

    Raises:
        ClocheError: this process has no memory, address space or open files left.
    """
    try:
        if artifacts.intact(path):
            return Module.from_file(engine, str(path))
        progress(f"the compiled image {path} is damaged: it is compiled anew")
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno in EXHAUSTED_ERRNOS:
            raise out_of_resources(_TO_LOAD, error) from error
        progress(f"the compiled image {path} cannot be read ({error}): it is compiled anew")
    except EngineError as error:
        if any(f"(os error {number})" in f"{error}" for number in EXHAUSTED_ERRNOS):
            # no compilation instead: it takes far more memory, and wasmtime's compiler ends the process when memory runs out
            raise out_of_resources(_TO_LOAD, error) from error
        progress(f"the compiled image {path} is not for this engine ({error}): it is compiled anew")
    # a damaged file stays until `artifacts.keep` replaces it: another process may be mapping it
    return None


def _compile(
    image: Image,
    engine: int,
    progress: Callable[[str], None],
    reason: str = "",
    keep_as: Path | None = None,
) -> Module:
    """Compile an image, and put the artifact into the cache.

    Args:
        image: the image.
        engine: address of the ``wasm_engine_t``.
        progress: as for `load`.
        reason: why the artifact cannot be kept, if `keep_as` is None.
        keep_as: path of the artifact.
    """
    progress("compiling the guest image for this machine: about 10 seconds")
    began = time.perf_counter()
    image.verify()
    module = Module.compiled(engine, image.wasm.read_bytes())
    progress(f"compiled in {time.perf_counter() - began:.1f} s")
    if keep_as is not None:
        try:
            artifacts.keep(keep_as, module.serialized())
        except OSError as error:
            reason = f"{error}"
    if reason:
        progress(
            f"the compiled image cannot be kept ({reason}): each start compiles it again. "
            f"Set CLOCHE_CACHE to a folder that you can write"
        )
    return module

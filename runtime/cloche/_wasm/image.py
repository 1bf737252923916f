"""Finds the guest image and turns it into native code, once for each machine and configuration.

An AOT artifact is native code that will run in this process, so its folder is trusted as a library's would be: it must
belong to this user and be writable by nobody else. Its name is the digest of all that it depends on. The cache saves time
and nothing else: where it cannot be used, the image is compiled at each start.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cloche._wasm import artifacts, bindings
from cloche._wasm.bindings import EngineError
from cloche._wasm.engine import Module, options
from cloche._wasm.scarce import NUMBERS, nothing_left
from cloche.errors import ImageError
from cloche.metering import Metering
from cloche_wire import abi

__all__ = ["Image", "cache_folder", "find", "kept", "load", "source_tree"]

_TO_LOAD: Final = "to load the image"
WASM_NAME: Final = "cloche.wasm"
MANIFEST_NAME: Final = "manifest.json"
_AOT_FORMAT: Final = 2  # of the artifact's file: a change of `artifacts` or its checksum makes a new one


def cache_folder() -> Path:
    """Where images and compiled code are kept: $CLOCHE_CACHE, $XDG_CACHE_HOME/cloche or ~/.cache/cloche.

    Raises:
        ImageError: none of these is set, and the user has no home folder.
    """
    if chosen := os.environ.get("CLOCHE_CACHE"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "cloche"
    try:
        return Path.home() / ".cache" / "cloche"
    except RuntimeError as error:  # HOME is not set, and the user is not in the system's list
        raise ImageError(f"there is no folder to keep images in ({error}): set CLOCHE_CACHE to one") from error


def source_tree() -> Path | None:
    """The checkout that this package is imported from, if it is one."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "wasm" / "build.py").is_file() else None


@dataclass(frozen=True, slots=True)
class Image:
    """A guest image on disk.

    Attributes:
        folder: where cloche.wasm and manifest.json are.
        manifest: versions, digests and features, as the build wrote them.
    """

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Image:
        """Read and check a manifest.

        Raises:
            ImageError: it is missing or damaged, or the image has another ABI or size.
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
        """The WebAssembly module."""
        return self.folder / WASM_NAME

    @property
    def sha256(self) -> str:
        """What the module's digest has to be."""
        return str(self.manifest["image"]["sha256"])

    def verify(self) -> None:
        """Read the whole module and compare its digest.

        Raises:
            ImageError: it was altered.
        """
        import hashlib  # slow to import: it loads OpenSSL

        with self.wasm.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise ImageError(f"{self.wasm} was altered: its sha256 is {found}, not {self.sha256}. {_remedy()}")


def _remedy() -> str:
    if source_tree() is not None:
        return "Build it: cloche image build"
    return "Install the package anew: pip install --force-reinstall cloche"


def _rule(path: Path) -> Any:
    """A module of the checkout's build that says what something is made of."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"_cloche_{path.parent.name}_inputs", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImageError(f"{path} is missing: this checkout is not whole")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built_core(name: str) -> Path | None:
    """Where the native core of this checkout is, or will be, by the build's own rule; None: this is no checkout."""
    tree = source_tree()
    if tree is None:
        return None
    folder = tree / "runtime" / "native"
    return cache_folder() / "native" / str(_rule(folder / "inputs.py").core_digest(folder)) / name


def find(folder: str | os.PathLike[str] | None = None) -> Image:
    """The image to use: the folder given, the one in the installed package, or the one built from this checkout.

    Raises:
        ImageError: there is none, or it is damaged, stale or of another ABI; the message says what to run.
    """
    if folder is not None:
        return Image.open(Path(folder))
    packaged = Path(__file__).parents[1] / "_image"
    if (packaged / MANIFEST_NAME).exists():
        return Image.open(packaged)
    tree = source_tree()
    if tree is None:
        raise ImageError(f"this installation has no guest image. {_remedy()}")
    built = cache_folder() / "images" / str(_rule(tree / "wasm" / "imagebuild" / "inputs.py").inputs_digest(tree))
    if not built.exists():
        raise ImageError(f"the guest image of this checkout has not been built yet, or is stale. {_remedy()}")
    return Image.open(built)


def _aot_key(image: Image, metering: Metering) -> str:
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
    return cache_folder() / "aot" / f"{_aot_key(image, metering)}.cwasm"


def kept(image: Image, metering: Metering) -> Path | None:
    """Where the native code of an image lies; None if it is not kept."""
    try:
        path = _artifact(image, metering)
    except ImageError:  # no cache folder
        return None
    return path if path.exists() else None


def load(image: Image, metering: Metering, engine: int, progress: Callable[[str], None] = lambda text: None) -> Module:
    """The compiled module: from the cache, or compiled now and put there.

    A cache that cannot be read or written is not an error: the image is compiled, and `progress` says why it is not kept.

    Args:
        image: what to load.
        metering: decides with which checks it is compiled.
        engine: address of a ``wasm_engine_t`` that was made with the same `metering`.
        progress: called with a line before something that takes seconds, after it, and with the one warning.

    Raises:
        ImageError: the image was altered, or others can write into the cache.
        ClocheError: the process has no memory or no open files left.
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
    try:
        if artifacts.intact(path):
            return Module.from_file(engine, str(path))
        progress(f"the compiled image {path} is damaged: it is compiled anew")
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno in NUMBERS:
            raise nothing_left(_TO_LOAD, error) from error
        progress(f"the compiled image {path} cannot be read ({error}): it is compiled anew")
    except EngineError as error:
        if any(f"(os error {number})" in f"{error}" for number in NUMBERS):
            # compiling would take far more of it, and wasmtime's compiler ends the process when memory runs out
            raise nothing_left(_TO_LOAD, error) from error
        progress(f"the compiled image {path} is not for this engine ({error}): it is compiled anew")
    return None  # the file stays until another takes its place


def _compile(
    image: Image,
    engine: int,
    progress: Callable[[str], None],
    reason: str = "",
    keep_as: Path | None = None,
) -> Module:
    """Compile an image, and keep the result if there is a place for it; otherwise `reason` says why there is none."""
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

"""Finds the guest image and compiles it to native code, once for each machine and configuration.

The native code is kept in the cache as an AOT artifact. An artifact will run in this process, so its folder is trusted as the
folder of a library is: it must belong to root or this user, and nobody else may write to it. The artifact's name is the digest of
everything that the native code depends on: this machine's processor, or a level that many processors have (`targets`). The cache
only saves time: where it cannot be used, the image is compiled at each start.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cloche._wasm import artifacts, bindings, compiler, targets
from cloche._wasm.bindings import EngineError
from cloche._wasm.checkout import build_rule, cache_folder, source_tree
from cloche._wasm.engine import Module, options
from cloche._wasm.scarce import EXHAUSTED_ERRNOS, out_of_resources
from cloche.errors import ImageError
from cloche.metering import Metering
from cloche_wire import abi

__all__ = ["Image", "artifact", "find", "kept", "load", "prepare"]

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
    with contextlib.suppress(OSError):
        os.utime(built)  # `prune` keeps what is used
    return Image.open(built)


def _aot_key(image: Image, metering: Metering, processor: str) -> str:
    """Digest of everything that the native code depends on: image, wasmtime, machine, processor, engine options.

    Args:
        image: the image.
        metering: how the guest's time is bounded.
        processor: a level of `targets`, or what identifies this machine's processor.
    """
    import hashlib  # slow to import: it loads OpenSSL

    parts = [
        _AOT_FORMAT,
        image.sha256,
        bindings.version(),
        os.uname().machine,
        processor,
        sorted(options(metering).items()),
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def artifact(image: Image, metering: Metering, level: str | None, folder: Path) -> Path:
    """Path of an artifact of an image, whether or not the file exists.

    Args:
        image: the image.
        metering: how the guest's time is bounded.
        level: the level of `targets` that it is for; None: it is for this machine.
        folder: the cache.
    """
    if level is not None:
        return folder / "aot" / f"{_aot_key(image, metering, level)}.{level}.cwasm"
    processor = " ".join(sorted(targets.processor_features()))
    return folder / "aot" / f"{_aot_key(image, metering, processor)}.cwasm"


def kept(image: Image, metering: Metering) -> Path | None:
    """Path of the artifact of an image that this machine uses; None if the cache does not have it."""
    try:
        folder = cache_folder()
    except ImageError:  # no cache folder
        return None
    for level in (None, *targets.runnable()):
        path = artifact(image, metering, level, folder)
        if path.exists():
            return path
    return None


def load(image: Image, metering: Metering, engine: int, progress: Callable[[str], None] = lambda text: None) -> Module:
    """The compiled module of an image: from the cache, or compiled now and put into the cache.

    A cache that cannot be read or written to is not an error: the image is compiled, and `progress` is told why the artifact is not
    kept.

    Args:
        image: the image to load.
        metering: how the guest's time is bounded, which decides the checks that are compiled into the native code.
        engine: address of a ``wasm_engine_t`` that was made with the same `metering`.
        progress: called with a line of text before, during and after the compilation, and with each warning about the cache.

    Raises:
        ImageError: the image was altered, or another user can write to the cache, or the cache has the image for other processors.
        ClocheError: this process has no memory, address space or open files left.
    """
    try:
        folder = cache_folder()
        path = artifact(image, metering, None, folder)
    except ImageError as error:  # no cache folder
        return _compile(image, metering, engine, progress, f"{error}")
    try:
        artifacts.open_folder(path.parent)
    except OSError as error:
        return _compile(image, metering, engine, progress, f"{error}")
    module = _from_cache(path, engine)
    if module is not None:
        return module
    for level in targets.runnable():
        module = _from_cache(artifact(image, metering, level, folder), engine, progress)
        if module is not None:
            return module
    _refuse_other_levels(image, metering, folder)
    with artifacts.locked(path, lambda: progress("another process compiles the guest image: waiting for it")):
        module = _from_cache(path, engine, progress)
        if module is not None:
            return module
        return _compile(image, metering, engine, progress, keep_as=path)


def _refuse_other_levels(image: Image, metering: Metering, folder: Path) -> None:
    """Raise an ImageError if the cache was prepared for processors that this machine's is not one of."""
    for level in reversed(targets.LEVELS):
        if (missing := targets.lacking(level)) and artifact(image, metering, level, folder).exists():
            raise ImageError(
                f"{folder} has the guest image compiled for {level}, and this machine's processor lacks {', '.join(missing)}: "
                "prepare it for a lower level (cloche image prepare --target), or for this machine (cloche image prepare)"
            )


def prepare(
    image: Image,
    metering: Metering,
    level: str | None,
    folder: Path | None,
    progress: Callable[[str], None] = lambda text: None,
) -> Path:
    """Compile an image for a level of processors or for this machine, unless that has been done.

    Args:
        image: the image.
        metering: how the guest's time is bounded.
        level: a level of `targets`; None: this machine.
        folder: the cache that gets it; None: this user's.
        progress: as for `load`.

    Returns:
        the artifact's file.

    Raises:
        ValueError: there is no such level, or it is one of another kind of machine.
        ImageError: the image was altered, there is no cache, another user can write to it, or this machine cannot compile for
            the level.
        OSError: the cache cannot be written.
    """
    if level is not None:
        targets.triple(level)
        if missing := targets.lacking(level):
            raise ImageError(
                f"an image is compiled for {level} on a machine whose processor has what it needs, and this one lacks "
                f"{', '.join(missing)}"
            )
    path = artifact(image, metering, level, cache_folder() if folder is None else folder)
    artifacts.open_folder(path.parent)
    with artifacts.locked(path, lambda: progress("another process compiles the guest image: waiting for it")):
        try:
            if artifacts.intact(path):
                return path
        except OSError:
            pass
        image.verify()
        try:
            artifacts.keep(path, compiler.compiled(image.wasm, metering, level, progress))
        except EngineError as error:
            raise ImageError(f"the guest image does not compile for {level or 'this machine'}: {error}") from error
    return path


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
            module = Module.from_file(engine, str(path))
            with contextlib.suppress(OSError):  # a cache that this user cannot write to
                os.utime(path)  # `prune` keeps what is used
            return module
        progress(f"the compiled image {path} is damaged: it is compiled anew")
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno in EXHAUSTED_ERRNOS:
            raise out_of_resources(_TO_LOAD, error) from error
        progress(f"the compiled image {path} cannot be read ({error}): it is compiled anew")
    except EngineError as error:
        if any(f"(os error {number})" in f"{error}" for number in EXHAUSTED_ERRNOS):
            # no compilation instead: it takes far more memory
            raise out_of_resources(_TO_LOAD, error) from error
        progress(f"the compiled image {path} is not for this engine ({error}): it is compiled anew")
    # a damaged file stays until `artifacts.keep` replaces it: another process may be mapping it
    return None


def _compile(
    image: Image,
    metering: Metering,
    engine: int,
    progress: Callable[[str], None],
    reason: str = "",
    keep_as: Path | None = None,
) -> Module:
    """Compile an image, and put the artifact into the cache.

    Args:
        image: the image.
        metering: how the guest's time is bounded.
        engine: address of the ``wasm_engine_t``.
        progress: as for `load`.
        reason: why the artifact cannot be kept, if `keep_as` is None.
        keep_as: path of the artifact.
    """
    image.verify()
    code = compiler.compiled(image.wasm, metering, None, progress)
    if keep_as is not None:
        try:
            artifacts.keep(keep_as, code)
            return Module.from_file(engine, str(keep_as))  # mapped: its memory is shared with other processes
        except OSError as error:
            reason = f"{error}"
    progress(
        f"the compiled image cannot be kept ({reason}): each start compiles it again. "
        f"Set CLOCHE_CACHE to a folder that you can write"
    )
    return Module.from_bytes(engine, code)

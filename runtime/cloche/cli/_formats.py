"""The format of a file, and the optional libraries that some formats need."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, Final

from cloche.cli._console import InputError

__all__ = ["AUDIO_SUFFIXES", "format_of", "numpy", "soundfile"]

AUDIO_SUFFIXES: Final = frozenset({".wav", ".flac", ".ogg", ".aiff", ".aif", ".au"})
_SUFFIXES: Final = {
    **dict.fromkeys(AUDIO_SUFFIXES, "audio"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
    **dict.fromkeys((".raw", ".pcm", ".bin"), "raw"),
    ".npy": "npy",
}
_STREAMABLE: Final = ("jsonl", "raw")


def format_of(path: str, chosen: str | None, option: str) -> str:
    """The format of a file, or of ``-``.

    Raises:
        InputError: the suffix is not known, or the format cannot be read from or written to a pipe.
    """
    if path == "-":
        found = chosen or "jsonl"
        if found not in _STREAMABLE:
            raise InputError(f"{found} needs a file: a pipe can only be {' or '.join(_STREAMABLE)} ({option})")
        return found
    by_suffix = chosen or _SUFFIXES.get(Path(path).suffix.lower())
    if by_suffix is None:
        raise InputError(f"what kind of file {path} is cannot be told from its name: give {option} audio|npy|jsonl|raw")
    return by_suffix


def numpy() -> Any:
    """The numpy module."""
    return _import("numpy", "numpy")


def soundfile() -> Any:
    """The soundfile module (libsndfile)."""
    return _import("soundfile", "audio")


def _import(name: str, extra: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"this needs {name}: pip install 'cloche[{extra}]' ({error})") from error
